"""What Prometheus is told: counters that the daemon's parts keep themselves, read when they are asked for.

It is served on loopback by a thread of its own, so that a scrape holds up no call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter: what it counts, and how it is read, from any thread."""

    help: str
    read: Callable[[], int]


class _Counters(Collector):
    def __init__(self, counters: Mapping[str, Counter]) -> None:
        self._counters = counters

    def collect(self) -> Iterator[CounterMetricFamily]:
        for name, counter in self._counters.items():
            yield CounterMetricFamily(name, counter.help, value=counter.read())


@contextmanager
def served(port: int, counters: Mapping[str, Counter]) -> Iterator[None]:
    """Serve ``counters``, by name without ``_total``, on 127.0.0.1 and ``port``; with port 0, not at all.

    A port that cannot be had is logged: no container waits for it.
    """
    if port == 0:
        yield
        return
    registry = CollectorRegistry()
    registry.register(_Counters(counters))
    try:
        server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        log.error("metrics cannot be served", port=port, reason=error.strerror)
        yield
        return
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
