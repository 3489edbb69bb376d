"""A process that copies bytes between two sockets and looks at none of them: what one hop more costs at the least.

It stands where hookshim does, on the same event loop, so that the machine's share of what is added to a call (two more
changes of process each way) can be told from hookshim's own. ``python -m tests.support.bench.copy SOCKET BACKEND``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import uvloop

from tests.support.bench.fake import process
from tests.support.bench.stand import Way
from tests.support.cri import CRIClient

#: The way's name.
COPY = "copy"


class _Side(asyncio.Protocol):
    """One socket; what it reads, the other one writes."""

    def __init__(self, other: _Side | None = None) -> None:
        self.other = other
        self.transport: asyncio.Transport | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """For asyncio."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.writelines(self._early)

    def data_received(self, data: bytes) -> None:
        """For asyncio."""
        if self.other is not None:
            self.other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """For asyncio."""
        del exc
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def write(self, data: bytes) -> None:
        """Write it, at the latest when there is a connection."""
        if self.transport is None:
            self._early.append(data)
        else:
            self.transport.write(data)


async def serve(listen: str, backend: str) -> None:
    """Copy for every client until the end."""
    loop = asyncio.get_running_loop()
    dialling: set[asyncio.Task[object]] = set()

    def accept() -> _Side:
        client = _Side()
        other = client.other = _Side(client)
        task = loop.create_task(loop.create_unix_connection(lambda: other, backend))
        dialling.add(task)
        task.add_done_callback(dialling.discard)
        return client

    server = await loop.create_unix_server(accept, listen)
    await server.serve_forever()


@contextmanager
def copying(backend: Path) -> Iterator[Way]:
    """The way through such a process. Raises RuntimeError if it does not start."""
    with process(__name__, str(backend)) as (socket, copier):
        client = CRIClient(socket)
        try:
            yield Way(COPY, socket, client, pid=copier.pid)
        finally:
            client.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(*sys.argv[1:3]))
