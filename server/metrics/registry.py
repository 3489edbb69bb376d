"""One daemon's metrics: a registry of its own, everything that feeds it, and the text that is asked for.

What is counted is told by taps: the journal's (every committed change), the front door's (every call). What simply is
so is read when it is asked for. No tap waits for anything, and nobody waits for the text: it is made by a thread.

Names and units are Prometheus' (prometheus.io/docs/practices/naming). Every label has a bounded set of values.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import Metric

from server import VERSION
from server.metrics.calls import CallMetrics
from server.metrics.journal import JournalMetrics
from server.metrics.loop import LoopMetrics
from server.metrics.recovery import RecoveryMetrics
from server.metrics.states import BackendMetrics, StateMetrics

# They would be a third of the text, and promtool takes their names for mistakes.
disable_created_metrics()  # type: ignore[no-untyped-call] # it has no annotations


#: Seconds that the interpreter is left to others before each metric: only one thread at a time runs Python.
_LEFT: Final = 0.0001


class _Gently(CollectorRegistry):
    """Collects another registry's metrics one by one, so that no call waits for the text of all of them."""

    def __init__(self, inner: CollectorRegistry) -> None:
        super().__init__()
        self._inner = inner

    def collect(self) -> Iterator[Metric]:
        for metric in self._inner.collect():
            time.sleep(_LEFT)
            yield metric


class Metrics:
    """All of them. To be made before the journal is opened, which it observes.

    ``journal`` is the journal's observer, ``calls`` the front door's tap; ``recovery``, ``backend``, ``loop`` and
    ``states`` are told by the daemon.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        """``wall`` is the time in seconds since the epoch."""
        self._registry = CollectorRegistry()
        self._threads = ThreadPoolExecutor(1, "metrics")
        self.journal = JournalMetrics(self._registry, wall)
        self.calls = CallMetrics(self._registry)
        self.recovery = RecoveryMetrics(self._registry)
        self.loop = LoopMetrics(self._registry)
        self.backend = BackendMetrics(self._registry)
        self.states = StateMetrics(self._registry)
        build = Gauge(
            "hookshim_build_info", "Which hookshim this is; always 1.", ["version", "python"], registry=self._registry
        )
        build.labels(VERSION, platform.python_version()).set(1)
        ProcessCollector(registry=self._registry)

    def text(self) -> str:
        """All metrics in Prometheus' text format, version 0.0.4. From any thread but the event loop's."""
        return generate_latest(_Gently(self._registry)).decode()

    async def render(self) -> str:
        """The same, for the event loop."""
        # Not in the threads that the journal and the handlers share: a scrape waits for nobody, and nobody for it.
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.text)
