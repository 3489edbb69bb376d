"""A response's head, kept whatever comes after it.

Some servers send a body where HTTP has none, as after 204. aiohttp takes that for the beginning of another response,
and where both come in one piece it loses the good one over the bad one; Go's client, which is the kubelet's, does not.
A hook that was answered is delivered.
"""

from __future__ import annotations

import asyncio
from functools import partial

import aiohttp
from aiohttp.client_proto import ResponseHandler

_END_OF_HEAD = b"\r\n\r\n"


def keep_heads(connector: aiohttp.TCPConnector) -> aiohttp.TCPConnector:
    """The same connector, whose connections keep every head that has come."""
    factory = partial(_HeadFirst, loop=asyncio.get_running_loop())
    # aiohttp has no other way to say what reads a connection.
    connector._factory = factory  # type: ignore[assignment] # noqa: SLF001 - mypy takes partial for invariant
    return connector


class _HeadFirst(ResponseHandler):
    """Feeds what has come head by head, so that a head is through before what follows it is looked at."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._before = b""

    def data_received(self, data: bytes) -> None:
        """Called by the transport with what has come, wherever it is cut."""
        seen, fed = self._before + data, len(self._before)
        begin = 0
        while (end := seen.find(_END_OF_HEAD, begin)) >= 0:
            begin = end + len(_END_OF_HEAD)
            super().data_received(seen[fed:begin])
            fed = begin
        if fed < len(seen) or not data:
            super().data_received(seen[fed:])
        self._before = seen[-(len(_END_OF_HEAD) - 1) :]
