"""The sockets: containerd's, hookshim's own, the admin's: are they there, whose, who answers."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import grpc
from google.protobuf.message import Message

from server import VERSION
from server.admin.answers import Status
from server.admin.client import AdminClient, AdminError
from server.backend import LIMITS, unix_target
from server.config import Config
from server.doctor.finding import Finding, ok, problem, warning
from server.doctor.host import Host, listener
from server.lock import LOCK_NAME
from server.wire.runtime.v1.status_pb2 import StatusResponse, VersionResponse

M = TypeVar("M", bound=Message)

#: Seconds that a socket's owner has to answer.
_WITHIN: Final = 3.0

_SERVICE: Final = "/runtime.v1.RuntimeService"

_OPTIONS: Final = (*LIMITS, ("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1))

_START = "start it (systemctl start hookshim), or name its socket (--listen)"


def containerd(config: Config) -> Iterator[Finding]:
    """Its socket, its version, and how its CRI plugin does."""
    name, path = "containerd", config.containerd
    try:
        yield from _file(name, path, 0o007)
        listener(path, _WITHIN)
        version = _ask(path, "Version", VersionResponse)
    except FileNotFoundError:
        yield problem(name, f"{path} is not there", "start containerd, or name its socket (--containerd)")
    except ConnectionRefusedError:
        yield problem(name, f"nobody listens at {path}", "start containerd (systemctl status containerd)")
    except TimeoutError:
        yield problem(name, f"{path} takes no connection within {_WITHIN:g} s", "see systemctl status containerd")
    except grpc.RpcError as error:
        yield _refused(name, path, error)
    else:
        who = f"{version.runtime_name} {version.runtime_version}, CRI {version.runtime_api_version}"
        yield ok(name, f"{path} answers: {who}")
        yield from _conditions(path)


def _conditions(path: Path) -> Iterator[Finding]:
    name = "CRI plugin"
    try:
        conditions = _ask(path, "Status", StatusResponse).status.conditions
    except grpc.RpcError as error:
        yield _refused(name, path, error)
        return
    bad = [one for one in conditions if not one.status]
    for one in bad:
        because = ": ".join(part for part in (one.reason, one.message) if part) or "no reason given"
        text = f"{one.type} is false: {because}"
        if one.type == "NetworkReady":
            yield warning(name, text, "pods cannot start: install a CNI configuration (/etc/cni/net.d)")
        else:
            yield problem(name, text, "see containerd's log (journalctl -u containerd)")
    if not bad:
        yield ok(name, ", ".join(f"{one.type}" for one in conditions) or "it answers")


def own(config: Config, host: Host) -> Iterator[Finding]:
    """Hookshim's own socket: there, closed to others, served by hookshim, and letting calls in."""
    name, path = "socket", config.listen
    try:
        yield from _file(name, path, 0o007)
        pid = listener(path, _WITHIN)
    except FileNotFoundError:
        yield problem(name, f"{path} is not there: hookshim does not run", _START)
        return
    except ConnectionRefusedError:
        yield problem(name, f"nobody listens at {path}: hookshim does not run", _START)
        return
    except TimeoutError:
        yield problem(name, f"{path} takes no connection within {_WITHIN:g} s", "see hookshim's log; restart it")
        return
    holder = _holder(config.state_dir, host)
    if pid and holder and pid != holder and host.parent(pid) != holder:
        who = " ".join(host.argv(pid)) or "unknown"
        text = f"{path} is served by pid {pid} ({who[:100]}), not by the hookshim of {config.state_dir} (pid {holder})"
        yield problem(name, text, "stop that process, or name the socket and state directory that belong together")
        return
    try:
        version = _ask(path, "Version", VersionResponse)
    except grpc.RpcError as error:
        yield _refused(name, path, error)
        return
    if pid and not holder:
        who = " ".join(host.argv(pid)) or "unknown"
        text = f"{path} is served by pid {pid} ({who[:100]}), and no hookshim has {config.state_dir}"
        yield warning(name, text, "name the state directory of that hookshim (--state-dir), if it is one")
        return
    yield ok(name, f"{path} is served by hookshim (pid {pid}), in front of {version.runtime_name}")


