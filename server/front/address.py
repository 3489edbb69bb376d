"""The unix socket's name in the file system: taken without stealing it, and given back only while it is ours.

grpc unlinks whatever has the name that it is told to bind, living or not, and again when it stops. So a server binds
a name that nobody else knows, and that socket gets its public name here, by a hard link, when it serves.
"""

from __future__ import annotations

import os
import secrets
import socket
import stat
from typing import TYPE_CHECKING

from shim.errors import HookshimError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Bytes of a path that fit into ``sockaddr_un`` (unix(7)), its final NUL aside.
MAX_PATH = 107

#: Whoever may write to the socket owns the node's containers: its owner (root), and its group.
_MODE = 0o660


class ListenError(HookshimError):
    """The socket cannot be served at this path. The message names the path and says what to do."""


class Address:
    """One path to listen at. `check`, `bind`, `publish`, and at the end `release`.

    Two daemons that start in the same instant are told apart by `publish`, which never replaces a name.
    """

    def __init__(self, path: Path, mode: int = _MODE) -> None:
        """``mode`` is the socket's, as chmod(2) has it."""
        self.path = path
        self._mode = mode
        self._private = path.with_name(f".{secrets.token_hex(4)}")
        self._identity: tuple[int, int] | None = None

    def check(self) -> None:
        """Raise ListenError if the path cannot be taken; remove a socket there that nobody serves."""
        for path in (self.path, self._private):
            if len(os.fsencode(path.absolute())) > MAX_PATH:
                raise ListenError(
                    f"{self.path} is too long for a unix socket: at most {MAX_PATH} bytes; choose a shorter path"
                )
        if not self.path.parent.is_dir():
            raise ListenError(f"the directory of {self.path} does not exist: create {self.path.parent}")
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise ListenError(f"{self.path} cannot be looked at: {error.strerror}") from error
        if not stat.S_ISSOCK(found.st_mode):
            raise ListenError(f"{self.path} exists and is not a socket: move it away or choose another path")
        self._refuse_if_served()
        if _identity(self.path) == (found.st_dev, found.st_ino):
            self.path.unlink(missing_ok=True)

    def bind(self, bind: Callable[[Path], object]) -> None:
        """Let ``bind`` make the socket at a private name, never accessible to others, not even for an instant."""
        before = os.umask(0o777 & ~self._mode)
        try:
            bind(self._private)
        except RuntimeError as error:
            raise ListenError(f"{self.path} cannot be listened at: {error}") from error
        finally:
            os.umask(before)
        self._private.chmod(self._mode)

    def publish(self) -> None:
        """Give the bound socket its public name. Raises ListenError if that has been taken meanwhile."""
        try:
            os.link(self._private, self.path)
        except FileExistsError as error:
            raise ListenError(f"another process has just begun to listen at {self.path}") from error
        except OSError as error:
            raise ListenError(f"{self.path} cannot be listened at: {error.strerror}") from error
        finally:
            self._private.unlink(missing_ok=True)
        self._identity = _identity(self.path)

    def release(self) -> None:
        """Remove the public name, unless it is another's by now."""
        if self._identity is not None and _identity(self.path) == self._identity:
            self.path.unlink(missing_ok=True)
        self._identity = None

    def _refuse_if_served(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(0)
            try:
                probe.connect(str(self.path))
            except (ConnectionRefusedError, FileNotFoundError):
                return
            except BlockingIOError:
                pass  # somebody serves it, with a full queue
            except OSError as error:
                raise ListenError(
                    f"{self.path} is a socket that cannot be tried: {error.strerror}; "
                    "remove it if nothing serves it, or choose another path"
                ) from error
        raise ListenError(
            f"another process listens at {self.path}: stop it first, or choose another path "
            f"(ss -xlp shows which one it is)"
        )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
