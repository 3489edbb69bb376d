"""Waiting for whichever comes first: every end is noticed, at once, and nothing is left behind."""

from __future__ import annotations

import asyncio

import pytest

from shim.waking import Flag, first_of

#: Seconds: far longer than anything here takes, so that a wait that ends by it has failed.
LONG = 30.0


async def noticed(*sources: Flag | asyncio.Future[None], come: Flag | asyncio.Future[None]) -> bool:
    """Whether a wait for these has ended by ``come``, which comes while it lasts."""
    waiting = asyncio.create_task(first_of(*sources, timeout=LONG))
    await asyncio.sleep(0)
    assert not waiting.done()
    if isinstance(come, Flag):
        come.set()
    else:
        come.set_result(None)
    async with asyncio.timeout(LONG / 2):
        await waiting
    return come.done()


@pytest.mark.parametrize("which", [0, 1])
async def test_any_of_several_ends_the_wait(which: int) -> None:
    """A flag or a task, whichever comes."""
    sources: tuple[Flag, asyncio.Future[None]] = (Flag(), asyncio.get_running_loop().create_future())
    assert await noticed(*sources, come=sources[which])


async def test_what_has_come_already_is_not_waited_for() -> None:
    """Not even for a turn of the loop: nothing may come between."""
    flag = Flag()
    flag.set()
    waiting = first_of(flag, Flag())
    with pytest.raises(StopIteration):
        waiting.send(None)


async def test_the_time_ends_the_wait() -> None:
    """And none of them has come."""
    flag = Flag()
    async with asyncio.timeout(LONG):
        await first_of(flag, timeout=0.001)
    assert not flag.done()


async def test_a_flag_that_is_cleared_tells_of_its_next_time() -> None:
    """A deadline moves more than once."""
    flag = Flag()
    assert await noticed(flag, come=flag)
    flag.clear()
    assert await noticed(flag, come=flag)


async def test_a_wait_that_is_over_leaves_nothing_at_what_did_not_come() -> None:
    """A stop that never comes is waited for by many attempts, one after another."""
    never, soon = Flag(), Flag()
    told: list[object] = []
    never.add_done_callback(told.append)
    for _ in range(3):
        assert await noticed(never, soon, come=soon)
        soon.clear()
    assert never.remove_done_callback(told.append) == 1
    assert never.remove_done_callback(told.append) == 0


async def test_a_wait_that_is_cancelled_leaves_nothing_either() -> None:
    """As when a caller leaves: what comes then tells nobody."""
    flag = Flag()
    waiting = asyncio.create_task(first_of(flag))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    flag.set()
    assert flag.done()
