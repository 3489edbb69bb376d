"""The images of the tests, written from busybox here, since tests reach no registry but their own.

Those that every test finds come in one docker-archive (the format of ``docker save``), which ``ctr images import``
takes: a manifest, a config each and one layer. An image for a registry is made of the same parts.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: For containers: busybox with all its applets in /bin.
BUSYBOX = "localhost/hookshim-tests/busybox:1"

#: For sandboxes: the same with a process that does nothing.
PAUSE = "localhost/hookshim-tests/pause:1"

#: For containers: the same with an environment, a user (``app``, in the group ``crew`` too) and a directory of its own.
OPINIONATED = "localhost/hookshim-tests/opinionated:1"

#: What that image says of itself.
OPINIONS = {
    "Cmd": ["/bin/sh"],
    "Env": ["PATH=/bin", "FROM_IMAGE=kept", "OF_BOTH=the image's"],
    "User": "app",
    "WorkingDir": "/home/app",
}

#: The largest number of seconds that every sleep takes: about 68 years.
FOREVER = str(2**31 - 1)

_ETC = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
    b"app:x:1000:1001:app:/home/app:/bin/sh\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\napp:x:1001:\ncrew:x:2000:app\n",
}

#: What the other images say of themselves, besides their command.
_PLAIN = {"Env": ["PATH=/bin"], "WorkingDir": "/"}


def busybox() -> Path:
    """The machine's static busybox. Raises FileNotFoundError if there is none."""
    found = shutil.which("busybox")
    if found is None:
        raise FileNotFoundError("busybox is missing: hack/test installs it (Debian's busybox-static)")
    return Path(found)


def write_archive(path: Path) -> None:
    """Write all images into one docker-archive at ``path``; the same bytes every time."""
    layer = busybox_layer()
    layer_name = f"{digest(layer)}.tar"
    manifest = []
    images: dict[str, dict[str, Any]] = {
        BUSYBOX: {"Cmd": ["/bin/sh"], **_PLAIN},
        PAUSE: {"Cmd": ["/bin/sleep", FOREVER], **_PLAIN},
        OPINIONATED: OPINIONS,
    }
    with tarfile.open(path, "w") as archive:
        for reference, says in images.items():
            config = image_config(says, layer)
            config_name = f"{digest(config)}.json"
            _add(archive, config_name, config)
            manifest.append({"Config": config_name, "RepoTags": [reference], "Layers": [layer_name]})
        _add(archive, layer_name, layer)
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def image_config(says: Mapping[str, Any], *layers: bytes) -> bytes:
    """The config of an image of these layers (tar, not compressed), as OCI's image-spec and docker both read it."""
    return json.dumps(
        {
            "architecture": _architecture(),
            "os": "linux",
            "config": dict(says),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(layer)}" for layer in layers]},
        },
    ).encode()


def busybox_layer() -> bytes:
    """The layer of all images here: busybox with its applets, and who is who."""
    binary = busybox()
    listed = subprocess.run([binary, "--list"], check=True, capture_output=True, text=True, timeout=30)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as layer:
        for directory, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("home/app", 0o755)):
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


def file_layer(name: str, text: bytes) -> bytes:
    """A layer that adds one file at this path, without a slash before it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as layer:
        _add(layer, name, text)
    return content.getvalue()


def digest(content: bytes) -> str:
    """Its SHA-256 in hex, by which images name their parts."""
    return hashlib.sha256(content).hexdigest()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _architecture() -> str:
    """The machine's architecture by OCI's (Go's) name."""
    asked = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True, timeout=30)
    return {"armhf": "arm", "armel": "arm", "i386": "386", "ppc64el": "ppc64le"}.get(
        asked.stdout.strip(), asked.stdout.strip()
    )
