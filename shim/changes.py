"""What a commit is made of: frozen changes, applied together or not at all.

An update names the state that it expects in the journal; if the row is in another, nothing of the commit is applied.
"""

from __future__ import annotations

from dataclasses import dataclass

from shim.records import Delivery, DeliveryState, Event, Operation, OperationState


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


Change = InsertOperation | UpdateOperation | InsertDelivery | UpdateDelivery | InsertEvent
