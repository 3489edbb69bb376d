"""What hookshim tells others by: the HTTP listener, and the kubeconfig for events."""

from __future__ import annotations

import http.client
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import yaml

from server.config import Config
from server.doctor.finding import Finding, ok, problem, warning
from server.values import http_address

#: Seconds that the listener has to answer.
_WITHIN: Final = 3.0

#: Bytes of an answer that are read.
_MOST: Final = 1000


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_WITHIN)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_WITHIN)
        self.sock.connect(str(self._path))


def http_listener(config: Config) -> Iterator[Finding]:
    """Whether the metrics and the status page are to be had, and what they say of the daemon."""
    name, where = "http", http_address(config.http.listen)
    if where is None:
        yield ok(name, "not wanted: http.listen is empty")
        return
    advice = "see hookshim's log: it says why the address cannot be had, and tries again"
    try:
        alive, _ = _get(where, "/healthz")
        ready, reason = _get(where, "/readyz")
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        yield problem(name, f"{config.http.listen} does not answer: {why}", advice)
        return
    if alive != http.HTTPStatus.OK:
        advice = "it is there, and the daemon does not answer it: see the daemon's own lines above, and its log"
        yield problem(name, f"{config.http.listen} answers /healthz with {alive}", advice)
    elif ready != http.HTTPStatus.OK:
        yield warning(name, f"{config.http.listen} is there, and says: {reason}", "see the daemon's own lines above")
    else:
        yield ok(name, f"{config.http.listen} answers")


def kubeconfig(config: Config) -> Iterator[Finding]:
    """Whether the file by which events reach Kubernetes can be used."""
    name, given = "kubeconfig", config.events.kubeconfig
    if not given:
        yield ok(name, "not wanted: events.kubeconfig is empty")
        return
    path, advice = Path(given), "write one for a user who may create and patch events (hack/deploy has the RBAC)"
    try:
        found = path.stat()
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        yield problem(name, f"{path} cannot be read: {error.strerror}", advice)
        return
    except yaml.YAMLError:
        # The parser's own words quote the file, and it may hold a token.
        yield problem(name, f"{path} is no YAML", advice)
        return
    missing = [key for key in ("clusters", "users", "contexts", "current-context") if not _has(content, key)]
    mode = stat.S_IMODE(found.st_mode)
    if missing:
        yield problem(name, f"{path} has no {', '.join(missing)}", advice)
    elif mode & 0o077 or found.st_uid not in (0, os.geteuid()):
        text = f"{path} has mode {mode:04o} and belongs to user {found.st_uid}: others may act as this node"
        yield warning(name, text, f"chown root {path}; chmod 0600 {path}")
    else:
        yield ok(name, f"{path} is there")


def _has(content: object, key: str) -> bool:
    return isinstance(content, dict) and bool(content.get(key))


def _get(where: Path | tuple[str, int], path: str) -> tuple[int, str]:
    """The status of a GET and the first line of its answer. Raises OSError, HTTPException."""
    plain = _UnixConnection(where) if isinstance(where, Path) else http.client.HTTPConnection(*where, timeout=_WITHIN)
    with closing(plain) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        lines = answer.read(_MOST).decode(errors="replace").splitlines()
        return answer.status, lines[0] if lines else str(answer.status)
