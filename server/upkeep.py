"""What the daemon does beside serving: recovery first, then what keeps the journal and the rules what they are."""

from __future__ import annotations

import asyncio

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential

from server.backend import Backend
from server.clock import SystemClock
from server.config import Config
from server.front import Gate
from server.handlers.native import NativeExec
from server.metrics import Metrics
from server.notify import Manager
from server.rules import HooksDirectory
from server.runtime import CriRuntime
from server.watch import ExitWatch
from shim.engine import Engine
from shim.errors import HookshimError, JournalUnavailableError, RuntimeCallError
from shim.journal import Journal

log = structlog.get_logger(__name__)

#: Seconds before each look for what the last daemon's end has cut off: the runtime takes its time to give a start up.
_LOOKS = (0.0, 2.0, 10.0, 60.0)

#: Seconds between two batches of old records, so that commits get between them; and between two rounds.
_BATCH_PAUSE, _RETENTION_PAUSE = 0.1, 600.0

#: Seconds between two looks whether the rules are others.
_RULES_PAUSE = 0.5

#: Seconds between two looks at what runs and what has ended, for the postStop hooks.
_ADOPT_PAUSE = 60.0


async def recover(
    config: Config,
    engine: Engine,
    client: Backend,
    runtime: CriRuntime,
    gate: Gate,
    manager: Manager,
    metrics: Metrics,
) -> None:
    """Reconcile, however long containerd takes to answer, let the callers in, and clear up."""

    def report(reason: str) -> None:
        gate.reason = not_yet(config, reason)
        manager.waiting(reason)

    def let_in() -> None:
        gate.reason = None
        manager.serving(config.listen, config.containerd)

    def again(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning("recovery is not done; trying again", attempt=state.attempt_number, reason=str(error))
        if isinstance(error, JournalUnavailableError):
            # What was open is not known, but no container may wait for a disk to be stopped.
            let_in()
        elif gate.reason is not None:
            report(str(error))

    report("starting")
    async for attempt in AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, RuntimeCallError | JournalUnavailableError)),
        wait=wait_exponential(0.1, max=10),
        after=again,
    ):
        with attempt:
            if gate.reason is not None:
                await client.wait_until_reachable(report=report)
            resumed = await engine.recover()
    let_in()
    log.info("serving", resumed_containers=resumed)
    metrics.recovery.done(resumed)
    # Only now: an ended container with open work is recovery's.
    async with asyncio.TaskGroup() as group:
        group.create_task(_clear_up(runtime), name="clear up")
        group.create_task(ExitWatch(client, runtime, engine).run(), name="watch")


async def clear_output(journal: Journal, native: NativeExec) -> None:
    """Remove what hooks have written that nobody waits for any more."""
    try:
        attempts = await journal.open_attempts()
    except JournalUnavailableError:
        return
    native.clear(attempts)


async def follow(rules: HooksDirectory, engine: Engine, clock: SystemClock) -> None:
    """Take changed rules over; what runs already gets the postStop hooks that they declare.

    Now and then it is looked at in any case: an event that was lost, or a state that came late, delays a postStop by
    that much and no more.
    """
    async with asyncio.TaskGroup() as group:
        group.create_task(rules.watch(), name="watch the rules")
        generation, looked = rules.generation, clock.boottime()
        while True:
            await asyncio.sleep(_RULES_PAUSE)
            if generation != rules.generation or clock.boottime() - looked > _ADOPT_PAUSE:
                now = rules.generation
                try:
                    await engine.adopt()
                    generation, looked = now, clock.boottime()
                except HookshimError as error:
                    log.warning("the postStop hooks of running containers cannot be looked for", reason=str(error))


async def retain(journal: Journal, clock: SystemClock, hours: float) -> None:
    """Delete what ended more than ``hours`` ago, a little at a time."""
    while True:
        pause = _RETENTION_PAUSE
        try:
            if await journal.expire(clock.wall() - hours * 3600):
                pause = _BATCH_PAUSE
        except JournalUnavailableError as error:
            log.warning("old records cannot be deleted now", error=str(error))
        await asyncio.sleep(pause)


async def _clear_up(runtime: CriRuntime) -> None:
    """Delete the tasks of starts that the last daemon's end cut off, also of containers that have no record."""
    for number, pause in enumerate(_LOOKS, start=1):
        await asyncio.sleep(pause)
        try:
            await runtime.clear_leftovers()
        except RuntimeCallError as error:
            looks = f"{number} of {len(_LOOKS)}"
            log.warning("cannot look for what cut-off starts left behind", look=looks, error=str(error))


def not_yet(config: Config, reason: str) -> str:
    """What a caller is told who comes too early."""
    return f"hookshim at {config.listen} does not serve yet: {reason}"
