"""One attempt of one delivery, with everything that can end it: its handler, its budget, the container, a stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from shim import texts
from shim.actions import ExecAction
from shim.countdown import Countdown
from shim.naming import attempting
from shim.ports import Attempt, Runtime
from shim.records import SIGNALLED, Outcome
from shim.table import DeliveryEvent
from shim.tools import Tools

log = structlog.get_logger(__name__)

#: Seconds: an exec is seen ended by a signal some milliseconds before its container is.
EXIT_WINDOW = 1.0

#: Seconds: a handler whose container has ended may still be bringing its answer home, and the other way round.
ANSWER_WINDOW = 0.25


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended: the event for the table, and what is kept of it."""

    event: DeliveryEvent
    outcome: Outcome


async def carry_out(
    tools: Tools,
    attempt: Attempt,
    bounds: Sequence[Countdown],
    stopped: asyncio.Event,
    withdrawn: asyncio.Event,
    *,
    find: bool = False,
) -> Result:
    """Run the handler until it has an outcome, one of ``bounds`` is over, ``stopped`` is set, or the container ends.

    ``withdrawn``: its owner has taken it back, and how it ended is not asked for any more.
    ``find``: an earlier process has begun this attempt; INTERRUPTED if nothing of it is to be found.

    What is still running then is cancelled. If this itself is cancelled, the attempt has no outcome.
    """
    with attempting(attempt):
        return await _carry_out(tools, attempt, bounds, stopped, withdrawn, find=find)


async def _carry_out(
    tools: Tools,
    attempt: Attempt,
    bounds: Sequence[Countdown],
    stopped: asyncio.Event,
    withdrawn: asyncio.Event,
    *,
    find: bool,
) -> Result:
    what = f"{attempt.hook} {attempt.delivery_id}"
    began = tools.clock.boottime()
    work = asyncio.create_task(_deliver(tools, attempt, find=find), name=f"handler {what}")
    ended = asyncio.create_task(_ended(tools.runtime, attempt), name=f"ended {what}")
    over = asyncio.create_task(_first_over(bounds), name=f"budget {what}")
    stop = asyncio.create_task(stopped.wait(), name=f"stop {what}")
    owner = asyncio.create_task(withdrawn.wait(), name=f"owner {what}")
    tasks: tuple[asyncio.Task[object], ...] = (work, ended, over, stop, owner)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if ended.done() and not (work.done() or stop.done() or owner.done()):
            await asyncio.wait({work}, timeout=ANSWER_WINDOW)
        outcome = work.result() if work.done() else None
        if outcome is not None and outcome.succeeded:
            return Result(DeliveryEvent.SUCCEEDED, outcome)
        if stop.done() or owner.done():
            return _failed(attempt, texts.STOPPED)
        if outcome is not None:
            await _rule_out_exit(attempt, outcome, ended, over)
        if ended.done():
            output = b"" if outcome is None else outcome.output
            return Result(DeliveryEvent.CONTAINER_EXITED, Outcome(texts.ENDED_FIRST, output=output))
        if outcome is not None:
            return Result(DeliveryEvent.FAILED, outcome)
        if work.done():
            return Result(DeliveryEvent.INTERRUPTED, Outcome())
        # A second stop may have shortened the budget that it began with.
        return _failed(attempt, texts.timed_out(tools.clock.boottime() - began))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _failed(attempt: Attempt, why: str) -> Result:
    return Result(DeliveryEvent.FAILED, Outcome(texts.failed(attempt.handler.action, attempt.container.ref, why)))


async def _rule_out_exit(
    attempt: Attempt, outcome: Outcome, ended: asyncio.Task[None], over: asyncio.Task[None]
) -> None:
    """Did the hook fail, or did its container end under it? Wait until that can be told."""
    if outcome.exit_status is None or outcome.exit_status > SIGNALLED:
        window = EXIT_WINDOW if isinstance(attempt.handler.action, ExecAction) else ANSWER_WINDOW
        await asyncio.wait({ended, over}, timeout=window, return_when=asyncio.FIRST_COMPLETED)


async def _first_over(bounds: Sequence[Countdown]) -> None:
    over = {asyncio.ensure_future(bound.over()) for bound in bounds}
    try:
        await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in over:
            task.cancel()
        await asyncio.wait(over)


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
