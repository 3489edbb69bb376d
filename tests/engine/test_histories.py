"""Ten thousand simulated histories, each from one seed: loop order, time, ids, callers, faults and deaths.

``HOOKSHIM_SIM_SEED`` is the first seed (1), ``HOOKSHIM_SIM_HISTORIES`` how many there are (10,000); a failure names
the one command that tells it again, exactly.
"""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from tests.engine.lives import Counts, Life, live
from tests.engine.reach import BEYOND, FIRST, HISTORIES, RARE, told, wanted

#: Histories of one test.
_CHUNK = 1000

CHUNKS = [range(first, min(first + _CHUNK, FIRST + HISTORIES)) for first in range(FIRST, FIRST + HISTORIES, _CHUNK)]

#: Fewer than this need not reach what is rare.
_ENOUGH = 10_000


@cache
def lived(seeds: range) -> tuple[Counts, list[Life]]:
    """What these histories have reached, and those that broke a promise; each is lived through once a run."""
    counts: Counts = Counter()
    broken = []
    for seed in seeds:
        life = live(seed)
        counts += life.counts
        if life.problem:
            broken.append(life)
    return counts, broken


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seeds", CHUNKS, ids=lambda seeds: f"seeds {seeds[0]} to {seeds[-1]}")
def test_every_history_keeps_every_promise(seeds: range) -> None:
    """Whatever happens in whatever order, nothing that was accepted is lost, and nothing is told that is not so."""
    _, broken = lived(seeds)
    if broken:
        also = f"also broken: {[life.seed for life in broken[1:]]}\n" if broken[1:] else ""
        pytest.fail(f"{broken[0].report()}{also}", pytrace=False)


@pytest.mark.timeout(900)
@pytest.mark.skipif(HISTORIES < _ENOUGH, reason="too few histories were asked for")
def test_the_histories_reach_every_transition_and_failpoint() -> None:
    """Every row of the table is taken, every failpoint is passed and died at; what cannot be is named with a reason."""
    counts: Counts = Counter()
    for seeds in CHUNKS:
        counts += lived(seeds)[0]
    reached = {each for each in wanted() if counts[each]}
    assert not reached & set(BEYOND), "no longer beyond reach"
    assert wanted() - reached - set(RARE) == set(BEYOND), told(counts)
