"""How a start of the daemon went on with what the one before had left open."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class RecoveryMetrics:
    """Counted since this process began: over restarts, Prometheus adds them up."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._recoveries = Counter(
            "hookshim_recoveries_total",
            "Recoveries that took up open work: 0 or 1 in the life of one process.",
            registry=registry,
        )
        self._containers = Counter(
            "hookshim_recovered_containers_total",
            "Containers whose open work was taken up when the daemon started.",
            registry=registry,
        )

    def done(self, containers: int) -> None:
        """The recovery is done, and took up the work of so many containers."""
        if containers:
            self._recoveries.inc()
            self._containers.inc(containers)
