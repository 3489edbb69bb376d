"""What the front door is seen to do: how calls end, what hookshim adds to them, and what interception decides.

Every call passes here: it costs some microseconds, and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from server.call import Answer, Call, Decision, Interceptor, Pass
from server.metrics import labels

#: Seconds: from what a forwarded call costs here to what somebody would complain about.
_ADDED: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class CallMetrics:
    """Implements server.tap.CallTap."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "hookshim_calls_total",
            "Calls that were served at hookshim's socket, intercepted or forwarded, by the gRPC status that they ended "
            "with.",
            ["method", "code"],
            registry=registry,
        )
        self._added = Histogram(
            "hookshim_call_added_duration_seconds",
            "What hookshim adds to a forwarded unary call: the time from its request to its answer, without that "
            "between the sending of the request to containerd and containerd's answer. Looking up whether hooks are "
            "due is in it; what gRPC itself takes on either connection is not. Calls in which hooks ran are left out: "
            "see the durations of hooks.",
            ["method"],
            buckets=_ADDED,
            registry=registry,
        )
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
        self._count_end = cache(lambda name, code: self._calls.labels(name, code).inc)
        self._count_decision = cache(lambda name, kind: self._decisions.labels(name, kind).inc)
        self._observe = cache(lambda name: self._added.labels(name).observe)

    def watch(self, in_flight: Callable[[], int]) -> None:
        """Read the number of calls that are being served from ``in_flight``."""
        self._in_flight.set_function(in_flight)

    def ended(self, method: str, code: str, added: float | None) -> None:
        """Count a call, and what was added to it."""
        name = labels.method(method)
        self._count_end(name, code)()
        if added is not None:
            self._observe(name)(added)

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
