"""What the service manager (systemd) is told: that hookshim serves, what it waits for, that it ends, that it is alive.

It speaks the protocol of sd_notify(3) itself: one datagram, lines of NAME=VALUE. Without a manager nothing is sent, and
nothing here ever fails or blocks: a manager that does not listen is no reason for a container not to stop.

The watchdog is fed by an answer, not by a timer: CRI's Version, asked through hookshim's own socket as every client
does, over a new connection each time. Any answer will do. UNAVAILABLE with hookshim's reason is one, or containerd's
absence would have hookshim killed. None comes if the event loop hangs, if nobody serves the socket, or if its name is
gone. A containerd that takes calls and answers none is told from a hookshim that does so by asking it directly. While
it is silent too, a socket that takes connections will do: behind it nobody could do better.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final, Self

import grpc
import structlog
from grpc import aio

from server.backend import Backend

log = structlog.get_logger(__name__)

_VERSION: Final = "/runtime.v1.RuntimeService/Version"
#: How UNAVAILABLE begins when hookshim has said it, and never when gRPC has made it up. A front door that closes the
#: connection behind its answer leaves nothing else to tell the two by.
_OURS: Final = ("hookshim ", "containerd at ")

#: Parts of the watchdog's interval: between two looks (sd_watchdog_enabled(3) asks for half), for one question, and
#: before the next look when there was no answer.
_LOOK, _PATIENCE, _AGAIN = 1 / 2, 1 / 8, 1 / 20

#: Seconds after which a datagram that found the manager's queue full is sent again.
_FULL_PAUSE: Final = 0.2

#: Seconds that the end takes beside the drain: the last commits, the last words to clients.
_END_SECONDS: Final = 30.0

_FED: Final = "hookshim's own socket answers again"
_STARVED: Final = "hookshim's own socket does not answer: the watchdog is not fed, and will have hookshim restarted"

#: Characters of a status that are sent.
_STATUS_LIMIT: Final = 500


class Manager:
    """The service manager, if there is one. To be used inside one running event loop.

    ``address`` is NOTIFY_SOCKET's value, empty for no manager; ``interval`` the watchdog's, in seconds, None for none.
    """

    def __init__(self, address: str, interval: float | None) -> None:
        self.interval = interval
        self._address = b"\0" + os.fsencode(address[1:]) if address.startswith("@") else os.fsencode(address)
        self._due: dict[str, str] = {}
        self._again: asyncio.TimerHandle | None = None
        self._status = ""
        self._serving = ""
        self._refusal: str | None = None

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> Self:
        """The one that ``environ`` names. Its variables are removed: they are this process's, not its children's."""
        address = environ.pop("NOTIFY_SOCKET", "")
        interval, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        if address and not address.startswith(("/", "@")):
            log.warning("the service manager cannot be told anything: not a unix socket", notify_socket=address)
            address = ""
        mine = not pid or pid == str(os.getpid())
        seconds = int(interval) / 1e6 if interval.isdecimal() and mine and address else 0
        return cls(address, seconds or None)

    def waiting(self, reason: str) -> None:
        """Say what keeps hookshim from serving."""
        self._say(f"Not serving yet, calls are answered UNAVAILABLE: {reason}")

    def serving(self, listen: Path, containerd: Path) -> None:
        """Say that calls are let in; the first time the service is started by that."""
        self._serving = f"Serving at {listen}, in front of {containerd}"
        self._say(self._serving, READY="1")

    def stopping(self, drain: float) -> None:
        """Say that hookshim ends, and that it may take ``drain`` seconds and a little more."""
        self.interval, self._serving = None, ""
        text = f"Shutting down: up to {drain:g} s for what is under way; the journal keeps the rest for the next start"
        self._say(text, STOPPING="1", EXTEND_TIMEOUT_USEC=str(round((drain + _END_SECONDS) * 1e6)))

    async def watch(self, listen: Path, containerd: Path) -> None:
        """Feed the watchdog as long as the socket ``listen`` answers; returns at once if there is none."""
        fed = True
        while self.interval is not None:
            loop = asyncio.get_running_loop()
            next_look = loop.time() + self.interval * _LOOK
            reason = await self._answer(listen, containerd, self.interval * _PATIENCE)
            if (reason is None) == fed:
                fed = not fed
                log.error(_FED if fed else _STARVED, socket=str(listen), watchdog_seconds=self.interval)
            if reason is None:
                await asyncio.sleep(self.interval * _AGAIN)
                continue
            self._tell(WATCHDOG="1")
            if self._serving:
                self._say(f"{self._serving}; at the last look: {reason}" if reason else self._serving)
            await asyncio.sleep(next_look - loop.time())

    async def _answer(self, listen: Path, containerd: Path, patience: float) -> str | None:
        """What hookshim answers: empty if all is well, else what is wrong; None if it does not answer."""
        answer = await _ask(listen, _VERSION, patience)
        if answer is not None:
            return answer
        if not await _takes_connections(listen, patience) or await _ask(containerd, _VERSION, patience) is not None:
            return None
        return f"containerd at {containerd} takes calls and does not answer them"

    def _say(self, status: str, **fields: str) -> None:
        # One line, or what containerd or a file name says would be read as fields.
        status = " ".join(status.split())[:_STATUS_LIMIT]
        if status != self._status or fields:
            self._status = status
            self._tell(STATUS=status, **fields)

    def _tell(self, **fields: str) -> None:
        self._due |= fields
        if self._address and self._again is None:
            self._send()

    def _send(self) -> None:
        """Send what is due, now or, with the manager's queue full, soon: a READY that is lost is never asked for."""
        self._again = None
        datagram = "\n".join(f"{name}={value}" for name, value in self._due.items()).encode(errors="replace")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(0)
                sender.sendto(datagram, self._address)
        except BlockingIOError:
            self._again = asyncio.get_running_loop().call_later(_FULL_PAUSE, self._send)
            return
        except OSError as error:
            if error.strerror != self._refusal:
                log.warning("the service manager cannot be told", fields=sorted(self._due), reason=error.strerror)
            self._refusal = error.strerror
        else:
            self._refusal = None
        self._due.clear()


async def _takes_connections(path: Path, patience: float) -> bool:
    try:
        async with asyncio.timeout(patience):
            _, writer = await asyncio.open_unix_connection(path)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    return True


async def _ask(path: Path, method: str, patience: float) -> str | None:
    """Ask over a connection of its own: empty if it is OK, else what the answer says; None if there is none."""
    channel = Backend(path)
    try:
        await channel.unary(method)(b"", timeout=patience)
    except aio.AioRpcError as error:
        reason = error.details() or error.code().name
        if reason.startswith(_OURS):
            return reason
        silent = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED or channel.is_unreachable(error)
        return None if silent else reason
    except Exception:
        # As with no file descriptor left: nobody gets an answer now.
        log.exception("hookshim's own socket cannot be asked", socket=str(path))
        return None
    finally:
        await channel.close()
    return ""
