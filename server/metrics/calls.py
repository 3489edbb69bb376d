"""What the front door is seen to do: how calls end, what hookshim adds to them, and what interception decides.

Every call passes here: it costs some microseconds, and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge

from server.call import Answer, Call, Decision, Interceptor, Pass
from server.metrics import labels
from server.metrics.tally import CallTally


class CallMetrics:
    """Implements server.tap.CallTap."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tally = CallTally()
        registry.register(self._tally)
        #: Implements server.tap.CallTap.
        self.ended = self._tally.count
        self._decisions = Counter(
            "hookshim_intercepted_calls_total",
            "Calls that start or end containers, by what was decided: pass (no hooks here, forwarded untouched), "
            "answer (the engine made the call, with its hooks), refusal (answered with an error, hookshim's or "
            "containerd's).",
            ["method", "decision"],
            registry=registry,
        )
        self._in_flight = Gauge(
            "hookshim_calls_in_flight", "Calls that are being served now, streams included.", registry=registry
        )
        # Finding the one with these labels takes longer than counting; there are as many as labels allow.
        self._count_decision = cache(lambda name, kind: self._decisions.labels(name, kind).inc)

    def watch(self, in_flight: Callable[[], int]) -> None:
        """Read the number of calls that are being served from ``in_flight``."""
        self._in_flight.set_function(in_flight)

    def decided(self, method: str, decision: Decision) -> None:
        """Count a decision."""
        kind = "pass" if isinstance(decision, Pass) else "answer" if isinstance(decision, Answer) else "refusal"
        self._count_decision(labels.method(method), kind)()


class CountedInterceptor:
    """An interceptor whose decisions are counted; implements server.call.Interceptor."""

    def __init__(self, inner: Interceptor, metrics: CallMetrics) -> None:
        self._inner = inner
        self._metrics = metrics

    @property
    def methods(self) -> frozenset[str]:
        """The inner one's."""
        return self._inner.methods

    async def decide(self, call: Call) -> Decision:
        """Decide as the inner one does. A caller that leaves before that is not counted."""
        decision = await self._inner.decide(call)
        self._metrics.decided(call.method, decision)
        return decision
