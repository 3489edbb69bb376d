"""What simply is so, read when it is asked for or set when it changes: containerd, the rules, the gate."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class BackendMetrics:
    """The connection to containerd, as hookshim's own calls find it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._up = Gauge(
            "hookshim_backend_up", "Whether hookshim is connected to containerd (1) or not (0).", registry=registry
        )
        self._reconnects = Counter(
            "hookshim_backend_reconnects_total",
            "How often the connection to containerd was made again after it was lost.",
            registry=registry,
        )

    async def follow(self, states: AsyncGenerator[bool]) -> None:
        """Follow the connection, as ``server.backend.Backend.states`` tells of it, until cancelled."""
        was_up = False
        async with aclosing(states) as changes:
            async for up in changes:
                self._up.set(up)
                if up and was_up:
                    self._reconnects.inc()
                was_up = was_up or up


class StateMetrics:
    """What other parts of the daemon know of themselves."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read, from any thread, when it is asked for."""
        Gauge(name, text, registry=self._registry).set_function(read)

    def counter(self, name: str, text: str, read: Callable[[], float]) -> None:
        """The same for what only grows; ``name`` ends in ``_total``."""
        self._registry.register(_ReadCounter(name, text, read))


class _ReadCounter(Collector):
    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        self._name = name
        self._text = text
        self._read = read

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name.removesuffix("_total"), self._text, value=self._read())
