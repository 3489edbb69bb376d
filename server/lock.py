"""One daemon for one state directory: two would deliver the same hooks twice and finish each other's stops.

The kernel keeps the lock (``flock``), so it ends with the process, however that ends, and no file has to be cleaned up.
What stands in the file is for people: who holds it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from server.log import printable
from shim.errors import HookshimError

LOCK_NAME: Final = "hookshim.lock"

#: Characters of the holder's command line that are kept, and bytes of the file that are read (JSON's escapes included).
_COMMAND: Final = 500
_READ: Final = 16384

_log = structlog.stdlib.get_logger(__name__)


class StateDirectoryError(HookshimError):
    """The state directory cannot be used; the message says why and what to do."""


class StateLockedError(HookshimError):
    """Another daemon has the state directory; the message says which and what to do."""


class StateLock:
    """The exclusive right to a state directory, from ``with`` (or ``acquire``) to its end, or the process's.

    The directory is made if it isn't there: 0700 and owned by the user who runs the daemon, its parents 0755.
    """

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir
        self._path = state_dir / LOCK_NAME
        self._fd = -1

    def acquire(self) -> None:
        """Prepare the directory and take the lock.

        Raises StateDirectoryError if the directory cannot be used, StateLockedError if another process has it.
        """
        try:
            _prepare(self._directory)
            # Not inherited: a handler's process that outlives the daemon must not keep the lock.
            fd = _open(self._path)
        except OSError as error:
            raise StateDirectoryError(
                f"the state directory {self._directory} cannot be used: {error.strerror} ({error.filename})"
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(fd)
            os.close(fd)
            raise StateLockedError(
                f"the state directory {self._directory} is in use by {holder}; stop that daemon, or give this one "
                "a directory of its own (--state-dir); "
                f"removing {LOCK_NAME} does not help, the lock is the process's"
            ) from None
        except OSError as error:
            os.close(fd)
            raise StateDirectoryError(f"{self._path} cannot be locked: {error.strerror}") from error
        self._fd = fd
        try:
            _write_holder(fd)
        except OSError as error:
            # The lock is held all the same: a full disk keeps no node's containers from being served.
            _log.warning("who holds the state directory cannot be written there", reason=error.strerror)

    def release(self) -> None:
        """Give the right back; without it, nothing happens."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        """Take the lock."""
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the right back."""
        self.release()


def _prepare(directory: Path) -> None:
    _make(directory, 0o700)
    found = directory.stat()
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
    if found.st_uid != os.geteuid():
        raise StateDirectoryError(
            f"the state directory {directory} belongs to user {found.st_uid}, and hookshim runs as user "
            f"{os.geteuid()}: its owner could change what the journal says; chown it, or name another (--state-dir)"
        )
    if not mode & 0o077:
        return
    # Someone who named /tmp or /var/lib by mistake must not find it closed to everybody else.
    if mode & stat.S_ISVTX or not _is_ours(directory):
        raise StateDirectoryError(
            f"the state directory {directory} is open to others (mode {mode:04o}) and holds things that are not "
            "hookshim's; give hookshim a directory of its own (--state-dir), or chmod this one to 0700"
        )
    directory.chmod(0o700)
    _log.warning("state directory was open to others, now it is 0700", directory=str(directory), mode=f"{mode:04o}")


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    # What cannot be written can still be locked; without the file, nobody else has it.
    return os.open(path if path.exists() else path.parent, os.O_RDONLY | os.O_CLOEXEC)


def _make(directory: Path, mode: int) -> None:
    if directory.exists():
        return
    _make(directory.parent, 0o755)
    try:
        directory.mkdir(mode)
    except FileExistsError:
        return
    # The umask may have taken bits away.
    directory.chmod(mode)


def _is_ours(directory: Path) -> bool:
    names = {entry.name for entry in directory.iterdir()}
    return not names or LOCK_NAME in names


def _write_holder(fd: int) -> None:
    holder = {
        "pid": os.getpid(),
        "command": " ".join(sys.orig_argv)[:_COMMAND],
        "since": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    data = (json.dumps(holder) + "\n").encode()
    # In this order a reader never finds the file empty; what it may find behind the line it ignores.
    os.pwrite(fd, data, 0)
    os.ftruncate(fd, len(data))


def _read_holder(fd: int) -> str:
    line = os.pread(fd, _READ, 0).split(b"\n")[0]
    try:
        holder = json.loads(line)
        pid, command, since = holder["pid"], holder["command"], holder["since"]
    except (ValueError, TypeError, KeyError):
        return "another process that has not said which"
    return printable(f"pid {pid} ({command}) since {since}")
