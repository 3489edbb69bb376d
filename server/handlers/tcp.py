"""``tcpSocket`` hooks: a connection that is made, and closed at once. In Kubernetes' schema, and run by no kubelet."""

from __future__ import annotations

import asyncio
import os
import socket

from server.handlers.reach import CONNECT_SECONDS, POD_ONLY, Reach
from server.handlers.target import RefusedError, UnresolvedError, authority, endpoint
from shim import texts
from shim.actions import TcpSocketAction
from shim.ports import Attempt
from shim.records import Outcome


class TcpHandler:
    """Carries out ``tcpSocket`` actions, within what ``reach`` allows."""

    def __init__(self, reach: Reach = POD_ONLY) -> None:
        self._reach = reach

    async def deliver(self, attempt: Attempt) -> Outcome:
        """Connect; that somebody accepts is a success. Cancelling it closes the connection at once."""
        action = attempt.handler.action
        if not isinstance(action, TcpSocketAction):
            raise TypeError(f"a tcpSocket handler was given {type(action).__name__}")
        try:
            host, port = endpoint(action, attempt.container)
            addresses = await self._reach.addresses(attempt, host)
        except UnresolvedError as error:
            why = texts.failed(action, attempt.container.ref, str(error))
            return Outcome(error=why, permanent=isinstance(error, RefusedError))
        why = await _connect(addresses, port)
        if not why:
            return Outcome()
        return Outcome(error=texts.failed(action, attempt.container.ref, f"connect to {authority(host, port)}: {why}"))

    async def find(self, attempt: Attempt) -> Outcome | None:
        """None: a connection ends with the process that made it, and is made again."""
        del attempt
        return None


async def _connect(addresses: tuple[str, ...], port: int) -> str:
    """Why none of the addresses can be connected to, in their order; empty once one is."""
    loop = asyncio.get_running_loop()
    until = loop.time() + CONNECT_SECONDS
    why = ""
    for index, address in enumerate(addresses):
        # One that does not answer leaves the others their share.
        share = (until - loop.time()) / (len(addresses) - index)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as connection:
                connection.settimeout(0)
                async with asyncio.timeout(share):
                    await loop.sock_connect(connection, (address, port))
                return ""
        except TimeoutError as error:
            # The kernel's own has a number.
            why = os.strerror(error.errno).lower() if error.errno else f"timed out after {CONNECT_SECONDS:g} s"
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno else "failed"
    return why
