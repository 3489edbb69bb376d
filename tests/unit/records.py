"""Records as a journal holds them, for the tests of what keeps and moves them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shim.changes import Change, InsertDelivery, InsertOperation
from shim.records import (
    ContainerRef,
    Delivery,
    DeliveryState,
    Hook,
    Operation,
    OperationKind,
    OperationState,
    Outcome,
    Reason,
)

REF = ContainerRef("c1", "s1", "main", "web", "default", "uid-1")


def operation(number: int = 1, **fields: Any) -> Operation:
    """An accepted stop of a container of its own."""
    made = Operation(
        id=f"op{number}",
        kind=OperationKind.STOP,
        reason=Reason.STOP_CONTAINER,
        container=replace(REF, id=f"c{number}"),
        state=OperationState.ACCEPTED,
        timeout=30,
        deadline=1234.5,
        boot_id="boot",
        created_at=1000.25,
    )
    return replace(made, **fields)


def delivery(of: Operation, **fields: Any) -> Delivery:
    """Its PreStop, being delivered; of a start, its PostStart, armed."""
    starts = of.kind is OperationKind.START
    made = Delivery(
        id=of.id.replace("op", "d"),
        operation_id=of.id,
        container=of.container,
        hook=Hook.POST_START if starts else Hook.PRE_STOP,
        position=0,
        handler='{"exec": {"command": ["/hook"]}}',
        state=DeliveryState.ARMED if starts else DeliveryState.DELIVERING,
        created_at=1000.25,
        attempts=0 if starts else 1,
    )
    return replace(made, **fields)


def accepted(number: int) -> tuple[Change, ...]:
    """What a commit that accepts a stop is made of."""
    stop = operation(number)
    return InsertOperation(stop), InsertDelivery(delivery(stop))


def done(of: Operation) -> Operation:
    """The operation at its end."""
    return replace(of, state=OperationState.DONE, finished_at=2000.5)


def delivered(of: Delivery) -> Delivery:
    """The delivery at a good end."""
    outcome = Outcome(exit_status=0, output=b"\xff\x00out")
    return replace(of, state=DeliveryState.DELIVERED, finished_at=2000.5, outcome=outcome)
