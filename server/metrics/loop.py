"""The event loop, which every call and every hook go through: what holds it holds them all."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Histogram

#: Seconds between two looks: often enough to see a loop that is held again and again, and next to nothing to do.
_PAUSE: Final = 0.25

#: Seconds: below a millisecond is what timers are late by anyway.
_LAG: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class LoopMetrics:
    """Looks at the loop that it is followed in, until it is cancelled."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lag = Histogram(
            "hookshim_event_loop_lag_seconds",
            "By how much later than it was due the event loop came to a timer, looked at four times a second. All "
            "calls and hooks wait for whatever holds it, which may be the node's load too.",
            buckets=_LAG,
            registry=registry,
        )

    async def follow(self) -> None:
        """Look at it until cancelled."""
        while True:
            due = time.monotonic() + _PAUSE
            await asyncio.sleep(_PAUSE)
            self._lag.observe(max(0.0, time.monotonic() - due))


def cpu_of_this_thread() -> Callable[[], float]:
    """What tells, from any thread, the seconds of CPU that this one has used."""
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(clock)
