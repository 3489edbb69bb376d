"""The seeded loop runs what is ready in any order that the engine must bear, and in no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from functools import partial
from random import Random

from tests.engine.seeded_loop import SeededLoop

SEEDS = range(200)


def _note(notes: list[str], name: str, _future: asyncio.Future[None]) -> None:
    notes.append(name)


def lived(seed: int, begin: Callable[[asyncio.AbstractEventLoop, list[str]], None]) -> list[str]:
    """What was noted within a second, in its order."""
    notes: list[str] = []
    with closing(SeededLoop(Random(seed))) as loop:
        begin(loop, notes)
        loop.run_until_complete(asyncio.sleep(1))
    return notes


def test_independent_callbacks_come_in_every_order() -> None:
    """Three of them, in all six orders."""

    def begin(loop: asyncio.AbstractEventLoop, notes: list[str]) -> None:
        for name in "abc":
            loop.call_soon(notes.append, name)

    orders = {"".join(lived(seed, begin)) for seed in SEEDS}
    assert orders == {"abc", "acb", "bac", "bca", "cab", "cba"}


def test_timers_of_one_moment_come_in_every_order_and_time_never_goes_back() -> None:
    """What is due at once may be late by turns, but not so late that time has gone on."""

    def begin(loop: asyncio.AbstractEventLoop, notes: list[str]) -> None:
        for name, at in (("a", 0.1), ("b", 0.1), ("c", 0.2)):
            loop.call_at(at, notes.append, name)

    assert {"".join(lived(seed, begin)) for seed in SEEDS} == {"abc", "bac"}


def test_callbacks_of_one_future_keep_their_order() -> None:
    """Asyncio promises that."""

    def begin(loop: asyncio.AbstractEventLoop, notes: list[str]) -> None:
        future: asyncio.Future[None] = loop.create_future()
        for name in "abc":
            future.add_done_callback(partial(_note, notes, name))
        loop.call_soon(future.set_result, None)
        loop.call_soon(notes.append, "-")

    assert {"".join(lived(seed, begin)).replace("-", "") for seed in SEEDS} == {"abc"}


def test_nothing_overtakes_what_was_ready_a_turn_before() -> None:
    """What a callback schedules comes after everything that was ready together with it."""

    def begin(loop: asyncio.AbstractEventLoop, notes: list[str]) -> None:
        for name in "abc":
            loop.call_soon(notes.append, name)
        loop.call_soon(loop.call_soon, notes.append, "later")

    assert {lived(seed, begin)[-1] for seed in SEEDS} == {"later"}


def test_the_same_seed_is_the_same_order() -> None:
    """Also of sets of tasks, which are walked by their hashes."""

    def begin(loop: asyncio.AbstractEventLoop, notes: list[str]) -> None:
        async def nothing() -> None:
            """Done at once."""

        tasks = {loop.create_task(nothing(), name=str(number)) for number in range(20)}
        notes.extend(task.get_name() for task in tasks)

    assert lived(1, begin) == lived(1, begin)
    assert lived(1, begin) != lived(2, begin)
