"""The one image of the tests, written from busybox here, since tests reach no registry.

It is a docker-archive (the format of ``docker save``): a manifest, a config and one layer, which ``ctr images
import`` takes.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

#: For containers: busybox with all its applets in /bin.
BUSYBOX = "localhost/hookshim-tests/busybox:1"

#: For sandboxes: the same with a process that does nothing.
PAUSE = "localhost/hookshim-tests/pause:1"

#: The largest number of seconds that every sleep takes: about 68 years.
FOREVER = str(2**31 - 1)

_ETC = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}


def busybox() -> Path:
    """The machine's static busybox. Raises FileNotFoundError if there is none."""
    found = shutil.which("busybox")
    if found is None:
        raise FileNotFoundError("busybox is missing: hack/test installs it (Debian's busybox-static)")
    return Path(found)


def write_archive(path: Path) -> None:
    """Write both images into one docker-archive at ``path``; the same bytes every time."""
    layer = _layer()
    layer_name = f"{_hex(layer)}.tar"
    manifest = []
    with tarfile.open(path, "w") as archive:
        for reference, command in ((BUSYBOX, ["/bin/sh"]), (PAUSE, ["/bin/sleep", FOREVER])):
            config = json.dumps(
                {
                    "architecture": _architecture(),
                    "os": "linux",
                    "config": {"Cmd": command, "Env": ["PATH=/bin"], "WorkingDir": "/"},
                    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_hex(layer)}"]},
                },
            ).encode()
            config_name = f"{_hex(config)}.json"
            _add(archive, config_name, config)
            manifest.append({"Config": config_name, "RepoTags": [reference], "Layers": [layer_name]})
        _add(archive, layer_name, layer)
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _layer() -> bytes:
    binary = busybox()
    listed = subprocess.run([binary, "--list"], check=True, capture_output=True, text=True, timeout=30)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as layer:
        for directory, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            layer.addfile(entry)
        _add(layer, "bin/busybox", binary.read_bytes(), 0o755)
        for applet in sorted(set(listed.stdout.split()) - {"busybox"}):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            layer.addfile(link)
        for name, text in _ETC.items():
            _add(layer, name, text)
    return content.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _architecture() -> str:
    """The machine's architecture by OCI's (Go's) name."""
    asked = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True, timeout=30)
    return {"armhf": "arm", "armel": "arm", "i386": "386", "ppc64el": "ppc64le"}.get(
        asked.stdout.strip(), asked.stdout.strip()
    )
