"""Much is done at once, but not all of it; an error ends it; and the loop serves others in between."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from shim.together import each, gently

pytestmark = pytest.mark.asyncio


class Crowd:
    """Work that waits to be let go, and how much of it was under way at the same time."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.most = 0

    async def do(self, number: int) -> None:
        """One piece of it; number 3 fails."""
        self.begun.append(number)
        self.most = max(self.most, len(self.begun) - len(self.ended))
        await self.go.wait()
        self.ended.append(number)
        if number == 3:
            raise ValueError(number)


async def rounds(count: int = 10) -> None:
    """Let everything that can go on go on."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
async def test_all_is_done_in_order_and_never_more_at_once_than_the_limit(count: int) -> None:
    """Whether there is less to do than may be done at once, or more."""
    crowd = Crowd()
    work = asyncio.create_task(each(2, range(count), crowd.do))
    await rounds()
    assert crowd.begun == list(range(min(count, 2)))
    crowd.go.set()
    await work
    assert crowd.begun == sorted(crowd.ended) == list(range(count))
    assert crowd.most == min(count, 2)


async def test_after_an_error_nothing_begins_and_what_had_begun_ends() -> None:
    """The error is told when nothing runs any more."""
    crowd = Crowd()
    work = asyncio.create_task(each(2, [3, 4, 5, 6], crowd.do))
    await rounds()
    crowd.go.set()
    with pytest.raises(ValueError, match="3"):
        await work
    assert crowd.begun == crowd.ended == [3, 4]


async def test_what_is_cancelled_leaves_nothing_behind() -> None:
    """What runs is cancelled with it, and the rest never begins."""
    crowd = Crowd()
    work = asyncio.create_task(each(2, range(9), crowd.do))
    await rounds()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert (crowd.begun, crowd.ended) == ([0, 1], [])
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_crowd_that_is_begun_gently_lets_others_have_their_turn() -> None:
    """Whoever else wants something of the loop waits for a few of it, not for all."""
    begun: list[int] = []
    seen: list[int] = []
    over = asyncio.Event()

    async def look() -> None:
        while not over.is_set():
            seen.append(len(begun))
            await asyncio.sleep(0)

    other = asyncio.create_task(look())
    await gently(range(100), begun.append)
    over.set()
    await other
    assert begun == list(range(100))
    assert max(after - before for before, after in pairwise(seen)) < 20


async def test_a_loop_that_is_always_busy_only_makes_it_slower() -> None:
    """All of it begins, though every look at the loop finds it late."""
    begun: list[int] = []
    busy = asyncio.Event()

    async def hold_up() -> None:
        loop = asyncio.get_running_loop()
        while not busy.is_set():
            until = loop.time() + 0.008
            while loop.time() < until:
                pass
            await asyncio.sleep(0)

    other = asyncio.create_task(hold_up())
    await gently(range(64), begun.append)
    busy.set()
    await other
    assert begun == list(range(64))
