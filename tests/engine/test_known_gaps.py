"""The shortest way to each gap that the histories have found (``tests.engine.known``): mended, its test must go."""

from __future__ import annotations

import pytest

from shim.records import DeliveryState, Hook
from tests.engine.sim_containerd import Behaviour, SimContainer, Trouble
from tests.engine.sim_ports import Script, open_work
from tests.engine.simulation import World


def handled(world: World, container: SimContainer, hook: Hook) -> int:
    """How often a handler of the container's hook was called."""
    return sum(1 for call in world.calls if (call.container_id, call.hook) == (container.ref.id, hook))


@pytest.mark.xfail(strict=True, reason="known.JOINED_STARTS: nobody looks at what a joining start does")
def test_a_container_that_a_joining_start_has_started_gets_its_post_start(world: World) -> None:
    """Containerd refuses the first StartContainer and carries out the second, which came while the first ran."""
    behaviour = Behaviour(start_trouble=Trouble.REFUSED, start_trouble_lasts=False)
    container = world.create(Script("succeed"), None, behaviour)
    first = world.start(container)
    world.run(0.001)
    second = world.start(container)
    world.run(5)
    assert (first.answer, second.answer) == ("FAILED_PRECONDITION", "OK")
    assert handled(world, container, Hook.POST_START) == 1


@pytest.mark.xfail(strict=True, reason="known.JOINED_STARTS: nobody looks at what a joining start does")
def test_a_start_that_joined_one_out_of_time_gets_its_post_start(world: World) -> None:
    """The first caller's deadline passes before anything is forwarded; the second has none."""
    world.sync = 0.01
    container = world.create(Script("succeed"))
    world.start(container, deadline=0.005)
    second = world.start(container)
    world.run(5)
    assert second.answer == "OK"
    assert [each.state for each in world.store.deliveries_of(container.ref.id)] == [DeliveryState.DELIVERED]


@pytest.mark.xfail(strict=True, reason="known.STALE_LOOKS: what was CREATED when it was listed is not looked at again")
@pytest.mark.parametrize("call", ["stop_pod", "remove_pod", "remove"])
def test_a_container_whose_start_ends_during_the_look_gets_its_pre_stop(world: World, call: str) -> None:
    """The look of a call that ends it says CREATED, and its start is over before the look has come home."""
    container = world.create(None, Script("succeed"))
    start = world.start(container)
    world.run(0.0515)  # the start takes 52 ms, the look 2 ms
    getattr(world, call)(container)
    world.run(5)
    assert start.answer == "OK"
    assert container.signals
    assert handled(world, container, Hook.PRE_STOP) == 1


@pytest.mark.xfail(
    strict=True, reason="known.UNSEEN_STARTS: a start that is accepted during the look is not waited for"
)
def test_a_stop_waits_for_a_start_that_is_accepted_while_it_looks(world: World) -> None:
    """PostStart runs when the stop, whose look said CREATED, kills the container."""
    container = world.create(Script("hang"), Script("succeed"), Behaviour(start_takes=0.002))
    world.stop(container, 30)
    world.run(0.0005)
    world.start(container)
    world.run(5)
    assert handled(world, container, Hook.POST_START) == 1
    assert container.signals
    assert handled(world, container, Hook.PRE_STOP) == 1


@pytest.mark.xfail(strict=True, reason="known.PASSED_ON: a stop that was passed on meets a start")
def test_a_container_that_is_started_while_a_stop_is_passed_on_gets_its_pre_stop(world: World) -> None:
    """The stop finds it CREATED, and reaches containerd after the start that came meanwhile."""
    container = world.create(None, Script("succeed"), Behaviour(start_takes=0.0))
    world.stop(container, 30)
    world.run(0.003)  # the start waits for the stop's last look, and is forwarded together with it
    world.start(container)
    world.run(5)
    assert container.signals
    assert handled(world, container, Hook.PRE_STOP) == 1


@pytest.mark.xfail(strict=True, reason="known.SKIPPED_RECOVERIES: a container that has an actor is not recovered")
def test_a_stop_before_the_recovery_does_not_keep_the_start_open(world: World) -> None:
    """The disk fails, hookshim dies in a PostStart, and the container is stopped before the journal can be read."""
    container = world.create(Script("hang"), Script("succeed", 10))
    world.start(container)
    world.run(1)
    world.disk_full = world.disk_gone = True
    world.kill()
    world.run(1)
    assert world.daemon.serving
    world.stop(container, 30)
    world.run(1)
    world.disk_full = world.disk_gone = False
    world.run(60)
    assert container.signals
    assert open_work(world.store) == []


@pytest.mark.xfail(strict=True, reason="known.UNPAID_RECORDS: nobody pays while the hook runs")
def test_what_a_full_disk_owes_is_written_when_it_has_room(world: World) -> None:
    """PostStart hangs, and the disk was full only when it began."""
    container = world.create(Script("hang"), None, Behaviour(start_takes=1.0))
    world.start(container)
    world.run(0.5)
    world.disk_full = True
    world.run(1)
    assert handled(world, container, Hook.POST_START) == 1
    world.disk_full = False
    world.run(60)
    assert [each.state for each in world.store.deliveries_of(container.ref.id)] == [DeliveryState.DELIVERING]
