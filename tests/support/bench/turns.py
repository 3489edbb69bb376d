"""Measuring by turns: every way once a round, each in the place of each, all others standing still."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.support.bench.figures import Row
from tests.support.bench.load import LoadError
from tests.support.bench.progress import Progress
from tests.support.bench.stand import Stand, Way
from tests.support.cri import CRIError


@dataclass(frozen=True, slots=True)
class Taken:
    """One measurement: a number in the row's unit; hookshim's CPU seconds (None: not looked at) for so many calls."""

    value: float
    cpu: float | None = None
    calls: int = 0


#: Takes one measurement of a way for each row, by the row's key. Raises LoadError and CRIError.
Sample = Callable[[Way], dict[str, Taken]]


def measure(rows: dict[str, Row], where: Stand, sample: Sample, rounds: int, progress: Progress) -> list[Row]:
    """Fill the rows, and give them back. Before the rounds that are counted there is one that is thrown away.

    A single round is counted as it is: its numbers are not meant to be trusted.

    A way that fails once is left out from then on, with the reason; the others go on. Raises KeyboardInterrupt between
    two measurements.
    """
    title = next(iter(rows.values())).title
    lost = dict(where.missing)
    warm_up = 1 if rounds > 1 else 0
    for number in range(rounds + warm_up):
        for way in by_turns(where.ways, number):
            progress.show(f"{title}: round {number} of {rounds}, {way.name}")
            if way.name in lost:
                continue
            try:
                with where.alone(way):
                    taken = sample(way)
            except (LoadError, CRIError) as error:
                lost[way.name] = str(error)
                continue
            for key, one in taken.items() if number >= warm_up else ():
                rows[key].note(way.name, one.value, one.cpu, one.calls)
    for name, why in lost.items():
        for row in rows.values():
            row.lose(name, why)
    return list(rows.values())


def by_turns(ways: Sequence[Way], number: int) -> list[Way]:
    """The ways in the order of this round: each is first, second and last equally often."""
    turn = number % len(ways) if ways else 0
    return [*ways[turn:], *ways[:turn]]
