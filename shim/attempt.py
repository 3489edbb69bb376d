"""One attempt of one delivery, with everything that can end it: its handler, its budget, the container, a stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import dataclass

import structlog

from shim import texts
from shim.actions import ExecAction
from shim.countdown import Countdown
from shim.naming import bind_attempt
from shim.ports import Attempt, Runtime
from shim.records import SIGNALLED, Outcome
from shim.table import DeliveryEvent
from shim.tools import Tools
from shim.waking import Flag, Source, first_of

log = structlog.get_logger(__name__)

#: Seconds: an exec is seen ended by a signal some milliseconds before its container is.
EXIT_WINDOW = 1.0

#: Seconds: a handler whose container has ended may still be bringing its answer home, and the other way round.
ANSWER_WINDOW = 0.25

#: Seconds before the runtime is asked for the container's end: most handlers have ended by then, and it knows no hurry.
WATCH_AFTER = 0.1


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended: the event for the table, and what is kept of it."""

    event: DeliveryEvent
    outcome: Outcome


async def carry_out(
    tools: Tools,
    attempt: Attempt,
    bounds: Sequence[Countdown],
    stopped: Flag,
    withdrawn: Flag,
    *,
    find: bool = False,
) -> Result:
    """Run the handler until it has an outcome, one of ``bounds`` is over, ``stopped`` is set, or the container ends.

    ``withdrawn``: its owner has taken it back, and how it ended is not asked for any more.
    ``find``: an earlier process has begun this attempt; INTERRUPTED if nothing of it is to be found.

    What is still running then is cancelled. If this itself is cancelled, the attempt has no outcome.
    """
    began = tools.clock.boottime()
    race = _Race(tools, attempt, bounds, (stopped, withdrawn), find=find)
    try:
        await race.run()
        result = await race.result()
        # A second stop may have shortened the budget that it began with.
        return result or _failed(attempt, texts.timed_out(tools.clock.boottime() - began))
    finally:
        await race.close()


class _Race:
    """The handler, its container's end, and ``told``, which end the attempt from outside: whichever comes first."""

    def __init__(
        self, tools: Tools, attempt: Attempt, bounds: Sequence[Countdown], told: Sequence[Flag], *, find: bool
    ) -> None:
        self._tools = tools
        self._attempt = attempt
        self._bounds = bounds
        self._told = told
        self._what = f"{attempt.hook} {attempt.delivery_id}"
        self._context = copy_context()
        self._context.run(bind_attempt, attempt)
        self._begun = Flag()
        work = self._deliver(find=find)
        self._work = asyncio.create_task(work, name=f"handler {self._what}", context=self._context)
        self._watch: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Return when one of them has come, or the time is over; an answer that is on its way is waited for."""
        firsts: tuple[Source, ...] = (self._work, *self._told)
        # However little time is left, it gets its chance.
        await first_of(self._begun)
        await _within(self._bounds, *firsts, patience=WATCH_AFTER)
        if any(first.done() for first in firsts):
            return
        ended = self._ended()
        await _within(self._bounds, *firsts, ended)
        if ended.done():
            await first_of(*firsts, timeout=ANSWER_WINDOW)

    async def result(self) -> Result | None:
        """What it came to; None: its time is over."""
        outcome = self._work.result() if self._work.done() else None
        if outcome is not None and outcome.succeeded:
            return Result(DeliveryEvent.SUCCEEDED, outcome)
        if any(flag.is_set() for flag in self._told):
            return _failed(self._attempt, texts.STOPPED)
        if outcome is not None and (window := _doubt(self._attempt, outcome)):
            await _within(self._bounds, self._ended(), patience=window)
        if self._watch is not None and self._watch.done():
            output = b"" if outcome is None else outcome.output
            return Result(DeliveryEvent.CONTAINER_EXITED, Outcome(texts.ENDED_FIRST, output=output))
        if outcome is not None:
            return Result(DeliveryEvent.FAILED, outcome)
        return Result(DeliveryEvent.INTERRUPTED, Outcome()) if self._work.done() else None

    async def close(self) -> None:
        """End what still runs."""
        left = [task for task in (self._work, self._watch) if task is not None and not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    async def _deliver(self, *, find: bool) -> Outcome | None:
        self._begun.set()
        return await _deliver(self._tools, self._attempt, find=find)

    def _ended(self) -> asyncio.Task[None]:
        """The container's end, which is watched from now on."""
        if self._watch is None:
            watch = _ended(self._tools.runtime, self._attempt)
            self._watch = asyncio.create_task(watch, name=f"ended {self._what}", context=self._context)
        return self._watch


def _failed(attempt: Attempt, why: str) -> Result:
    return Result(DeliveryEvent.FAILED, Outcome(texts.failed(attempt.handler.action, attempt.container.ref, why)))


def _doubt(attempt: Attempt, outcome: Outcome) -> float:
    """Did the hook fail, or did its container end under it? The seconds after which that can be told."""
    if outcome.exit_status is not None and outcome.exit_status <= SIGNALLED:
        return 0.0
    return EXIT_WINDOW if isinstance(attempt.handler.action, ExecAction) else ANSWER_WINDOW


async def _within(bounds: Sequence[Countdown], *sources: Source, patience: float | None = None) -> None:
    """Return when one of ``sources`` has come, one of ``bounds`` is over, or after ``patience`` seconds."""
    loop = asyncio.get_running_loop()
    until = None if patience is None else loop.time() + patience
    while not any(source.done() for source in sources):
        left = [seconds for bound in bounds if (seconds := bound.left()) is not None]
        if until is not None:
            left.append(until - loop.time())
        if left and min(left) <= 0:
            return
        for bound in bounds:
            bound.noticed()
        await first_of(*sources, *(bound.moved for bound in bounds), timeout=min(left, default=None))


async def _deliver(tools: Tools, attempt: Attempt, *, find: bool) -> Outcome | None:
    action = attempt.handler.action
    try:
        handler = tools.handlers[type(action)]
        return await (handler.find(attempt) if find else handler.deliver(attempt))
    except Exception as error:  # a bug in a handler must not keep its container from stopping
        log.exception("a handler raised", delivery=attempt.delivery_id, container=attempt.container.ref.id)
        return Outcome(texts.failed(action, attempt.container.ref, f"internal error: {type(error).__name__}"))


async def _ended(runtime: Runtime, attempt: Attempt) -> None:
    try:
        await runtime.wait_ended(attempt.container.ref.id)
    except Exception:
        log.exception("the container cannot be watched", container=attempt.container.ref.id)
        await asyncio.Event().wait()
