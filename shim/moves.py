"""A record's next state with the changes that say so, in one commit. Pure: the table's transitions, applied.

All take ``at``, the seconds since the epoch for the times that people read.
"""

from __future__ import annotations

from dataclasses import replace

from shim import texts
from shim.changes import BeginAttempt, Change, EndAttempt, InsertDelivery, InsertEvent, UpdateDelivery, UpdateOperation
from shim.records import ANNOUNCED, Delivery, DeliveryState, Execution, Operation, OperationState, Outcome
from shim.table import DeliveryEvent, OperationEvent, next_delivery, next_operation

_BEFORE_SEND = {
    DeliveryState.ARMED: (DeliveryEvent.STARTED,),
    DeliveryState.DELIVERING: (DeliveryEvent.INTERRUPTED,),
}


def moved(at: float, operation: Operation, event: OperationEvent, error: str = "") -> tuple[Operation, Change]:
    """The operation after ``event``."""
    state = next_operation(operation.kind, operation.state, event)
    finished = at if state is OperationState.DONE else None
    forwarded = at if event is OperationEvent.FORWARD else operation.forwarded_at
    after = replace(operation, state=state, forwarded_at=forwarded, finished_at=finished, error=error)
    return after, UpdateOperation(after, operation.state)


def inserted(delivery: Delivery) -> list[Change]:
    """A new delivery, with its first attempt if that begins in the same moment, and an event if it has failed."""
    changes: list[Change] = [InsertDelivery(delivery)]
    if delivery.state is DeliveryState.DELIVERING:
        changes.append(BeginAttempt(delivery.id, delivery.attempts, delivery.created_at, delivery.execution))
    if delivery.state in ANNOUNCED:
        changes.append(InsertEvent(texts.event(delivery.created_at, delivery)))
    return changes


def opened(delivery: Delivery, event: DeliveryEvent) -> tuple[Delivery, Change]:
    """The delivery after an ``event`` that makes it due."""
    after = replace(delivery, state=next_delivery(delivery.state, event))
    return after, UpdateDelivery(after, delivery.state)


def sent(at: float, delivery: Delivery, execution: Execution | None = None) -> tuple[Delivery, list[Change]]:
    """The delivery with one more attempt begun: one that was armed is due, one that was delivering was interrupted.

    ``execution``: how far the attempt's process may be from now on.
    """
    interrupted = delivery.state is DeliveryState.DELIVERING
    before = _BEFORE_SEND.get(delivery.state, ())
    after = replace(
        delivery,
        state=_walk(delivery.state, *before, DeliveryEvent.SEND),
        attempts=delivery.attempts + 1,
        interruptions=delivery.interruptions + interrupted,
        next_attempt_at=None,
        execution=execution,
    )
    return after, [UpdateDelivery(after, delivery.state), BeginAttempt(after.id, after.attempts, at, execution)]


def postponed(at: float, delivery: Delivery, outcome: Outcome, next_at: float) -> tuple[Delivery, list[Change]]:
    """The delivery after an attempt that failed and is followed by another one, at ``next_at``."""
    state = next_delivery(delivery.state, DeliveryEvent.RETRY)
    after = replace(delivery, state=state, outcome=outcome, next_attempt_at=next_at)
    return after, [UpdateDelivery(after, delivery.state), EndAttempt(after.id, after.attempts, at, outcome)]


def settled(at: float, delivery: Delivery, outcome: Outcome, *events: DeliveryEvent) -> tuple[Delivery, list[Change]]:
    """The delivery with its outcome, the end of its attempt, and an event if people should hear of it."""
    after = replace(
        delivery, state=_walk(delivery.state, *events), outcome=outcome, finished_at=at, next_attempt_at=None
    )
    changes: list[Change] = [UpdateDelivery(after, delivery.state)]
    if delivery.state is DeliveryState.DELIVERING:
        changes.append(EndAttempt(after.id, after.attempts, at, outcome))
    if after.state in ANNOUNCED:
        changes.append(InsertEvent(texts.event(at, after)))
    return after, changes


def withdrawn(at: float, delivery: Delivery, why: str) -> tuple[Delivery, list[Change]]:
    """The delivery after its owner has taken it back."""
    return settled(at, delivery, Outcome(why), DeliveryEvent.OWNER_SKIP)


def hurried(at: float, delivery: Delivery) -> tuple[Delivery, Change]:
    """A delivery that waits for its next attempt, which is to begin at once."""
    after = replace(delivery, state=next_delivery(delivery.state, DeliveryEvent.OWNER_RETRY), next_attempt_at=at)
    return after, UpdateDelivery(after, delivery.state)


def reopened(
    at: float, boot_id: str, operation: Operation, delivery: Delivery
) -> tuple[Operation, Delivery, list[Change]]:
    """A delivery that has failed, due once more, with its operation, which may be over.

    Its attempts are counted from here.
    """
    changes: list[Change] = []
    if operation.state is OperationState.DONE:
        operation, change = moved(at, replace(operation, boot_id=boot_id), OperationEvent.OWNER_RETRY)
        changes.append(change)
    after = replace(
        delivery,
        state=next_delivery(delivery.state, DeliveryEvent.OWNER_RETRY),
        interruptions=0,
        next_attempt_at=at,
        finished_at=None,
        execution=None,
        retried_at=at,
        attempts_before=delivery.attempts,
    )
    return operation, after, [*changes, UpdateDelivery(after, delivery.state)]


def _walk(state: DeliveryState, *events: DeliveryEvent) -> DeliveryState:
    for event in events:
        state = next_delivery(state, event)
    return state
