"""The numbers: what each way came to in each round, how ways compare, and whether that is what was promised. Pure.

A ratio is made within a round, of two measurements that lie next to each other in time, and only then is the median
taken: what slows the whole machine down for a while is in both.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

#: The way that all others are compared with.
DIRECT = "direct"

#: The way that the targets are for.
JUDGED = "relay"


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several numbers, their quartiles, and the least and the largest."""

    median: float
    low: float
    high: float
    least: float
    most: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread:
        """Raises ValueError if there are none."""
        if not numbers:
            raise ValueError("there is no median of no numbers")
        if len(numbers) == 1:
            return cls(numbers[0], numbers[0], numbers[0], numbers[0], numbers[0])
        low, median, high = statistics.quantiles(numbers, n=4, method="inclusive")
        return cls(median, low, high, min(numbers), max(numbers))


class Of(Enum):
    """What a target bounds."""

    RATIO = "ratio"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class Target:
    """What was promised of a row: the median of a ratio to direct, or of what is added to it, and its bound.

    ``bound`` is a ratio, or in the row's own unit. ``at_least``: the bound is the least, not the most.
    """

    of: Of
    bound: float
    at_least: bool = False

    def met(self, got: float) -> bool:
        """Whether ``got`` is within the bound."""
        return got >= self.bound if self.at_least else got <= self.bound


class Verdict(Enum):
    """What became of a target."""

    MET = "met"
    NOT_MET = "NOT MET"
    UNKNOWN = "not measured"


@dataclass(slots=True)
class Row:
    """One thing that is measured: the numbers of each way, one a round, in ``unit``.

    A way that could not be measured has its reason in ``missing``. ``cpu`` is seconds of hookshim's processes, and
    ``calls`` how many calls they are for.
    """

    title: str
    unit: str
    target: Target | None = None
    taken: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def note(self, way: str, value: float, cpu: float | None = None, calls: int = 0) -> None:
        """One more measurement of a way."""
        self.taken.setdefault(way, []).append(value)
        if cpu is not None:
            self.cpu[way] = self.cpu.get(way, 0.0) + cpu
            self.calls[way] = self.calls.get(way, 0) + calls

    def lose(self, way: str, why: str) -> None:
        """This way cannot be measured: what it has got is not to be trusted either."""
        self.missing[way] = why
        self.taken.pop(way, None)
        self.cpu.pop(way, None)

    def spread(self, way: str) -> Spread | None:
        """Of the numbers of a way."""
        numbers = self.taken.get(way)
        return Spread.of(numbers) if numbers else None

    def against_direct(self, way: str, of: Of = Of.RATIO) -> Spread | None:
        """How this way compares with direct, round by round; None if either was not measured."""
        direct, through = self.taken.get(DIRECT), self.taken.get(way)
        if way == DIRECT or not direct or not through:
            return None
        pairs = list(zip(direct, through, strict=True))
        return Spread.of([b / a for a, b in pairs] if of is Of.RATIO else [b - a for a, b in pairs])

    def cpu_per_call(self, way: str) -> float | None:
        """Seconds of hookshim's processes."""
        calls = self.calls.get(way, 0)
        return self.cpu[way] / calls if calls and way in self.cpu else None

    def verdict(self, way: str = JUDGED) -> Verdict | None:
        """Whether the target is met; None without a target."""
        if self.target is None:
            return None
        got = self.against_direct(way, self.target.of)
        if got is None:
            return Verdict.UNKNOWN
        return Verdict.MET if self.target.met(got.median) else Verdict.NOT_MET


@dataclass(frozen=True, slots=True)
class Check:
    """A promise that is no ratio: what was found, what was promised, and whether it is kept."""

    title: str
    found: str
    promised: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Usage:
    """Resident memory of one process in bytes: idle, and after the run (None: it has ended)."""

    whose: str
    process: str
    idle: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class Results:
    """One run: on what, how, and what came of it. ``ways`` are in the order of the columns."""

    machine: dict[str, str]
    how: dict[str, str]
    ways: tuple[str, ...]
    rows: tuple[Row, ...]
    checks: tuple[Check, ...]
    memory: tuple[Usage, ...]

    @property
    def kept(self) -> bool:
        """Whether everything that was promised was measured and is kept."""
        verdicts = [*(row.verdict() for row in self.rows), *(check.verdict for check in self.checks)]
        return all(verdict in {None, Verdict.MET} for verdict in verdicts)
