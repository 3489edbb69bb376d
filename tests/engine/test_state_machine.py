"""Whatever happens in whatever order, no accepted delivery is lost and no state is left that recovery does not move."""

from __future__ import annotations

from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings

from shim.plan import Settings
from tests.engine.history import History, histories, histories_on_a_bad_disk
from tests.engine.promises import check_always
from tests.engine.settling import settle
from tests.engine.simulation import World

#: Deliveries are given up sooner than on a node, so that it happens at all.
SETTINGS = Settings(max_interruptions=2)

lives = settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def live_through(history: History) -> None:
    """Everything in the history, one after the other, with the promises checked at each moment."""
    with closing(World(SETTINGS)) as world:
        for gap, happening in history:
            world.run(gap)
            happening.happen(world)
            check_always(world)
        settle(world)


@pytest.mark.timeout(600)
@lives
@given(histories)
def test_whatever_happens_no_delivery_is_lost(history: History) -> None:
    """Callers, containers, containerd and hookshim itself come and go."""
    live_through(history)


@pytest.mark.timeout(600)
@settings(lives, max_examples=800)
@given(histories_on_a_bad_disk)
def test_whatever_happens_on_a_bad_disk_no_stop_is_lost(history: History) -> None:
    """The same, and the journal's disk is full or hangs at times."""
    live_through(history)
