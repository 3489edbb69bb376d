"""One attempt of one delivery, with everything that can end it: its handler, its budget, the container, a stop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from shim import texts
from shim.countdown import Countdown
from shim.lifecycle import ExecAction
from shim.ports import Attempt, Runtime
from shim.records import Outcome
from shim.table import DeliveryEvent
from shim.tools import Tools

log = structlog.get_logger(__name__)

#: Seconds: an exec is seen ended by a signal some milliseconds before its container is.
EXIT_WINDOW = 1.0

#: Seconds: a handler whose container has ended may still be bringing its answer home, and the other way round.
ANSWER_WINDOW = 0.25

#: An exit status above this is a signal's (128 + number).
_SIGNALLED = 128


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended: the event for the table, and what is kept of it."""

    event: DeliveryEvent
    outcome: Outcome


async def carry_out(
    tools: Tools, attempt: Attempt, countdown: Countdown, stopped: asyncio.Event | None = None
) -> Result:
    """Run the handler until it has an outcome, ``countdown`` is over, ``stopped`` is set, or the container ends.

    What is still running then is cancelled. If this itself is cancelled, the attempt has no outcome.
    """
    what = f"{attempt.hook} {attempt.delivery_id}"
    began = tools.clock.boottime()
    work = asyncio.create_task(_deliver(tools, attempt), name=f"handler {what}")
    ended = asyncio.create_task(_ended(tools.runtime, attempt), name=f"ended {what}")
    over = asyncio.create_task(countdown.over(), name=f"budget {what}")
    stop = asyncio.create_task((stopped or asyncio.Event()).wait(), name=f"stop {what}")
    tasks: tuple[asyncio.Task[object], ...] = (work, ended, over, stop)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not work.done() and not stop.done() and ended.done():
            await asyncio.wait({work}, timeout=ANSWER_WINDOW)
        if work.done() and work.result().succeeded:
            return Result(DeliveryEvent.SUCCEEDED, work.result())
        if stop.done():
            return _failed(attempt, texts.STOPPED)
        if work.done():
            await _rule_out_exit(attempt, work.result(), ended, over)
        if ended.done():
            output = work.result().output if work.done() else b""
            return Result(DeliveryEvent.CONTAINER_EXITED, Outcome(texts.ENDED_FIRST, output=output))
        if work.done():
            return Result(DeliveryEvent.FAILED, work.result())
        # A second stop may have shortened the budget that it began with.
        return _failed(attempt, texts.timed_out(tools.clock.boottime() - began))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _failed(attempt: Attempt, why: str) -> Result:
    return Result(DeliveryEvent.FAILED, Outcome(texts.failed(attempt.action, attempt.container.ref, why)))


async def _rule_out_exit(
    attempt: Attempt, outcome: Outcome, ended: asyncio.Task[None], over: asyncio.Task[None]
) -> None:
    """Did the hook fail, or did its container end under it? Wait until that can be told."""
    if outcome.exit_status is None or outcome.exit_status > _SIGNALLED:
        window = EXIT_WINDOW if isinstance(attempt.action, ExecAction) else ANSWER_WINDOW
        await asyncio.wait({ended, over}, timeout=window, return_when=asyncio.FIRST_COMPLETED)


async def _deliver(tools: Tools, attempt: Attempt) -> Outcome:
    try:
        return await tools.handlers[type(attempt.action)].deliver(attempt)
    except Exception as error:  # a bug in a handler must not keep its container from stopping
        log.exception("a handler raised", delivery=attempt.delivery_id, container=attempt.container.ref.id)
        return Outcome(texts.failed(attempt.action, attempt.container.ref, f"internal error: {type(error).__name__}"))


async def _ended(runtime: Runtime, attempt: Attempt) -> None:
    try:
        await runtime.wait_ended(attempt.container.ref.id)
    except Exception:
        log.exception("the container cannot be watched", container=attempt.container.ref.id)
        await asyncio.Event().wait()
