"""Kills at random moments, for what no list of failpoints has thought of. ``hack/soak`` runs more of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.containerd import PrivateContainerd
from tests.support.soak.run import soak

ROUNDS = 200


@pytest.mark.timeout(900)
def test_no_hook_call_that_is_due_is_lost_whenever_hookshim_is_killed(
    containerd: PrivateContainerd, tmp_path: Path
) -> None:
    """200 containers' lives under kills; each hook that was due was called, and the journal says so."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"hack/soak {ROUNDS} --seed {seed}; logs, if anything was wrong: {tmp_path}")  # noqa: T201 - shown if it fails
    figures = soak(containerd, ROUNDS, seed, keep=tmp_path)
    print(figures.line())  # noqa: T201 - as above
    assert "\n".join(figures.problems) == ""
    assert figures.lost == 0
    # it was a soak: hooks were due, and hookshim died among them
    assert figures.rounds == ROUNDS
    assert figures.due > ROUNDS / 2
    assert figures.kills > 0
    assert figures.delivered + figures.given_up == figures.due
