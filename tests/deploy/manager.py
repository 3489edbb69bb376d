"""A service manager's end of sd_notify(3): a datagram socket, and what was said to it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.waiting import PATIENCE, until

#: Bytes of a datagram that are read.
_LIMIT = 64 * 1024


class ServiceManager:
    """``address`` is what NOTIFY_SOCKET has to say; a path, or ``@`` and an abstract name."""

    def __init__(self, address: Path | str) -> None:
        self.address = str(address)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.address[1:] if self.address.startswith("@") else self.address)
        self._messages: list[dict[str, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def environment(self, watchdog: float | None = None) -> dict[str, str]:
        """What a service is started with; ``watchdog`` in seconds."""
        usec = {"WATCHDOG_USEC": str(round(watchdog * 1e6))} if watchdog else {}
        return {"NOTIFY_SOCKET": self.address, **usec}

    def messages(self) -> list[dict[str, str]]:
        """Everything that was said so far."""
        self._socket.settimeout(0)
        while True:
            try:
                self._messages.append(_fields(self._socket.recv(_LIMIT)))
            except BlockingIOError:
                return self._messages

    def wait_for(
        self, what: str, matches: Callable[[dict[str, str]], bool], within: float = PATIENCE
    ) -> dict[str, str]:
        """The first message that ``matches``, also an old one. Raises TimeoutError."""
        return until(lambda: next(filter(matches, self.messages()), None), f"{what} among {self._messages}", within)

    def forget(self) -> None:
        """Drop what was said so far."""
        self.messages()
        self._messages.clear()

    def silent_for(self, field: str, seconds: float) -> bool:
        """Whether ``field`` is not said once for so long, from now on."""
        self.forget()
        try:
            until(lambda: any(field in message for message in self.messages()), field, seconds)
        except TimeoutError:
            return True
        return False


def _fields(datagram: bytes) -> dict[str, str]:
    return dict(line.split("=", 1) for line in datagram.decode().splitlines())
