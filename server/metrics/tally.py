"""How calls have ended and what was added to them, counted in a microsecond: every call of the node passes here.

prometheus-client's own counters take three times as long, with a lock for each number; here the event loop's thread
is the only one that counts, and another one copies what it finds when the text is asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from server.metrics import labels

#: Seconds: from what a forwarded call costs here to what somebody would complain about.
BUCKETS: Final = (0.00001, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

_LIMITS: Final = [*(str(each) for each in BUCKETS), "+Inf"]


class _Durations:
    """How many were at most each bucket's limit and more than the one's before, and all of them together."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * len(_LIMITS)
        self.total = 0.0


class CallTally(Collector):
    """The two families of metrics."""

    def __init__(self) -> None:
        self._ended: Counter[tuple[str, str]] = Counter()
        self._added: dict[str, _Durations] = {}

    def count(self, method: str, code: str, added: float | None) -> None:
        """A call of ``method`` (its path) has ended with ``code``; ``added`` as in server.tap.CallTap."""
        name = labels.method(method)
        self._ended[name, code] += 1
        if added is None:
            return
        durations = self._added.get(name)
        if durations is None:
            durations = self._added[name] = _Durations()
        durations.counts[bisect_left(BUCKETS, added)] += 1
        durations.total += added

    def collect(self) -> Iterator[Metric]:
        """For prometheus-client. From any thread."""
        ended = CounterMetricFamily(
            "hookshim_calls",
            "Calls that were served at hookshim's socket, intercepted or forwarded, by the gRPC status that they ended "
            "with.",
            labels=["method", "code"],
        )
        for names, count in self._ended.copy().items():
            ended.add_metric(names, count)
        yield ended
        added = HistogramMetricFamily(
            "hookshim_call_added_duration_seconds",
            "What hookshim adds to a forwarded unary call: the time from its request to its answer, without that "
            "between the sending of the request to containerd and containerd's answer. Looking up whether hooks are "
            "due is in it; what gRPC itself takes on either connection is not. Calls in which hooks ran are left out: "
            "see the durations of hooks.",
            labels=["method"],
        )
        for name, durations in self._added.copy().items():
            below = accumulate(durations.counts.copy())
            added.add_metric([name], list(zip(_LIMITS, below, strict=True)), durations.total)
        yield added
