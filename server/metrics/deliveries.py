"""What becomes of deliveries and their attempts, learned from the changes that the journal has written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from server.metrics.labels import KINDS, UNKNOWN, handler
from shim.changes import BeginAttempt, Change, EndAttempt, InsertDelivery, UpdateDelivery
from shim.records import Delivery, DeliveryState, Hook
from shim.unfinished import Unfinished

#: Seconds: from a command that does nothing to a hook that has used up a long grace.
_HOOK: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

_OPEN: Final = tuple(state for state in DeliveryState if state.open)

#: Shown before there is one: Prometheus sees no increase in what begins with 1.
_WATCHED: Final = (DeliveryState.DELIVERED, DeliveryState.FAILED, DeliveryState.MISSED)

#: What an attempt came to, by what its delivery came to.
_RESULTS: Final = {
    DeliveryState.DELIVERED: "succeeded",
    DeliveryState.FAILED: "failed",
    DeliveryState.PENDING: "failed",
    DeliveryState.EXITED: "exited",
    DeliveryState.MISSED: "interrupted",
    DeliveryState.SKIPPED: "skipped",
}


@dataclass(slots=True)
class _Open:
    """A delivery without an outcome; times in seconds since the epoch."""

    hook: Hook
    kind: str
    state: DeliveryState
    interruptions: int
    due_at: float
    first_at: float | None = None
    began_at: float | None = None
    resumed: bool = False


class DeliveryMetrics:
    """Counts outcomes, and keeps what has none. ``lock`` is held by whoever calls ``begin`` and ``take``."""

    def __init__(self, registry: CollectorRegistry, lock: Lock, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._open: dict[str, _Open] = {}
        self._outcomes = Counter(
            "hookshim_deliveries_total",
            "Hooks that have an outcome, by that: delivered, failed, exited (the container ended under it), skipped, "
            "missed, void (its container's start failed). One that its owner has retried counts again.",
            ["hook", "handler", "outcome"],
            registry=registry,
        )
        self._resumed = Counter(
            "hookshim_resumed_deliveries_total",
            "Hooks that an earlier process of the daemon left open and that have an outcome now, by that. They are in "
            "hookshim_deliveries_total too.",
            ["hook", "outcome"],
            registry=registry,
        )
        self._attempts = Counter(
            "hookshim_attempts_total",
            "Attempts of hooks that have ended, by result: succeeded, failed, exited (the container ended under it), "
            "skipped (by the owner), interrupted (by the end of the daemon, and not found again).",
            ["hook", "handler", "result"],
            registry=registry,
        )
        self._attempt_seconds = Histogram(
            "hookshim_attempt_duration_seconds",
            "How long one attempt of a hook took, over restarts of the daemon. Attempts that were interrupted are left "
            "out: nobody saw their end.",
            ["hook", "handler"],
            buckets=_HOOK,
            registry=registry,
        )
        self._seconds = Histogram(
            "hookshim_delivery_duration_seconds",
            "How long a hook took from the beginning of its first attempt to its outcome, with the pauses in between. "
            "Hooks that were never attempted are left out.",
            ["hook", "handler"],
            buckets=_HOOK,
            registry=registry,
        )
        for hook in Hook:
            for kind in KINDS:
                for outcome in _WATCHED:
                    self._outcomes.labels(hook, kind, outcome)
        registry.register(_Standing(self._open, lock, wall))

    def begin(self, found: Sequence[Unfinished]) -> None:
        """Forget what is open, and begin with what was found."""
        self._open.clear()
        for one in found:
            # A postStop is armed for as long as its container runs: nothing of it was left undone.
            waits = one.state is DeliveryState.ARMED and one.hook is Hook.POST_STOP
            self._open[one.id] = _Open(
                one.hook,
                handler(one.handler),
                one.state,
                one.interruptions,
                one.due_at,
                one.first_at,
                one.began_at,
                resumed=not waits,
            )

    def take(self, commit: Sequence[Change]) -> None:
        """Count what one commit says. A delivery's own change stands before that of its attempt."""
        moved: dict[str, tuple[_Open, str]] = {}
        for change in commit:
            match change:
                case InsertDelivery(delivery):
                    known = _new(delivery, delivery.created_at)
                    moved[delivery.id] = known, self._move(known, delivery)
                case UpdateDelivery(delivery):
                    # One that is opened again, or that the journal could not tell of, is due from now on.
                    known = self._open.get(delivery.id) or _new(delivery, self._wall())
                    moved[delivery.id] = known, self._move(known, delivery)
                case BeginAttempt(delivery_id, _, at):
                    if (begun := self._open.get(delivery_id)) is not None:
                        begun.began_at = at
                        begun.first_at = at if begun.first_at is None else begun.first_at
                case EndAttempt():
                    self._end(change, *moved.get(change.delivery_id, (self._open.get(change.delivery_id), "")))
                case _:
                    pass

    def _move(self, known: _Open, delivery: Delivery) -> str:
        """Take a delivery's new state; the result of its attempt if that ends with it, empty if nobody can tell."""
        result = _RESULTS.get(delivery.state, "")
        if delivery.interruptions > known.interruptions:
            known.interruptions = delivery.interruptions
            result = "interrupted"
            if delivery.state is DeliveryState.DELIVERING:
                # The next attempt begins, and of the one before nothing more is ever written.
                self._attempts.labels(known.hook, known.kind, result).inc()
        if known.state is DeliveryState.ARMED and delivery.state is not DeliveryState.ARMED:
            known.due_at = self._wall()
        known.state = delivery.state
        if delivery.state.open:
            self._open[delivery.id] = known
            return result
        self._open.pop(delivery.id, None)
        self._outcomes.labels(known.hook, known.kind, delivery.state).inc()
        if known.resumed:
            self._resumed.labels(known.hook, delivery.state).inc()
        if known.first_at is not None and delivery.finished_at is not None:
            # The node's clock may have been set back meanwhile.
            self._seconds.labels(known.hook, known.kind).observe(max(0.0, delivery.finished_at - known.first_at))
        return result

    def _end(self, change: EndAttempt, known: _Open | None, result: str) -> None:
        result = result or ("succeeded" if change.outcome.succeeded else "failed")
        hook, kind = (known.hook, known.kind) if known is not None else (UNKNOWN, UNKNOWN)
        self._attempts.labels(hook, kind, result).inc()
        if known is not None and known.began_at is not None and result != "interrupted":
            self._attempt_seconds.labels(hook, kind).observe(max(0.0, change.at - known.began_at))
        if known is not None:
            known.began_at = None


