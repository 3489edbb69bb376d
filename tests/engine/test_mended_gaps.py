"""The shortest way to each mistake of the engine that the histories have found: it is mended, and stays so."""

from __future__ import annotations

import pytest

from shim.records import DeliveryState, Hook
from tests.engine.sim_containerd import Behaviour, SimContainer, Trouble
from tests.engine.sim_ports import ReadFault, Script, open_work
from tests.engine.simulation import World


def handled(world: World, container: SimContainer, hook: Hook) -> int:
    """How often a handler of the container's hook was called."""
    return sum(1 for call in world.calls if (call.container_id, call.hook) == (container.ref.id, hook))


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


def test_a_start_that_joined_one_out_of_time_gets_its_post_start(world: World) -> None:
    """The first caller's deadline passes before anything is forwarded: void. The second is the first one then."""
    world.sync = 0.01
    container = world.create(Script("succeed"))
    world.start(container, deadline=0.005)
    second = world.start(container)
    world.run(5)
    assert second.answer == "OK"
    states = [each.state for each in world.store.deliveries_of(container.ref.id)]
    assert states == [DeliveryState.VOID, DeliveryState.DELIVERED]


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


def test_a_stop_waits_for_a_start_that_is_accepted_while_it_looks(world: World) -> None:
    """Either the stop comes first, and kills nothing, or the container gets its PreStop."""
    container = world.create(Script("hang"), Script("succeed"), Behaviour(start_takes=0.002))
    world.stop(container, 30)
    world.run(0.0005)
    world.start(container)
    world.run(5)
    assert handled(world, container, Hook.POST_START) == 1
    assert handled(world, container, Hook.PRE_STOP) == bool(container.signals)


def test_a_start_that_meets_a_stop_of_what_does_not_run_comes_after_it(world: World) -> None:
    """The stop finds it CREATED; the start waits until containerd has answered that, and the container runs."""
    container = world.create(None, Script("succeed"), Behaviour(start_takes=0.0))
    stop = world.stop(container, 30)
    world.run(0.003)  # the stop looks for the last time
    start = world.start(container)
    world.run(5)
    assert (stop.answer, start.answer) == ("OK", "OK")
    assert [at < container.ran for at in container.idle_stops] == [True]
    assert container.signals == []


def test_a_stop_looks_again_at_a_start_that_was_accepted_before_it(world: World) -> None:
    """Three wait for the actor: a stop that finds it CREATED, the start, and a stop that must wait for that start."""
    container = world.create(None, Script("succeed"), Behaviour(start_takes=0.001))
    world.stop(container, 30)
    world.run(0.0018)
    world.stop(container, 30)
    world.run(0.0017)
    world.start(container)
    world.run(5)
    assert handled(world, container, Hook.PRE_STOP) == bool(container.signals)


def test_a_start_that_was_answered_is_believed_when_nobody_can_look(world: World) -> None:
    """The stop waits for the start, and the look after it meets a broken connection."""
    container = world.create(None, Script("succeed"), Behaviour(start_takes=1.0))
    world.start(container)
    world.run(0.5)
    stop = world.stop(container, 30)
    world.run(0.1)
    world.faults.to_come = [ReadFault.LOST] * 3
    world.run(5)
    assert stop.answer
    assert handled(world, container, Hook.PRE_STOP) == bool(container.signals)


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


def test_a_start_whose_record_is_owed_does_not_pass_for_one_that_had_its_hook(world: World) -> None:
    """That it came to nothing is not on the disk yet: the next start is refused, and a stop waits for neither."""
    container = world.create(
        Script("succeed"), None, Behaviour(start_trouble=Trouble.REFUSED, start_trouble_lasts=False)
    )
    world.sync = 0.1
    first = world.start(container)
    world.run(0.15)  # it is accepted, and that nothing came of it is being written
    world.disk_full = world.disk_was_bad = True
    world.run(0.3)
    assert first.answer == "FAILED_PRECONDITION"
    world.disk_full, world.sync = False, 10_000
    second = world.start(container)
    world.run(1)
    stop = world.stop(container, 30)
    assert world.run_until(lambda: bool(second.answer and stop.answer), 30)
    assert (second.answer, stop.answer) == ("UNAVAILABLE", "OK")
    assert not container.started
