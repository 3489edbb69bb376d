"""New records: what is written down when a start, a stop or an end is accepted. Nothing is committed here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import structlog

from shim import plan, texts
from shim.actions import Declared
from shim.changes import Change, InsertOperation
from shim.errors import DeclarationError, JournalUnavailableError
from shim.ledger import PATIENCE
from shim.lifecycle import to_json
from shim.moves import inserted, moved, settled
from shim.ports import Container
from shim.records import (
    KUBELET,
    Delivery,
    DeliveryState,
    Hook,
    Operation,
    OperationKind,
    OperationState,
    Outcome,
    Reason,
)
from shim.table import DeliveryEvent, OperationEvent
from shim.tools import Tools

log = structlog.get_logger(__name__)


class Drafts:
    """Makes new records, with the daemon's clock, rules and settings."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def operation(
        self, container: Container, kind: OperationKind, reason: Reason, timeout: int, deadline: float | None = None
    ) -> Operation:
        """An operation that is accepted now. ``timeout`` and ``deadline`` as in ``records.Operation``."""
        clock = self._tools.clock
        return Operation(
            id=clock.new_id(),
            kind=kind,
            reason=reason,
            container=container.ref,
            state=OperationState.ACCEPTED,
            timeout=timeout,
            deadline=deadline,
            boot_id=clock.boot_id,
            created_at=clock.wall(),
        )

    def deliveries(
        self, operation: Operation, hooks: Sequence[Declared], state: DeliveryState, why: str = ""
    ) -> list[Delivery]:
        """The deliveries of an operation's hooks, all in ``state``; ``why`` is their outcome's text."""
        return [
            replace(self._delivery(operation, one.hook, position, to_json(one.handler), state, why), source=one.source)
            for position, one in enumerate(hooks)
        ]

    def pre_stops(self, container: Container) -> tuple[list[Declared], str]:
        """The PreStop hooks of a container, and what is wrong with its own declaration: all others run."""
        try:
            return plan.of(plan.hooks(container, self._tools.rules, self._tools.settings), Hook.PRE_STOP), ""
        except DeclarationError as error:
            others = (*plan.kubelets(container, self._tools.settings), *self._tools.rules.matching(container))
            return plan.of(others, Hook.PRE_STOP), texts.undeclared(container.ref, str(error))

    def until(self, container: Container, timeout: int, arrived: float, left: float | None) -> float:
        """When the countdown of a stop is over, in seconds of the boot's clock.

        The kubelet's own hook has the pod's grace, whatever the timeout: a pod that was deleted while its kubelet was
        down is stopped with 2 s.
        """
        settings = self._tools.settings
        budget: float = plan.stop_budget(timeout, container, settings)
        if plan.kubelets(container, settings):
            grace = plan.grace(container, settings)
            budget = max(budget, grace if left is None else min(grace, left))
        return arrived + budget

    def due(
        self, operation: Operation, hooks: Sequence[Declared], problem: str, *, ran: bool = False, at_once: bool = True
    ) -> list[Delivery]:
        """The PreStop deliveries; ``ran``: the kubelet has run its own; ``at_once``: the first begins now."""
        skips = operation.reason is Reason.STOP_CONTAINER and not self._tools.settings.zero_timeout_runs
        if operation.timeout == 0 and skips:
            why = "skipped: timeout 0, and the configuration says so"
            deliveries = self.deliveries(operation, hooks, DeliveryState.SKIPPED, why)
        else:
            deliveries = self.deliveries(operation, hooks, DeliveryState.PENDING)
            if ran:
                deliveries = [_skipped(one) if one.source == KUBELET else one for one in deliveries]
            first = next((index for index, one in enumerate(deliveries) if one.state.open), None)
            if first is not None and at_once:
                # It begins with the commit that accepts it.
                foreseeing = self._tools.foreseeing(deliveries[first])
                deliveries[first] = replace(
                    deliveries[first],
                    state=DeliveryState.DELIVERING,
                    attempts=1,
                    execution=foreseeing.begins if foreseeing else None,
                )
        if problem:
            undeclared = self._delivery(operation, Hook.PRE_STOP, len(hooks), "{}", DeliveryState.FAILED, problem)
            deliveries.append(undeclared)
        return deliveries

    def voided(self, operation: Operation, deliveries: Sequence[Delivery]) -> list[Change]:
        """The changes that end a start that came to nothing."""
        now = self._tools.clock.wall()
        changes = [moved(now, operation, OperationEvent.END)[1]]
        for delivery in deliveries:
            changes += settled(now, delivery, Outcome(), DeliveryEvent.START_FAILED)[1]
        return changes

    async def recorded(self, container_id: str, hook: Hook) -> bool:
        """Whether this hook of the container has a record already: a repeated request only forwards."""
        try:
            async with asyncio.timeout(PATIENCE):
                deliveries = await self._tools.journal.deliveries_of(container_id)
        except (JournalUnavailableError, TimeoutError) as error:
            log.error("the journal cannot be read: taking the hook as not yet delivered", error=str(error))
            return False
        ended = (DeliveryState.VOID, DeliveryState.SKIPPED)
        return any(delivery.hook is hook and delivery.state not in ended for delivery in deliveries)

    def _delivery(
        self, operation: Operation, hook: Hook, position: int, handler: str, state: DeliveryState, error: str = ""
    ) -> Delivery:
        clock = self._tools.clock
        return Delivery(
            id=clock.new_id(),
            operation_id=operation.id,
            container=operation.container,
            hook=hook,
            position=position,
            handler=handler,
            state=state,
            created_at=clock.wall(),
            finished_at=None if state.open else clock.wall(),
            outcome=Outcome(error),
        )


def accepted(operation: Operation, deliveries: Sequence[Delivery]) -> list[Change]:
    """The changes that accept an operation with its deliveries."""
    changes: list[Change] = [InsertOperation(operation)]
    for delivery in deliveries:
        changes += inserted(delivery)
    return changes


def _skipped(delivery: Delivery) -> Delivery:
    state, outcome = DeliveryState.SKIPPED, Outcome(texts.KUBELET_RAN)
    return replace(delivery, state=state, outcome=outcome, finished_at=delivery.created_at)
