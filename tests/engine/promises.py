"""What hookshim promises, as checks of a simulated world: at any moment, when nothing moves, and at the end."""

from __future__ import annotations

from collections import Counter

from shim.records import ContainerState, Delivery, DeliveryState, Hook, Operation, OperationKind, Reason
from tests.engine import known
from tests.engine.sim_callers import Caller
from tests.engine.sim_containerd import SimContainer
from tests.engine.sim_ports import open_work
from tests.engine.simulation import World

#: Seconds: more than it takes to begin to write what was accepted.
MOMENT = 2.5


def check_always(world: World) -> None:
    """Hold at every moment."""
    assert world.errors == []
    assert world.conflicts == []
    assert all(call.started for call in world.calls), "a hook of a container that was never started"
    attempts = Counter((call.delivery_id, call.attempt) for call in world.calls)
    once = all(count == 1 for count in attempts.values())
    assert once or world.disk_was_bad, "an attempt was made twice"
    for container in world.all:
        _order(world, container)
    for at, operation in world.operations.values():
        assert world.disk_was_bad or _wanted(world, at, operation), "accepted for a caller who had left"
    for caller in world.callers:
        if caller.answer == "OK":
            _answered_ok(world, caller)


def _wanted(world: World, at: float, operation: Operation) -> bool:
    """Whether somebody waited for it when it was accepted, or had done so until a moment before."""
    what = {Reason.START_CONTAINER: "start", Reason.STOP_CONTAINER: "stop(", Reason.REMOVE_CONTAINER: "remove"}
    if operation.reason not in what:
        return True
    return any(
        caller.container.ref.id == operation.container.id
        and caller.what.startswith(what[operation.reason])
        and (not caller.answer or caller.ended > at - MOMENT)
        for caller in world.callers
    )


def _order(world: World, container: SimContainer) -> None:
    """PreStop comes before the first signal, and not again after it."""
    if not container.signals or (container.ref.id, Hook.PRE_STOP) not in world.scripts or world.disk_was_bad:
        return
    if container.unseen or known.without_pre_stop(world, container):
        return
    first = container.signals[0][0]
    calls = _calls(world, container, Hook.PRE_STOP)
    assert all(at < first for at in calls), "PreStop after the signal"
    assert calls or _given_up(world, container), "a signal without PreStop"


def _given_up(world: World, container: SimContainer) -> bool:
    deliveries = world.store.deliveries_of(container.ref.id)
    return any(each.hook is Hook.PRE_STOP and "interrupted" in each.outcome.error for each in deliveries)


def _calls(world: World, container: SimContainer, hook: Hook) -> list[int]:
    return [call.at for call in world.calls if (call.container_id, call.hook) == (container.ref.id, hook)]


def _answered_ok(world: World, caller: Caller) -> None:
    container = caller.container
    if caller.what != "start":
        # Without hooks the answer is containerd's alone.
        passed = container.overtaken or known.met(container, caller)
        if container.annotations and not passed:
            assert caller.state is None or not caller.state.stoppable, "OK, and the container is running"
    elif (container.ref.id, Hook.POST_START) in world.scripts:
        called = any(at < caller.at for at in _calls(world, container, Hook.POST_START))
        excused = caller.state in (ContainerState.EXITED, None) or known.joined_start(world, container)
        assert called or excused, "started without its PostStart"


def check_settled(world: World) -> None:
    """Hold when callers and containerd have had all the time they need: what is open is waited for."""
    check_always(world)
    for operation, deliveries in open_work(world.store):
        container = next(each for each in world.all if each.ref.id == operation.container.id)
        assert operation.kind is OperationKind.START, f"{operation.id} does not end"
        [delivery] = deliveries
        if delivery.state is DeliveryState.ARMED:
            excused = known.UNPAID_RECORDS and world.disk_was_bad and container.state.stoppable
            assert excused or container.state is ContainerState.CREATED, "armed, and its container was started"
        else:
            assert delivery.state is DeliveryState.DELIVERING
            assert container.state.stoppable
            assert world.scripts[container.ref.id, Hook.POST_START].what == "hang"
    for row in world.store._db.execute("SELECT container_id FROM operation WHERE kind = 'stop' AND state = 'done'"):
        container = next(each for each in world.all if each.ref.id == row["container_id"])
        assert not container.state.stoppable, "an accepted stop is done, and the container is running"
    waiting = [caller for caller in world.callers if not caller.answer]
    for caller in waiting:
        assert caller.what == "start", "a stop is not answered"
        script = world.scripts[caller.container.ref.id, Hook.POST_START]
        assert script.what == "hang", "a start is not answered"


def check_end(world: World) -> None:
    """Hold when no container runs and none can be started any more: nothing is open, and nothing was lost."""
    check_always(world)
    assert open_work(world.store) == []
    assert world.daemon.engine._actors == {}
    assert len(world.daemon.tools.tasks) == 0
    assert [caller for caller in world.callers if not caller.answer] == []
    for container in world.all:
        deliveries = world.store.deliveries_of(container.ref.id)
        assert container.annotations or not deliveries, "a row of a container without hooks"
        for delivery in deliveries:
            _accounted(world, container, delivery)


def _accounted(world: World, container: SimContainer, delivery: Delivery) -> None:
    calls = sum(1 for call in world.calls if call.delivery_id == delivery.id)
    match delivery.state:
        case DeliveryState.DELIVERED:
            assert calls >= 1
        case DeliveryState.FAILED:
            assert delivery.outcome.error
            unsent = container.malformed or "stopped" in delivery.outcome.error
            assert calls >= 1 or unsent or "interrupted" in delivery.outcome.error
        case DeliveryState.EXITED | DeliveryState.MISSED:
            assert container.started or (world.reboots and delivery.state is DeliveryState.MISSED)
            assert not container.state.stoppable
        case DeliveryState.SKIPPED:
            assert container.started
            assert calls == 0
        case DeliveryState.VOID:
            # Of one that was removed nobody can tell whether it ran while its start was in doubt.
            removed = container.ref.id not in world.containerd.containers
            others = [one for one in world.store.deliveries_of(container.ref.id) if one.hook is delivery.hook]
            again = any(one.state is not DeliveryState.VOID for one in others)
            excused = again or removed or world.disk_was_bad or known.joined_start(world, container)
            assert not container.started or excused, "a hook that was due is void"
            left = container.leftover and not known.joined_start(world, container)
            assert not left, "a task that keeps the pod from being removed"
        case _:
            raise AssertionError(f"{delivery.id} ended as {delivery.state}")
    announced = [event for event in world.store.events() if event.delivery_id == delivery.id]
    assert len(announced) == (delivery.state in (DeliveryState.FAILED, DeliveryState.MISSED))
    assert calls <= delivery.attempts or world.disk_was_bad
    assert delivery.interruptions <= world.ends
    if world.ends == 0:
        assert calls == delivery.attempts <= 1
        assert delivery.interruptions == 0
