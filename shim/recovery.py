"""What a start of the daemon does with the work that the one before it left open. Pure: decides, and does nothing.

Assumes: the journal may end anywhere between two commits; the runtime may be another generation, but it tells the
truth about containers; a handler may have had its effect without a record; nothing that this process would have to
remember is known. containerd is the truth about containers, the journal about deliveries.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from shim import texts
from shim.changes import Change, InsertEvent, UpdateDelivery, UpdateOperation
from shim.lifecycle import action_from_json
from shim.ports import Container, Ending
from shim.records import (
    ANNOUNCED,
    Delivery,
    DeliveryState,
    Hook,
    Operation,
    OperationKind,
    OperationState,
    Outcome,
)
from shim.table import DeliveryEvent, OperationEvent, next_delivery, next_operation


@dataclass(frozen=True, slots=True)
class Now:
    """The moment of recovery. ``at`` in seconds since the epoch; ``max_interruptions`` of one delivery.

    ``stopping``: a stop of the same container is open, so that its PostStart is not sent again.
    """

    at: float
    boot_id: str
    max_interruptions: int
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be committed for one operation, and what is left to do (``operation`` None: nothing).

    ``kill``: a PostStart was given up just now, so that its container is to be stopped, in the same commit.
    """

    changes: tuple[Change, ...]
    operation: Operation | None = None
    delivery: Delivery | None = None
    kill: bool = False


def reconcile(
    now: Now, operation: Operation, deliveries: list[Delivery], container: Container | None, ending: Ending | None
) -> Verdict:
    """Compare one open operation with its container as it is now (None: gone; ``ending`` if it is not running)."""
    hook = next((delivery for delivery in deliveries if delivery.state.open), None)
    if operation.boot_id != now.boot_id:
        return _over(now, operation, hook, texts.REBOOTED, DeliveryEvent.REBOOTED)
    if operation.kind is OperationKind.START and hook is not None and hook.state is DeliveryState.ARMED:
        return _armed(now, operation, hook, container, ending)
    if container is None or not container.state.stoppable:
        return _over(now, operation, hook, texts.NOT_RUNNING, DeliveryEvent.NOT_RUNNING)
    if hook is None:
        return _without_hook(now, operation)
    if now.stopping and operation.kind is OperationKind.START:
        interrupted = (DeliveryEvent.INTERRUPTED,) if hook.state is DeliveryState.DELIVERING else ()
        return _over(now, operation, hook, texts.STOPPED, *interrupted, DeliveryEvent.GIVEN_UP)
    if hook.state is DeliveryState.DELIVERING:
        return _interrupted(now, operation, hook)
    return Verdict((), operation, hook)


def _armed(
    now: Now, operation: Operation, hook: Delivery, container: Container | None, ending: Ending | None
) -> Verdict:
    if container is None or (ending is not None and not ending.started):
        return _over(now, operation, hook, "", DeliveryEvent.START_FAILED)
    if ending is not None:
        return _over(now, operation, hook, texts.NOT_RUNNING, DeliveryEvent.STARTED, DeliveryEvent.NOT_RUNNING)
    if now.stopping and container.state.stoppable:
        return _over(now, operation, hook, texts.STOPPED, DeliveryEvent.STARTED, DeliveryEvent.GIVEN_UP)
    # RUNNING is found by the resumed start itself; CREATED is no evidence, so it stays armed.
    return Verdict((), operation, hook)


def _without_hook(now: Now, operation: Operation) -> Verdict:
    if operation.kind is OperationKind.START:
        return _over(now, operation, None, "")
    if operation.state is OperationState.FORWARDED:
        # Whether it arrived is not known, so it is forwarded once more: containerd sends one TERM only.
        after = _moved(now, operation, OperationEvent.FORWARD_FAILED, "hookshim ended before the answer")
        return Verdict((UpdateOperation(after, operation.state),), after, None)
    return Verdict((), operation, None)


def _interrupted(now: Now, operation: Operation, hook: Delivery) -> Verdict:
    again = replace(
        hook, state=next_delivery(hook.state, DeliveryEvent.INTERRUPTED), interruptions=hook.interruptions + 1
    )
    if again.interruptions < now.max_interruptions:
        return Verdict((UpdateDelivery(again, hook.state),), operation, again)
    failed = replace(
        again,
        state=next_delivery(again.state, DeliveryEvent.GIVEN_UP),
        finished_at=now.at,
        outcome=Outcome(_text(again, texts.interrupted(again.interruptions))),
    )
    changes: list[Change] = [UpdateDelivery(failed, hook.state), InsertEvent(texts.event(now.at, failed))]
    if hook.hook is Hook.PRE_STOP:
        return Verdict(tuple(changes), operation, failed)
    done = _moved(now, operation, OperationEvent.END)
    changes.append(UpdateOperation(done, operation.state))
    return Verdict(tuple(changes), kill=True)


def _over(now: Now, operation: Operation, hook: Delivery | None, why: str, *events: DeliveryEvent) -> Verdict:
    changes: list[Change] = []
    if hook is not None:
        state = hook.state
        for event in events:
            state = next_delivery(state, event)
        after = replace(hook, state=state, finished_at=now.at, outcome=Outcome(_text(hook, why) if why else ""))
        changes.append(UpdateDelivery(after, hook.state))
        if state in ANNOUNCED:
            changes.append(InsertEvent(texts.event(now.at, after)))
    done = _moved(now, operation, OperationEvent.END)
    changes.append(UpdateOperation(done, operation.state))
    return Verdict(tuple(changes))


def _text(hook: Delivery, why: str) -> str:
    return texts.failed(action_from_json(hook.handler), hook.container, why)


def _moved(now: Now, operation: Operation, event: OperationEvent, error: str = "") -> Operation:
    state = next_operation(operation.kind, operation.state, event)
    finished = now.at if state is OperationState.DONE else None
    return replace(operation, state=state, finished_at=finished, error=error)
