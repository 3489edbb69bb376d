"""What hookshim promises, as checks of a simulated world: at any moment, when nothing moves, and at the end."""

from __future__ import annotations

from collections import Counter

from shim import texts
from shim.ledger import PATIENCE
from shim.lifecycle import handler_from_json
from shim.records import (
    CONTAINER,
    RULE,
    ContainerState,
    Delivery,
    DeliveryState,
    Hook,
    Operation,
    OperationKind,
    Reason,
)
from tests.engine.sim_callers import Caller
from tests.engine.sim_containerd import SimContainer
from tests.engine.sim_ports import open_work
from tests.engine.simulation import World

#: Seconds: more than any look takes.
LOOK = 0.5

#: Seconds: more than it takes to begin to write what was accepted, behind what is being written.
MOMENT = PATIENCE + 0.5


def check_always(world: World) -> None:
    """Hold at every moment."""
    assert [error for error in world.errors if not (world.unread and "JournalConflictError" in error)] == []
    assert world.conflicts == [] or world.unread
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
    if container.unseen:
        return
    first = container.signals[0][0]
    if container.cut and world.lines[first][0] - world.lines[container.ran][0] < LOOK:
        # Its stop has waited for a start that was in doubt as long as it could, and was on its way.
        return
    calls = _calls(world, container, Hook.PRE_STOP)
    assert all(at < first for at in calls), "PreStop after the signal"
    assert calls or _given_up(world, container, Hook.PRE_STOP), "a signal without PreStop"


def _given_up(world: World, container: SimContainer, hook: Hook) -> bool:
    deliveries = world.store.deliveries_of(container.ref.id)
    interrupted = any("interrupted" in each.outcome.error for each in deliveries if each.hook is hook)
    return interrupted or any(_taken_back(each) for each in deliveries if each.hook is hook)


def _taken_back(delivery: Delivery) -> bool:
    """Whether the node's owner has skipped it."""
    return delivery.state is DeliveryState.SKIPPED and delivery.outcome.error == texts.skipped("it hangs")


def _calls(world: World, container: SimContainer, hook: Hook) -> list[int]:
    return [call.at for call in world.calls if (call.container_id, call.hook) == (container.ref.id, hook)]


def _answered_ok(world: World, caller: Caller) -> None:
    container = caller.container
    if caller.what in ("retry", "skip"):
        return
    if caller.what != "start":
        # Without hooks the answer is containerd's alone.
        if container.annotations and not _started_afterwards(container, caller):
            assert caller.state is None or not caller.state.stoppable, "OK, and the container is running"
    elif (container.ref.id, Hook.POST_START) in world.scripts:
        called = any(at < caller.at for at in _calls(world, container, Hook.POST_START))
        excused = caller.state in (ContainerState.EXITED, None) or _given_up(world, container, Hook.POST_START)
        assert called or excused, "started without its PostStart"


def _started_afterwards(container: SimContainer, stop: Caller) -> bool:
    """Whether containerd saw the stop first, when nothing ran, and the start then: that is no promise's business."""
    return any(stop.began < idle < container.ran for idle in container.idle_stops)


def check_settled(world: World) -> None:
    """Hold when callers and containerd have had all the time they need: what is open is waited for."""
    check_always(world)
    for operation, deliveries in open_work(world.store):
        container = next(each for each in world.all if each.ref.id == operation.container.id)
        if operation.kind is OperationKind.END:
            continue
        assert operation.kind is OperationKind.START, f"{operation.id} does not end"
        delivery = next((one for one in deliveries if one.state.open), None)
        if delivery is None or delivery.state is DeliveryState.ARMED:
            assert container.state is ContainerState.CREATED, "armed, and its container was started"
        else:
            assert delivery.state is DeliveryState.DELIVERING
            assert container.state.stoppable
            assert _hangs(world, container), "PostStart does not end"
    for row in world.store._db.execute("SELECT container_id FROM operation WHERE kind = 'stop' AND state = 'done'"):
        container = next(each for each in world.all if each.ref.id == row["container_id"])
        assert not container.state.stoppable, "an accepted stop is done, and the container is running"
    waiting = [caller for caller in world.callers if not caller.answer]
    for caller in waiting:
        assert caller.what == "start", "a stop is not answered"
        assert _hangs(world, caller.container), "a start is not answered"


