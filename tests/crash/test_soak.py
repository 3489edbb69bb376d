"""Deaths at random moments, for what no list of failpoints has thought of. ``hack/soak`` plays more of them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containerd import PrivateContainerd
from tests.support.fronts import FRONTS
from tests.support.soak.moves import Victim
from tests.support.soak.run import soak

ROUNDS = 150

#: Names the seed of a run that is to be repeated. No HOOKSHIM_…: hookshim refuses such variables that it does not know.
SEED = "SOAK_SEED"


@pytest.fixture
def mortal() -> Iterator[PrivateContainerd]:
    """A containerd that may be killed, which nobody else uses."""
    with PrivateContainerd.start() as made:
        yield made


@pytest.mark.timeout(600)
def test_no_hook_call_that_is_due_is_lost_whoever_is_killed(mortal: PrivateContainerd, tmp_path: Path) -> None:
    """150 containers' lives under kills of all parties: each hook that was due was called, and the journal says so."""
    seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(1 << 32))
    print(f"{SEED}={seed}; logs, if anything was wrong: {tmp_path}")  # noqa: T201 - shown if it fails
    figures = soak(mortal, ROUNDS, seed, keep=tmp_path)
    print(figures.line())  # noqa: T201 - as above
    assert "\n".join(figures.problems) == ""
    assert figures.lost == 0
    # it was a soak: hooks were due, and everybody died among them
    assert figures.rounds == ROUNDS
    assert figures.due > ROUNDS / 2
    assert figures.kills[Victim.HOOKSHIM] > 0
    assert figures.kills[Victim.CONTAINERD] > 0
    assert figures.own_ends > 0
    # behind both front doors
    assert all(figures.fronts[front] for front in FRONTS)
    assert figures.delivered + figures.not_called.total() == figures.due
