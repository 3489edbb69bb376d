"""What the journal is seen to write: every delivery, attempt and event, and how long the disk takes.

The journal is the truth about deliveries, so what is counted here is what is in it: nothing that was not written, and
nothing twice. Its writer's thread counts, before whoever waits for the commit; what is open is kept in memory, so
that no question costs the journal anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from server.metrics.deliveries import DeliveryMetrics
from server.metrics.labels import Reasons
from shim import texts
from shim.changes import Change, InsertEvent
from shim.store import Store
from shim.unfinished import unfinished

#: Seconds: from a disk with a battery to one that is about to fail.
_COMMIT: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_GROUP: Final = (1, 2, 4, 8, 16, 32, 64, 128)


class JournalMetrics:
    """Implements shim.journal.Observer."""

    def __init__(self, registry: CollectorRegistry, wall: Callable[[], float]) -> None:
        self._lock = Lock()
        self._deliveries = DeliveryMetrics(registry, self._lock, wall)
        self._events = Counter(
            "hookshim_events_total",
            "Warnings about hooks, and about the journal, that were written to it, by reason.",
            ["reason"],
            registry=registry,
        )
        self._seconds = Histogram(
            "hookshim_journal_commit_duration_seconds",
            "The time of a transaction of the journal, until it is on the disk.",
            buckets=_COMMIT,
            registry=registry,
        )
        self._group = Histogram(
            "hookshim_journal_commit_group_size",
            "How many commits a transaction of the journal wrote together.",
            buckets=_GROUP,
            registry=registry,
        )
        self._failures = Counter(
            "hookshim_journal_commit_failures_total",
            "Transactions of the journal that could not be written, and openings that failed. What has happened "
            "meanwhile is written later, and counted then.",
            registry=registry,
        )
        self._conflicts = Counter(
            "hookshim_journal_conflicts_total",
            "Commits that were refused since the journal did not agree with what they began with.",
            registry=registry,
        )
        self._writable = Gauge(
            "hookshim_journal_writable",
            "Whether the journal could be written (1) or not (0) when that was last tried.",
            registry=registry,
        )
        self._reasons = Reasons()
        for reason in (*texts.REASONS.values(), *texts.MISSED_REASONS.values(), texts.JOURNAL_DAMAGED):
            self._events.labels(self._reasons.bounded(reason))

    def opened(self, store: Store) -> None:
        """Begin with what is open in this file; what was open in one that is set aside is nobody's any more."""
        self._writable.set(1)
        found = unfinished(store)
        with self._lock:
            self._deliveries.begin(found)

    def committed(self, commits: Sequence[Sequence[Change]], conflicts: int, seconds: float) -> None:
        """Count what was written."""
        self._writable.set(1)
        self._seconds.observe(seconds)
        self._group.observe(len(commits) + conflicts)
        if conflicts:
            self._conflicts.inc(conflicts)
        with self._lock:
            for commit in commits:
                self._deliveries.take(commit)
        for commit in commits:
            for change in commit:
                if isinstance(change, InsertEvent):
                    self._events.labels(self._reasons.bounded(change.event.reason)).inc()

    def failed(self) -> None:
        """Count a transaction that was not written."""
        self._writable.set(0)
        self._failures.inc()
