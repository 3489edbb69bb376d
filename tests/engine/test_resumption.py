"""Open work is taken up once, whatever the runtime and the journal do meanwhile, and whoever comes first."""

from __future__ import annotations

import pytest

from shim.records import DeliveryState, Hook
from tests.engine.sim_containerd import SimContainer
from tests.engine.sim_ports import ReadFault, Script, open_work
from tests.engine.simulation import World


def handled(world: World, container: SimContainer) -> int:
    """How often a handler of the container's PreStop was called."""
    return sum(1 for call in world.calls if (call.container_id, call.hook) == (container.ref.id, Hook.PRE_STOP))


def states(world: World, container: SimContainer) -> list[DeliveryState]:
    """What became of its hooks."""
    return [delivery.state for delivery in world.store.deliveries_of(container.ref.id)]


def serves(world: World) -> bool:
    """Whether callers are let in."""
    return world.daemon.serving


@pytest.mark.parametrize("fault", [None, *ReadFault])
def test_what_many_containers_have_left_is_taken_up_whatever_the_first_answer_is(
    world: World, fault: ReadFault | None
) -> None:
    """All containers are asked for at once; if that is refused, each for itself, and if it is lost, once more."""
    containers = [world.running(pre_stop=Script("succeed", 3)) for _ in range(5)]
    ended, others = containers[0], containers[1:]
    for container in containers:
        world.stop(container, 60)
    world.run(1)
    world.kill(downtime=5)
    world.run(1)
    world.containerd.exit(ended)
    world.faults.to_come = [fault] if fault else []
    world.run(60)
    assert [handled(world, one) for one in others] == [2] * len(others)
    assert [states(world, one) for one in others] == [[DeliveryState.DELIVERED]] * len(others)
    assert (handled(world, ended), states(world, ended)) == (1, [DeliveryState.MISSED])
    assert open_work(world.store) == []


def test_a_second_stop_finds_the_one_that_began_before_the_journal_could_be_read(world: World) -> None:
    """By then the first one's record is on the disk, open: it is this daemon's own, and runs once."""
    container = world.running(pre_stop=Script("succeed", 20))
    world.disk_full = world.disk_gone = True
    world.kill()
    world.run(5)
    first = world.stop(container, 60)
    world.run(1)
    world.disk_full = world.disk_gone = False
    while not open_work(world.store):
        world.run(0.01)
    second = world.stop(container, 60)
    world.run(60)
    assert (first.answer, second.answer) == ("OK", "OK")
    assert handled(world, container) == 1
    assert open_work(world.store) == []


def test_whoever_comes_before_a_container_is_gone_on_with_finds_it_gone_on_with(world: World) -> None:
    """Callers are let in when all is compared, and what is left to do begins a few at a time: a stop joins its own."""
    containers = [world.running(pre_stop=Script("succeed", 3)) for _ in range(30)]
    for container in containers:
        world.stop(container, 60)
    world.run(1)
    world.kill()
    world.run(world.downtime)
    while not serves(world):
        world.run(0.0005)
    late = [container for container in containers if handled(world, container) == 1]
    stops = [world.stop(container, 60) for container in late]
    world.run(60)
    assert late
    assert {stop.answer for stop in stops} == {"OK"}
    assert [handled(world, container) for container in containers] == [2] * len(containers)
    assert open_work(world.store) == []
