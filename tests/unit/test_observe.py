"""Small parts of the observer: its words, its answers shared by many, and what the daemon holds of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from server.observe import words
from server.observe.guard import is_loopback
from server.observe.pages import Asked
from server.observe.shared import Shared


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.0001, "1 ms"),
        (0.25, "250 ms"),
        (1, "1 s"),
        (59.96, "60 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7200, "2 h"),
        (86400 * 2, "2 d"),
    ],
)
def test_a_duration_is_told_in_its_own_unit(seconds: float, text: str) -> None:
    """So that it can be read at a glance."""
    assert words.lasted(seconds) == text


@pytest.mark.parametrize(
    ("query", "link"),
    [
        ({}, "/"),
        ({"q": " a&b=c "}, "/?q=a%26b%3Dc"),
        ({"state": "failed", "page": "3"}, "/?state=failed&page=3"),
        ({"state": "nonsense", "hook": "nonsense", "page": "0"}, "/"),
        ({"page": "-1"}, "/"),
        ({"page": "9" * 4000}, "/"),
        ({"page": "٣"}, "/"),
        ({"q": "x" * 1000}, "/?q=" + "x" * 200),
    ],
)
def test_an_address_is_read_as_far_as_it_makes_sense(query: dict[str, str], link: str) -> None:
    """What is no filter is none, and nothing in it is without a bound."""
    assert Asked.read(query).link() == link


@pytest.mark.parametrize("host", ["[::1]", "[::1]:80", "127.0.0.1", "localhost:9480", "x.localhost"])
def test_loopback_names_are_this_nodes(host: str) -> None:
    """What a browser resolves to loopback by itself, without asking anybody."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", ":80", "localhost.example", "[localhost", "127.0.0.1.example", "0.0.0.0", "a\tb"])
def test_other_names_are_not(host: str) -> None:
    """What anybody may make resolve to loopback."""
    assert not is_loopback(host)


async def test_who_asks_the_same_at_once_shares_the_answer() -> None:
    """It is made once, for whoever stays; a failure is everybody's and is not kept."""
    made: list[int] = []
    ready = asyncio.Event()

    async def make() -> int:
        made.append(len(made))
        await ready.wait()
        if len(made) == 2:
            raise ValueError("second")
        return made[-1]

    shared: Shared[int] = Shared(0.0)
    waiting = [asyncio.create_task(shared.get("key", make)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    ready.set()
    assert await asyncio.gather(*waiting[1:]) == [0, 0]
    assert waiting[0].cancelled()
    await asyncio.sleep(0.01)
    with pytest.raises(ValueError, match="second"):
        await shared.get("key", make)
    await asyncio.sleep(0.01)
    assert await shared.get("key", make) == 2


def test_the_daemon_holds_nothing_of_the_observer() -> None:
    """Neither its code nor its libraries take the daemon's memory, or can break its start."""
    script = "import sys, server.daemon; print(*[name for name in sys.modules if name.split('.')[0] in"
    script += " ('jinja2', 'kubernetes') or name.startswith('server.observe.')])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert found == ["server.observe.supervisor"]
