"""Hookshim is killed at every single step of the stories that matter, and at steps of the recovery after it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from shim.records import DeliveryState, Hook
from tests.engine.promises import check_end
from tests.engine.settling import settle
from tests.engine.sim_containerd import Behaviour, CutStart
from tests.engine.sim_ports import Script
from tests.engine.simulation import World

#: More steps than any of the stories has.
MANY = 500


def started_and_stopped(world: World) -> None:
    """Both hooks succeed."""
    container = world.create(Script("succeed", 1), Script("succeed", 2))
    world.start(container)
    world.run(5)
    world.stop(container, 30)
    world.run(10)


def failed_post_start(world: World) -> None:
    """PostStart fails, PreStop and the kill follow."""
    container = world.create(Script("fail", 1), Script("succeed", 2, "http"), Behaviour(term_takes=None))
    world.start(container)
    world.run(50)


def stopped_in_post_start(world: World) -> None:
    """A stop, and a shorter one, while PostStart hangs."""
    container = world.create(Script("hang"), Script("fail", 3))
    world.start(container)
    world.run(2)
    world.stop(container, 30)
    world.run(1)
    world.stop(container, 6)
    world.run(20)


def slow_start(world: World) -> None:
    """A start that its client's death fails."""
    behaviour = Behaviour(start_takes=2, cut_start=CutStart.FAILS)
    container = world.create(Script("succeed", 1), Script("succeed", 1), behaviour)
    world.start(container)
    world.run(1)
    world.stop(container, 30)
    world.run(20)


def asked_by_its_owner(world: World) -> None:
    """PreStop is skipped, and a postStop that has failed is told again."""
    container = world.create(None, Script("hang"), post_stop=Script("fail", 0.5, "http", timeout=1.0))
    world.start(container)
    world.run(1)
    world.stop(container, 30)
    world.run(1)
    for hook in (Hook.PRE_STOP, Hook.POST_STOP):
        for delivery in world.store.deliveries():
            if delivery.hook is hook and delivery.state is not DeliveryState.ARMED:
                (world.skip if delivery.state.open else world.retry)(container, delivery.id)
        world.run(5)


STORIES = [started_and_stopped, failed_post_start, stopped_in_post_start, slow_start]


def live(story: Callable[[World], None], steps: int, more: int | None = None) -> tuple[int, list[DeliveryState]]:
    """The story with a kill after so many steps, and after so many ``more``; how many kills there were, what became."""
    with closing(World()) as world:
        world.steps_left, world.more_steps = steps, more
        story(world)
        kills = world.ends
        settle(world)
        check_end(world)
        return kills, [each.state for each in world.store.deliveries()]


@pytest.mark.parametrize("story", [*STORIES, asked_by_its_owner])
def test_a_kill_at_any_step_loses_nothing(story: Callable[[World], None]) -> None:
    """Every commit, every call of containerd and of a handler, before and after; each step is one place."""
    places = 0
    while live(story, places)[0]:
        places += 1
    assert 20 < places < MANY


@pytest.mark.timeout(600)
@pytest.mark.parametrize("story", STORIES)
def test_a_second_kill_during_recovery_loses_nothing(story: Callable[[World], None]) -> None:
    """At every place, and then at every other one of what follows."""
    twice = 0
    for steps in range(MANY):
        if live(story, steps)[0] == 0:
            break
        for more in range(steps % 2, 26, 2):
            twice += live(story, steps, more)[0] == 2
    assert twice > 300


def test_a_story_that_is_not_interrupted_ends_well() -> None:
    """Both hooks delivered, or as their owner has asked: what the kills are compared with."""
    assert live(started_and_stopped, MANY) == (0, [DeliveryState.DELIVERED, DeliveryState.DELIVERED])
    assert live(asked_by_its_owner, MANY) == (0, [DeliveryState.FAILED, DeliveryState.SKIPPED])