def _new(delivery: Delivery, due_at: float) -> _Open:
    return _Open(delivery.hook, handler(delivery.handler), delivery.state, delivery.interruptions, due_at)


class _Standing(Collector):
    """What has no outcome, at the moment of the question."""

    def __init__(self, found: dict[str, _Open], lock: Lock, wall: Callable[[], float]) -> None:
        self._found = found
        self._lock = lock
        self._wall = wall

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            standing = [(one.hook, one.state, one.due_at) for one in self._found.values()]
        now = self._wall()
        counts = {(hook, state): 0 for hook in Hook for state in _OPEN}
        ages = dict.fromkeys(Hook, 0.0)
        for hook, state, due_at in standing:
            counts[hook, state] += 1
            if state is not DeliveryState.ARMED:
                ages[hook] = max(ages[hook], now - due_at)
        open_ = GaugeMetricFamily(
            "hookshim_deliveries_open",
            "Hooks without an outcome, by state: armed (not due yet: a postStop is so for as long as its container "
            "runs), pending (due, or between two attempts), delivering.",
            labels=["hook", "state"],
        )
        for (hook, state), count in counts.items():
            open_.add_metric([hook, state], count)
        yield open_
        oldest = GaugeMetricFamily(
            "hookshim_oldest_pending_delivery_age_seconds",
            "For how long the oldest hook that is pending or being delivered has been due; 0 if there is none.",
            labels=["hook"],
        )
        for hook, age in ages.items():
            oldest.add_metric([hook], age)
        yield oldest
