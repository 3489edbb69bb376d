"""A failing seed is worth something only if it fails again: the same seed is the same run, to the byte."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.lives import live
from tests.engine.mutations import without_waiting_for_the_disk
from tests.engine.replay import less

#: Histories that are compared.
SEEDS = range(1, 26)


def replayed(seed: int, hash_seed: str) -> str:
    """What a process of its own tells of the history; ``hash_seed`` as PYTHONHASHSEED."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.replay", str(seed)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_is_the_same_run_twice(seed: int) -> None:
    """Every line with its time, and everything that was reached; also after other histories in the same process."""
    first = live(seed)
    live(seed + 1)
    again = live(seed)
    assert again.trace == first.trace
    assert again.counts == first.counts


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_a_seed_is_the_same_run_in_another_process(seed: int) -> None:
    """Nothing depends on the hashes of text, on addresses, or on what the process has done before."""
    here = live(seed).trace
    assert replayed(seed, "1") == here
    assert replayed(seed, "4242") == here


def test_seeds_are_different_runs() -> None:
    """The seed decides: no two of them tell the same."""
    assert len({live(seed).trace for seed in SEEDS}) == len(SEEDS)


def test_a_broken_promise_is_told_again_with_the_command_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report of a failing seed is the same each time, names the command, and can be made shorter."""
    without_waiting_for_the_disk(monkeypatch)
    life = next(life for life in map(live, range(1, 1000)) if life.problem)
    assert live(life.seed).report() == life.report()
    assert f".venv/bin/python -m tests.engine.replay {life.seed}\n" in life.report()
    shorter = less(life.seed)
    assert shorter.problem.splitlines()[0] == life.problem.splitlines()[0]
    assert shorter.trace.count("▶") <= life.trace.count("▶")
