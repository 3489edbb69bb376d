"""The sinks that the observer runs: whoever else is told what the journal's events say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, retry_if_result, wait_exponential

from server.config import Config
from server.sinks.courier import Courier

log = structlog.get_logger(__name__)

#: Seconds of the longest pause before a sink that has ended is run again.
_LONGEST_PAUSE: Final = 60.0

#: What runs one sink, until it is cancelled.
Sink = Callable[[Config], Awaitable[None]]


def sinks(config: Config) -> list[Sink]:
    """The sinks that the configuration asks for."""
    return [_kubernetes] if config.events.kubeconfig else []


async def keep_running(sink: Sink, config: Config) -> None:
    """Run a sink for good: what it did not expect takes neither the pages nor another sink with it."""

    def again(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.error("a sink has ended and is run again", pause_seconds=state.upcoming_sleep, exc_info=error)

    await AsyncRetrying(
        # Not retry_always, which does not let itself be cancelled.
        retry=retry_if_exception_type() | retry_if_result(lambda _: True),
        wait=wait_exponential(max=_LONGEST_PAUSE),
        before_sleep=again,
    )(sink, config)


async def _kubernetes(config: Config) -> None:
    courier = await asyncio.to_thread(_load, config)
    await courier.run()


def _load(config: Config) -> Courier:
    # Reading the official client's code takes seconds and memory: only where it is used, and beside the pages.
    from server.sinks.kubernetes import kubernetes_sink  # noqa: PLC0415

    return kubernetes_sink(config)
