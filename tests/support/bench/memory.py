"""Resident memory of every process of every hookshim, before it was asked anything and after everything."""

from __future__ import annotations

from collections.abc import Iterable

from tests.support.bench import processes
from tests.support.bench.figures import JUDGED, Check, Usage, Verdict
from tests.support.bench.stand import Stand, Way

#: Bytes of a megabyte: the smaller one, by which it is harder to keep what was promised.
_MB = 1_000_000

#: The most that an idle daemon may have, in megabytes, with no sink on.
_IDLE = 80


class Memory:
    """Looks when it is made, and once more when it is asked."""

    def __init__(self, stands: Iterable[Stand]) -> None:
        self._ways = [(where.backend, way) for where in stands for way in where.ways if way.daemon]
        self._idle = [_resident(way) for _, way in self._ways]

    def check(self) -> Check:
        """Whether an idle daemon has no more than was promised."""
        sizes = [
            idle[way.daemon.pid][1]
            for (_, way), idle in zip(self._ways, self._idle, strict=True)
            if way.daemon and way.name == JUDGED and way.daemon.pid in idle
        ]
        verdict = Verdict.UNKNOWN if not sizes else Verdict.MET if max(sizes) <= _IDLE * _MB else Verdict.NOT_MET
        found = f"{max(sizes) / _MB:.1f} MB" if sizes else "not measured"
        return Check("idle memory of the daemon, sinks off", found, f"≤ {_IDLE} MB", verdict)

    def usage(self) -> list[Usage]:
        """Of each process that there was or is."""
        found = []
        for (backend, way), idle in zip(self._ways, self._idle, strict=True):
            now = _resident(way)
            found += [
                Usage(
                    f"{way.name}, {backend}",
                    command,
                    idle[pid][1] if pid in idle else None,
                    now[pid][1] if pid in now else None,
                )
                for pid, (command, _) in (idle | now).items()
            ]
        return found


def _resident(way: Way) -> dict[int, tuple[str, int]]:
    if way.daemon is None:
        return {}
    processes.settle(way.daemon.pid)
    return processes.resident(way.daemon.pid)
