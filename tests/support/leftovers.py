"""What a private containerd leaves when it, its shims or its test end badly: found and cleared by its own directory.

Everything that belongs to an instance names the instance's directory: containerd, shims and runc on their command
line, a container's processes in the source of their root file system. Nothing else is ever touched.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import until

_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Traces:
    """What has to be read while the instance still has its files: the containers' ids, the shims' sockets."""

    ids: frozenset[str]
    sockets: frozenset[Path]

    def __or__(self, other: Traces) -> Traces:
        """Both."""
        return Traces(self.ids | other.ids, self.sockets | other.sockets)


def traces(state: Path) -> Traces:
    """The traces of the instance whose state directory this is."""
    bundles = [path for path in state.glob("io.containerd.runtime.v2.task/*/*") if path.is_dir()]
    sockets = set()
    for bundle in bundles:
        # containerd 1.x writes the address itself, 2.x a JSON that has it
        for name in ("address", "bootstrap.json"):
            with suppress(FileNotFoundError):
                text = (bundle / name).read_text()
                address = str(json.loads(text)["address"]) if name.endswith("json") else text
                sockets.add(Path(address.strip().removeprefix("unix://")))
    return Traces(frozenset(path.name for path in bundles), frozenset(sockets))


def processes(directory: Path) -> list[int]:
    """The pids of the instance's processes."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _belongs(entry, directory)]


def mounts(directory: Path) -> list[str]:
    """The mount points below the instance's directory, the deepest first."""
    points = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{directory}/")), key=len, reverse=True)


def cgroups(ids: frozenset[str]) -> list[Path]:
    """The cgroups of the containers with these ids, children first, in every hierarchy."""
    found = [
        path
        for hierarchy in (_CGROUPS, *(child for child in _CGROUPS.iterdir() if child.is_dir()))
        for path in (hierarchy / "k8s.io").glob("*")
        if path.name in ids
    ]
    return [
        inner for path in found for inner in sorted(path.glob("**/"), key=lambda each: len(str(each)), reverse=True)
    ]


def clear(directory: Path, seen: Traces) -> None:
    """End and unmount all that is left of the instance. Raises TimeoutError naming what cannot be ended."""
    until(lambda: not _killed(directory), f"the processes of {directory} are gone")
    for point in mounts(directory):
        subprocess.run(["umount", "--lazy", point], check=True, capture_output=True, timeout=30)
    for socket in seen.sockets:
        socket.unlink(missing_ok=True)
    until(lambda: not _removed(seen.ids), "the containers' cgroups are gone")


def remaining(directory: Path, seen: Traces) -> list[str]:
    """What is left of the instance, for a person; empty is what it should be."""
    return [
        *(f"process {pid}: {_command(Path('/proc') / str(pid))}" for pid in processes(directory)),
        *(f"mount {point}" for point in mounts(directory)),
        *(f"socket {path}" for path in seen.sockets if path.exists()),
        *(f"cgroup {path}" for path in cgroups(seen.ids)),
    ]


def _killed(directory: Path) -> list[int]:
    """Send KILL to each of the instance's processes; who they were."""
    found = processes(directory)
    for pid in found:
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                # looked at again behind the pidfd: the number may have become another process's
                if _belongs(Path("/proc") / str(pid), directory):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)
    return found


def _removed(ids: frozenset[str]) -> list[Path]:
    """Remove the cgroups; which are still there."""
    for path in cgroups(ids):
        with suppress(OSError):  # busy until the kernel has seen its last process go
            path.rmdir()
    return cgroups(ids)


def _belongs(process: Path, directory: Path) -> bool:
    below = f"{directory}/"
    if process.name == str(os.getpid()):
        return False
    try:
        if any(below in word for word in _words(process) if Path(_words(process)[0]).name in _DAEMONS):
            return True
        for line in (process / "mountinfo").read_text().splitlines():
            mount, _, source = line.partition(" - ")
            if mount.split(" ")[4] == "/":
                return below in source or below in mount.split(" ")[3]
    except (OSError, IndexError):  # it ended meanwhile, or is a zombie
        return False
    return False


#: Who may name the directory on its command line and be ended for it; a person's ``tail -f`` is left alone.
_DAEMONS = ("containerd", "containerd-shim-runc-v2", "runc", "ctr")


def _words(process: Path) -> list[str]:
    return (process / "cmdline").read_bytes().decode(errors="replace").split("\0")


def _command(process: Path) -> str:
    with suppress(OSError):
        return " ".join(_words(process)).strip()
    return "(gone)"
