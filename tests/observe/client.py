"""HTTP as somebody on the node asks: on a port, or on a unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDictProxy

from tests.observe.bed import Observer
from tests.support.waiting import INTERVAL, PATIENCE


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: CIMultiDictProxy[str]
    text: str


def session(of: Observer) -> aiohttp.ClientSession:
    """A client of this observer; its requests' paths begin with ``/``."""
    where = of.url.removeprefix("http://")
    if where.startswith("/"):
        return aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(where))
    return aiohttp.ClientSession(of.url)


async def ask(of: Observer, path: str, method: str = "GET", **headers: str) -> Answer:
    """One request; underscores in a header's name are dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with session(of) as client, client.request(method, path, headers=named) as response:
        return Answer(response.status, response.headers, await response.text())


async def page(of: Observer, path: str) -> str:
    """A page that is there."""
    answer = await ask(of, path)
    assert answer.status == 200, answer
    return answer.text


async def eventually(of: Observer, path: str, right: Callable[[Answer], bool]) -> Answer:
    """The first answer that is ``right``. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while not right(answer := await ask(of, path)):  # noqa: ASYNC110 - nothing in this process knows when
            await asyncio.sleep(INTERVAL)
    return answer


async def version(response: aiohttp.ClientResponse) -> str:
    """The next state's name that a stream tells."""
    async with asyncio.timeout(PATIENCE):
        async for line in response.content:
            if line.startswith(b"data: "):
                return line.removeprefix(b"data: ").decode().strip()
    raise AssertionError("the stream has ended")
