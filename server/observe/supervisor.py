"""Keeps the observer running beside the daemon, and ends it with it. It waits for nothing that the observer does."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, retry_if_result, wait_exponential

from server.config import Config

log = structlog.get_logger(__name__)

#: What is run; ``-P``: nothing is imported from the directory that the daemon happens to be in.
COMMAND: Final = (sys.executable, "-P", "-m", "server.observe")

#: Seconds of the first pause before it is started again, and of the longest.
_PAUSE, _LONGEST_PAUSE = 0.5, 30.0

#: Seconds after which one that has ended was well, and is started again without a long pause.
_WELL: Final = 60.0

#: Seconds between SIGTERM and SIGKILL: it has nothing to save, and the daemon's end waits for it.
_PATIENCE: Final = 0.5

#: What systemd has meant for the daemon alone (sd_notify(3)).
_NOT_FOR_IT: Final = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID")


@asynccontextmanager
async def observed(config: Config) -> AsyncIterator[None]:
    """Have an observer as long as the context lasts, if the configuration has anything for it to do."""
    if not (config.http.listen or config.events.kubeconfig):
        yield
        return
    task = asyncio.create_task(_supervise(config), name="observer")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _supervise(config: Config) -> None:
    def again(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = round(state.upcoming_sleep, 1)
        log.warning("the observer is started again; hooks and calls go on", pause_seconds=pause, exc_info=error)

    while True:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type() | retry_if_result(lambda lived: lived < _WELL),
            wait=wait_exponential(multiplier=_PAUSE, max=_LONGEST_PAUSE),
            before_sleep=again,
        )
        await retrying(_life, config)


async def _life(config: Config) -> float:
    """Run one until it ends; how many seconds it lived."""
    began = time.monotonic()
    env = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_IT}
    try:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, stdin=PIPE, stdout=DEVNULL, env=env, start_new_session=True
        )
    except OSError as error:
        log.error("the observer cannot be started", command=" ".join(COMMAND), reason=error.strerror)
        return 0.0
    try:
        if process.stdin is not None:
            # The pipe stays open: its end tells the observer that the daemon is gone, whatever ended it.
            process.stdin.write(config.model_dump_json(warnings=False).encode() + b"\n")  # it warns of its own tuples
        status = await process.wait()
    finally:
        await _end(process)
    lived = time.monotonic() - began
    log.warning("the observer has ended", pid=process.pid, exit_status=status, lived_seconds=round(lived, 1))
    return lived


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await process.wait()
                return
        process.kill()
    # One that hangs in the disk ends when the disk lets it; nobody waits for that.
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            await process.wait()
