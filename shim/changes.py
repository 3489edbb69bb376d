"""What a commit is made of: frozen changes, applied together or not at all.

An update names the state that it expects in the journal; if the row is in another, nothing of the commit is applied.
"""

from __future__ import annotations

from dataclasses import dataclass

from shim.records import Delivery, DeliveryState, Event, Execution, Operation, OperationState, Outcome


@dataclass(frozen=True, slots=True)
class InsertOperation:
    """A new operation (and its container's row, if it is the first)."""

    operation: Operation


@dataclass(frozen=True, slots=True)
class UpdateOperation:
    """An operation moves on from ``expected``."""

    operation: Operation
    expected: OperationState


@dataclass(frozen=True, slots=True)
class InsertDelivery:
    """A new delivery; its operation's row must exist or be in the same commit."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class UpdateDelivery:
    """A delivery moves on from ``expected``."""

    delivery: Delivery
    expected: DeliveryState


@dataclass(frozen=True, slots=True)
class InsertEvent:
    """A Warning for people."""

    event: Event


@dataclass(frozen=True, slots=True)
class BeginAttempt:
    """An attempt of a delivery begins, ``at`` seconds since the epoch; ``execution`` is how far its process may be."""

    delivery_id: str
    number: int
    at: float
    execution: Execution | None = None


@dataclass(frozen=True, slots=True)
class NoteExecution:
    """How far the process of an attempt has come."""

    delivery_id: str
    number: int
    execution: Execution


@dataclass(frozen=True, slots=True)
class EndAttempt:
    """What an attempt came to, ``at`` seconds since the epoch."""

    delivery_id: str
    number: int
    at: float
    outcome: Outcome


Change = (
    InsertOperation
    | UpdateOperation
    | InsertDelivery
    | UpdateDelivery
    | BeginAttempt
    | NoteExecution
    | EndAttempt
    | InsertEvent
)