def _hangs(world: World, container: SimContainer) -> bool:
    """Whether a PostStart of the container may go on for ever."""
    own = world.scripts.get((container.ref.id, Hook.POST_START))
    rules = [script for hook, script in world.rules.scripts.values() if hook is Hook.POST_START]
    return any(script.what == "hang" and script.timeout is None for script in (own, *rules) if script is not None)


def check_end(world: World) -> None:
    """Hold when no container runs and none can be started any more: nothing is open, and nothing was lost."""
    check_always(world)
    assert open_work(world.store) == []
    assert world.daemon.engine._actors == {}
    assert len(world.daemon.tools.tasks) == 0
    assert [caller for caller in world.callers if not caller.answer] == []
    for container in world.all:
        deliveries = world.store.deliveries_of(container.ref.id)
        hooked = container.annotations or world.rules.scripts
        assert hooked or not deliveries, "a row of a container without hooks"
        _told(world, container, deliveries)
        for delivery in deliveries:
            _accounted(world, container, delivery)


def _told(world: World, container: SimContainer, deliveries: list[Delivery]) -> None:
    """The end of a container that hookshim has started is told of, unless nobody hears it within its time."""
    if (container.ref.id, Hook.POST_STOP) not in world.scripts or not container.started:
        return
    told = [one for one in deliveries if one.hook is Hook.POST_STOP and one.source == CONTAINER]
    script = world.scripts[container.ref.id, Hook.POST_STOP]
    due = [one for one in told if one.state is not DeliveryState.VOID]
    # Of one that was removed before anybody looked, nobody knows that it ran.
    assert due or container.ref.id not in world.containerd.containers or world.disk_was_bad, "an end is not told of"
    for one in due:
        if _taken_back(one):
            continue
        assert one.state in (DeliveryState.DELIVERED, DeliveryState.FAILED)
        heard = script.what == "succeed"
        assert (one.state is DeliveryState.DELIVERED) is heard or world.disk_was_bad, "given up too soon"
        assert world.successes[one.id] <= 1 + world.ends, "told again, and nobody had died"


def _accounted(world: World, container: SimContainer, delivery: Delivery) -> None:
    calls = sum(1 for call in world.calls if call.delivery_id == delivery.id)
    match delivery.state:
        case DeliveryState.DELIVERED:
            assert calls >= 1
        case DeliveryState.FAILED:
            assert delivery.outcome.error
            why = delivery.outcome.error
            unsent = container.malformed or texts.STOPPED in why or texts.NO_TIME_LEFT in why
            assert calls >= 1 or unsent or "interrupted" in delivery.outcome.error
        case DeliveryState.EXITED | DeliveryState.MISSED:
            assert container.started or (world.reboots and delivery.state is DeliveryState.MISSED)
            assert not container.state.stoppable
        case DeliveryState.SKIPPED:
            assert container.started or _taken_back(delivery)
            assert calls == 0 or delivery.attempts > 0
        case DeliveryState.VOID:
            # Of one that was removed nobody can tell whether it ran while its start was in doubt.
            removed = container.ref.id not in world.containerd.containers
            others = [one for one in world.store.deliveries_of(container.ref.id) if one.hook is delivery.hook]
            again = any(one.state is not DeliveryState.VOID for one in others)
            # A rule may have gone between a start that came to nothing and the next.
            gone = delivery.source.startswith(RULE) or delivery.position > 0
            excused = again or removed or gone or world.disk_was_bad
            assert not container.started or excused, "a hook that was due is void"
            assert not container.leftover, "a task that keeps the pod from being removed"
        case _:
            raise AssertionError(f"{delivery.id} ended as {delivery.state}")
    announced = [event for event in world.store.events() if event.delivery_id == delivery.id]
    # Each time that it has failed: its owner may ask for it again.
    failures = [state for state in world.history[delivery.id] if state in (DeliveryState.FAILED, DeliveryState.MISSED)]
    assert len(announced) == len(failures)
    assert calls <= delivery.attempts or world.disk_was_bad
    assert delivery.interruptions <= world.ends
    handler = handler_from_json(delivery.handler) if delivery.handler != "{}" else None
    if handler is not None and handler.retry.attempts is not None:
        assert delivery.tries <= handler.retry.attempts, "tried more often than it has declared"
    if world.ends == 0:
        assert calls == delivery.attempts or _taken_back(delivery)
        assert delivery.interruptions == 0