def admin(config: Config) -> Iterator[Finding]:
    """The admin socket, and what the daemon says of itself."""
    name, path = "admin socket", config.admin
    try:
        yield from _file(name, path, 0o077)
        with AdminClient(path, _WITHIN) as client:
            status = client.status()
    except FileNotFoundError:
        text = f"{path} is not there: retry, skip and hooks show cannot be asked for"
        yield warning(name, text, "start hookshim; if it runs, its log says why the socket cannot be had")
    except AdminError as error:
        if error.code == "PERMISSION_DENIED":
            yield problem(name, str(error), "run hookshim doctor as root")
        else:
            yield problem(name, str(error), "start hookshim; if it runs, see its log")
    else:
        yield ok(name, f"{path} answers")
        yield from _status(status, config)


def _status(status: Status, config: Config) -> Iterator[Finding]:
    name = "daemon"
    bad = False
    for wrong, text, advice in (
        (not status.serving, f"it lets no call in: {status.reason}", "see its log; it goes on trying"),
        (
            not status.containerd_reachable,
            f"it does not reach containerd: {status.containerd_reason}",
            "start containerd; hookshim comes back by itself",
        ),
        (
            not status.journal_ok,
            f"its journal does not answer: {status.journal_reason}",
            "free space, or see to the disk: until then hooks at a stop run unrecorded, and no PostStart begins",
        ),
    ):
        if wrong:
            bad = True
            yield problem(name, text, advice)
    if status.version != VERSION:
        yield warning(name, f"it is version {status.version}, and this is {VERSION}", "restart hookshim")
    for what, theirs, ours in (
        ("listens at", status.listen, config.listen),
        ("stands in front of", status.containerd, config.containerd),
        ("keeps its journal in", status.state_dir, config.state_dir),
    ):
        if os.path.realpath(theirs) != os.path.realpath(ours):
            text = f"it {what} {theirs}, and the settings here say {ours}"
            yield warning(name, text, "give doctor the daemon's settings, or restart it with the new ones")
    if not bad:
        work = "an unknown number of" if status.open_operations is None else str(status.open_operations)
        yield ok(name, f"version {status.version}, pid {status.pid}, serving; {work} open operations")


def _file(name: str, path: Path, closed: int) -> Iterator[Finding]:
    """Whose the socket is; ``closed`` are the mode's bits that nobody should have. Raises OSError."""
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISSOCK(found.st_mode):
        yield problem(name, f"{path} is not a socket", "move it away, or name another path")
    elif mode & closed:
        text = f"{path} has mode {mode:04o}: whoever may write to it is root on this node"
        yield problem(name, text, f"chmod {mode & ~closed:04o} {path}, and see who made it so")
    elif found.st_uid not in (0, os.geteuid()):
        yield warning(name, f"{path} belongs to user {found.st_uid}, who may do as root does", f"chown root {path}")


def _holder(state_dir: Path, host: Host) -> int:
    """The pid that has the state directory, as it has written down; 0 if it runs no more, or nobody knows."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        pid = int(json.loads((state_dir / LOCK_NAME).read_bytes().split(b"\n")[0])["pid"])
        return pid if host.argv(pid) else 0
    return 0


def _ask(path: Path, method: str, kind: type[M]) -> M:
    """Ask the runtime service at a socket. Raises grpc.RpcError."""
    with grpc.insecure_channel(unix_target(path), options=_OPTIONS) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{_SERVICE}/{method}")
        return kind.FromString(call(b"", timeout=_WITHIN))


def _refused(name: str, path: Path, error: grpc.RpcError) -> Finding:
    code, details = error.code(), error.details() or "no reason given"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        advice = "it may be stopped or overloaded: see its process and its log"
        return problem(name, f"{path} takes a connection and does not answer within {_WITHIN:g} s", advice)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        text = f"{path} knows no CRI: {details}"
        return problem(name, text, 'take "cri" out of disabled_plugins in /etc/containerd/config.toml, and restart it')
    return problem(name, f"{path} answers {code.name}: {details}", "see its log")
