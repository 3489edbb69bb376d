"""A private image registry on loopback: Debian's docker-registry with basic auth, as a process of the tests' own.

Its requests are in its log, so that a test sees from the registry's side what was asked, and who was let in.
"""

from __future__ import annotations

import base64
import ctypes
import json
import re
import shutil
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from tests.support.image import busybox_layer, digest, file_layer, image_config
from tests.support.process import Process
from tests.support.waiting import until

#: How a push names itself to the registry.
_PUSHER = "hookshim-tests"

#: What the registry made of a request's credentials: let in, had none, or had wrong ones.
Verdict = Literal["let in", "nobody", "refused"]

_VERDICTS: dict[Verdict, re.Pattern[str]] = {
    "let in": re.compile("authorized request"),
    "nobody": re.compile("error authorizing context: .*: invalid authorization credential"),
    "refused": re.compile("error authorizing context: .*: authentication failure"),
}

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"

#: Port 0: the kernel chooses, and the log says which, so that no other process can be meant.
_CONFIG = """\
version: 0.1
log:
  level: info
  formatter: json
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: {directory}/images
http:
  addr: 127.0.0.1:0
auth:
  htpasswd:
    realm: hookshim-tests
    path: {directory}/htpasswd
"""


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image in the registry, of which no containerd has all parts yet.

    ``reference`` is what a pull asks for, ``name`` the registry's own name for it, ``id`` what the image is called
    once it is pulled. Only this image has the file ``path`` with ``text`` in it; ``layer`` is its URL's path.
    """

    name: str
    reference: str
    path: str
    text: str
    id: str
    layer: str


class Registry:
    """Serves from the start until close(); a context manager. One user, ``user`` with ``password``, may do anything."""

    def __init__(self, user: str, password: str) -> None:
        program = shutil.which("docker-registry")
        if program is None:
            raise FileNotFoundError("docker-registry is missing: hack/test installs it")
        self._directory = Path(tempfile.mkdtemp(prefix="hookshim-registry-"))
        self._credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        (self._directory / "htpasswd").write_text(f"{user}:{_bcrypt(password)}\n")
        config = self._directory / "config.yml"
        config.write_text(_CONFIG.format(directory=self._directory))
        self.log = self._directory / "registry.log"
        self._process = Process([program, "serve", config], self.log)
        try:
            #: Where it listens, as ``HOST:PORT``.
            self.address = until(self._listening, "the registry listens")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """It listens already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End the process and remove what it kept."""
        self._process.kill()
        shutil.rmtree(self._directory)

    def push(self, name: str, text: str) -> Pushed:
        """Put an image there: the tests' busybox, and a layer of its own with ``text`` in a file.

        Raises urllib.error.HTTPError.
        """
        path = f"only-in/{name}"
        layers = [busybox_layer(), file_layer(path, text.encode())]
        config = image_config({"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "WorkingDir": "/"}, *layers)
        for blob in (*layers, config):
            begun = self._send("POST", f"/v2/{name}/blobs/uploads/")
            self._send("PUT", f"{begun}&digest=sha256:{digest(blob)}", blob, "application/octet-stream")
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer) for layer in layers],
        }
        self._send("PUT", f"/v2/{name}/manifests/1", json.dumps(manifest).encode(), _MANIFEST)
        return Pushed(
            name=name,
            reference=f"{self.address}/{name}:1",
            path=f"/{path}",
            text=text,
            id=f"sha256:{digest(config)}",
            layer=f"/v2/{name}/blobs/sha256:{digest(layers[-1])}",
        )

    def requests(self, name: str) -> list[tuple[str, Verdict]]:
        """(METHOD PATH, verdict) of every request for this image since it was pushed, in the order in which they came.

        What has been answered is there: the registry logs its verdict before it answers.
        """
        entries = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [
            (f"{entry['http.request.method']} {entry['http.request.uri']}", verdict)
            for entry in entries
            if entry.get("vars.name") == name and not entry["http.request.useragent"].startswith(_PUSHER)
            for verdict, says in _VERDICTS.items()
            if says.fullmatch(entry["msg"])
        ]

    def _listening(self) -> str | None:
        if self._process.exit_status is not None:
            raise RuntimeError(f"docker-registry ended at its start:\n{self._process.tail()}")
        found = re.search(r"listening on (127\.0\.0\.1:\d+)", self.log.read_text())
        return found[1] if found else None

    def _send(self, method: str, where: str, content: bytes = b"", kind: str = "") -> str:
        """One request with credentials; the Location it is answered with, if any."""
        url = where if where.startswith("http://") else f"http://{self.address}{where}"
        headers = {
            "Authorization": f"Basic {self._credentials}",
            "User-Agent": _PUSHER,
            **({"Content-Type": kind} if kind else {}),
        }
        request = urllib.request.Request(url, content, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.headers.get("Location", ""))


def _descriptor(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(content), "digest": f"sha256:{digest(content)}"}


def _bcrypt(password: str) -> str:
    """The password as htpasswd has it, which the registry takes in bcrypt only.

    Made by the C library's crypt(3), which every Debian has: Python's own module for it is gone since 3.13.
    """
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    # the cheapest that bcrypt has; the salt is no secret's
    made: bytes | None = crypt(password.encode(), b"$2b$04$abcdefghijklmnopqrstuu")
    if made is None or not made.startswith(b"$2b$"):
        raise RuntimeError("this machine's crypt(3) has no bcrypt")
    return made.decode()
