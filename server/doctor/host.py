"""The node as ``hookshim doctor`` sees it: every file outside hookshim's own settings is read through here.

``root`` is where the node's file system is: ``/``, or elsewhere if this runs in a container. Nothing is ever changed.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: adjtimex(2): what it returns while nobody keeps the clock in step.
_TIME_ERROR: Final = 5

#: More bytes than ``struct timex`` has.
_TIMEX_SIZE: Final = 1024

#: Bytes of a file that are read: nobody's settings are longer.
_MOST: Final = 1 << 20

#: ``struct ucred``: pid, uid, gid.
_UCRED: Final = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the node."""

    pid: int
    argv: tuple[str, ...]


class Host:
    """Reads the node whose file system is at ``root``."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def text(self, path: Path) -> str:
        """What is in a file of the node. Raises OSError."""
        with self._at(path).open("rb") as file:
            return file.read(_MOST).decode(errors="replace")

    def files(self, directory: Path, suffix: str) -> list[Path]:
        """The files of a directory whose names end so, in the order of their names. Raises OSError."""
        names = sorted(path.name for path in self._at(directory).iterdir() if path.name.endswith(suffix))
        return [directory / name for name in names]

    def processes(self) -> Iterator[Process]:
        """All that run and have a command line."""
        pids = [int(path.name) for path in self._at(Path("/proc")).iterdir() if path.name.isdigit()]
        for pid in sorted(pids):
            if argv := self.argv(pid):
                yield Process(pid, argv)

    def argv(self, pid: int) -> tuple[str, ...]:
        """A process's command line; empty if it has ended, or has none."""
        text = ""
        with suppress(OSError):
            text = self.text(Path(f"/proc/{pid}/cmdline"))
        return tuple(text.rstrip("\0").split("\0")) if text else ()

    def parent(self, pid: int) -> int:
        """A process's parent, 0 if nobody knows."""
        with suppress(OSError, ValueError, IndexError):
            # Behind the name, which may hold anything (proc(5), stat).
            return int(self.text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[1])
        return 0

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def synchronised(self) -> bool | None:
        """Whether something keeps the kernel's clock in step (adjtimex(2)); None if the kernel does not say."""
        timex = ctypes.create_string_buffer(_TIMEX_SIZE)  # all zero: nothing is set
        try:
            state = ctypes.CDLL(None).adjtimex(timex)
        except (OSError, AttributeError):
            return None
        return None if state < 0 else state != _TIME_ERROR

    def _at(self, path: Path) -> Path:
        return self._root / path.relative_to("/")


def listener(path: Path, within: float) -> int:
    """The pid of the process that listens at a unix socket, 0 if it is not to be seen from here.

    Raises OSError if nobody does: FileNotFoundError, ConnectionRefusedError, PermissionError, TimeoutError.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(within)
        probe.connect(str(path))
        pid, _, _ = _UCRED.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(pid)
