"""Live updates: what open pages are told, and that none of them holds up another, or the pages."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from server.observe.feed import MOST_CLIENTS
from server.observe.listener import MOST_CONNECTIONS
from shim.records import DeliveryState, Outcome
from tests.observe import journals
from tests.observe.bed import Observer, observer
from tests.observe.client import ask, page, session, version
from tests.support.waiting import PATIENCE, until


@pytest.fixture
def writer(short: Path) -> Iterator[journals.Writer]:
    """A journal that is written to, as by a daemon."""
    directory = short / f"live-{time.monotonic_ns()}"
    with closing(journals.Writer(directory)) as made:
        yield made


@pytest.fixture
def asked(writer: journals.Writer) -> Iterator[Observer]:
    """An observer of it."""
    with observer(writer.directory) as made:
        yield made


async def test_an_open_page_is_told_of_every_state_of_the_journal(writer: journals.Writer, asked: Observer) -> None:
    """By its name, which the page of that state has too: so a page knows whether it is current."""
    found = journals.morning(writer, time.time())
    async with session(asked) as client, client.get("/events") as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        first = await version(response)
        assert f'data-version="{first}"' in await page(asked, "/")
        writer.settle(found["running"], DeliveryState.DELIVERED, time.time(), Outcome(exit_status=0))
        second = await version(response)
        assert second != first
        text = await page(asked, "/")
        assert f'data-version="{second}"' in text
        assert "delivering" not in re.findall(r'class="state [a-z]+"[^>]*>.*? ([a-z]+)</span>', text)


async def test_the_pages_that_are_told_are_bounded(asked: Observer) -> None:
    """One more is refused, and let in when another has left; pages are served all the time."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(session(asked))
        streams = [await stack.enter_async_context(client.get("/events")) for _ in range(MOST_CLIENTS)]
        assert {stream.status for stream in streams} == {200}
        refused = await ask(asked, "/events")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "30")
        assert "Hooks of this node" in await page(asked, "/")
        streams[0].close()
        async with asyncio.timeout(PATIENCE):
            while True:
                async with client.get("/events") as again:
                    if again.status == 200:
                        break


async def test_a_page_that_never_reads_holds_up_nobody(writer: journals.Writer, asked: Observer) -> None:
    """Another one is told of the next state all the same."""
    port = urlsplit(asked.url).port
    with socket.create_connection(("127.0.0.1", port or 0)) as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        silent.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with session(asked) as client, client.get("/events") as response:
            first = await version(response)
            journals.started(writer, journals.ref("c", "p"), time.time(), journals.exec_("x"))
            assert await version(response) != first


def test_connections_are_bounded_and_come_free_again(asked: Observer) -> None:
    """Whoever opens all of them takes the pages' place for as long as he holds them, and no descriptor beyond."""
    address = ("127.0.0.1", urlsplit(asked.url).port or 0)
    held = [socket.create_connection(address, timeout=PATIENCE) for _ in range(MOST_CONNECTIONS)]
    try:
        # Accepted in their order: when this one is answered, by its end, all the others have been.
        with socket.create_connection(address, timeout=PATIENCE) as one_more:
            one_more.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert _answer(one_more) == b""
    finally:
        for each in held:
            each.close()

    def answered() -> bool:
        with socket.create_connection(address, timeout=PATIENCE) as again:
            again.sendall(b"GET /static/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return _answer(again).startswith(b"HTTP/1.1 200")

    until(answered, "there is room again")


def test_a_connection_that_asks_for_nothing_makes_room(asked: Observer) -> None:
    """Nobody can take the pages from everybody by being there."""
    address = ("127.0.0.1", urlsplit(asked.url).port or 0)
    with socket.create_connection(address, timeout=PATIENCE) as silent:
        silent.sendall(b"GET / HTTP/1.1\r\n")
        assert _answer(silent) == b""


def _answer(connection: socket.socket) -> bytes:
    try:
        return connection.recv(64)
    except ConnectionResetError:
        return b""
