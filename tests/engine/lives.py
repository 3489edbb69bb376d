"""One seeded history from its first container to its last promise, and what can be told of it afterwards."""

from __future__ import annotations

import random
import re
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from shim import table
from shim.plan import Settings
from tests.engine.chance import Chance
from tests.engine.drawing import draw
from tests.engine.history import History, words
from tests.engine.promises import check_always
from tests.engine.settling import settle
from tests.engine.simulation import World
from tests.engine.virtual_time import DeadlockError

#: Deliveries are given up sooner than on a node, so that it happens at all.
SETTINGS = Settings(max_interruptions=2)

Counts = Counter[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Life:
    """What became of a history. ``problem`` is empty if every promise was kept."""

    seed: int
    trace: str
    problem: str
    counts: Counts

    def report(self) -> str:
        """What a person needs who was woken by it."""
        return (
            f"\nseed {self.seed} breaks a promise:\n\n{self.problem}\n"
            f"\n{self.trace}\nthe same again, and nothing else:\n"
            f"    .venv/bin/python -m tests.engine.replay {self.seed}\n"
        )


def live(seed: int, history: History | None = None) -> Life:
    """Live through the history of ``seed``, or through another one with its chances."""
    chance = Chance(seed)
    happenings = draw(chance.of("history")) if history is None else history
    problem = ""
    with _own_random(seed), _transitions() as transitions, closing(World(SETTINGS, chance)) as world:
        try:
            for gap, happening in happenings:
                world.run(gap)
                world.trace(f"▶ {words(happening)}")
                world.count("happening", type(happening).__name__)
                happening.happen(world)
                check_always(world)
            world.trace("▶ all is well again")
            settle(world)
        except (AssertionError, DeadlockError) as error:
            problem = _words(error, world)
        lines = "".join(f"{at:10.4f} {text}\n" for at, text in world.lines)
        return Life(seed, lines, problem, world.counts + transitions)


def _words(error: Exception, world: World) -> str:
    """The promise, as it is written; an assertion may have no text of its own."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    happened = "\n".join(world.errors + world.conflicts)
    # an object without words of its own is told by its address, which is another one each time
    return re.sub(r" at 0x[0-9a-f]+", "", f"{where.name}: {where.line}\n{error}\n{happened}").strip()


@contextmanager
def _own_random(seed: int) -> Iterator[None]:
    """Whoever draws from the interpreter's own stream draws the same, too."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


class _Recorded(dict):  # type: ignore[type-arg] # stands for either table
    """A table that counts what is looked up in it."""

    def __init__(self, name: str, rows: object, counts: Counts) -> None:
        super().__init__(rows)  # type: ignore[call-overload] # as above
        self._name = name
        self._counts = counts

    def __getitem__(self, key: tuple[str, ...]) -> object:
        value = super().__getitem__(key)
        self._counts[self._name, *key] += 1
        return value


@contextmanager
def _transitions() -> Iterator[Counts]:
    """Count the transitions that are made meanwhile."""
    counts: Counts = Counter()
    before = table.DELIVERY, table.OPERATION
    table.DELIVERY = _Recorded("delivery", table.DELIVERY, counts)
    table.OPERATION = _Recorded("operation", table.OPERATION, counts)
    try:
        yield counts
    finally:
        table.DELIVERY, table.OPERATION = before
