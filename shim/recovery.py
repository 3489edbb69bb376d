"""What a start of the daemon does with the work that the one before it left open. Pure: decides, and does nothing.

Assumes: the journal may end anywhere between two commits; the runtime may be another generation, but it tells the
truth about containers; a handler may have had its effect without a record; nothing that this process would have to
remember is known. containerd is the truth about containers, the journal about deliveries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shim import texts
from shim.actions import ExecAction, RunAction
from shim.changes import Change
from shim.lifecycle import handler_from_json
from shim.moves import moved, settled
from shim.ports import Container
from shim.records import (
    SIGNALLED,
    Delivery,
    DeliveryState,
    Ending,
    Operation,
    OperationKind,
    OperationState,
    Outcome,
)
from shim.table import DeliveryEvent, OperationEvent


@dataclass(frozen=True, slots=True)
class Now:
    """The moment of recovery; ``at`` in seconds since the epoch."""

    at: float
    boot_id: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be committed for one operation, and what is left to do (``operation`` None: nothing)."""

    changes: tuple[Change, ...]
    operation: Operation | None = None
    deliveries: tuple[Delivery, ...] = ()


def reconcile(
    now: Now, operation: Operation, deliveries: Sequence[Delivery], container: Container | None, ending: Ending | None
) -> Verdict:
    """Compare one open start or stop with its container as it is now (None: gone; ``ending`` if it is not running).

    A hook that was being delivered is left so: its handler is asked first whether that attempt is to be found.
    """
    hooks = [delivery for delivery in deliveries if delivery.state.open]
    if operation.boot_id != now.boot_id:
        return _over(now, operation, hooks, texts.REBOOTED, DeliveryEvent.REBOOTED)
    if operation.kind is OperationKind.START and any(hook.state is DeliveryState.ARMED for hook in hooks):
        return _armed(now, operation, hooks, container, ending)
    if container is None or not container.state.stoppable:
        return _over(now, operation, hooks, texts.NOT_RUNNING, DeliveryEvent.NOT_RUNNING)
    if hooks:
        return Verdict((), operation, tuple(deliveries))
    if operation.kind is OperationKind.START:
        return _over(now, operation, [], "")
    if operation.state is OperationState.FORWARDED:
        # Whether it arrived is not known, so it is forwarded once more: containerd sends one TERM only.
        after, change = moved(now.at, operation, OperationEvent.FORWARD_FAILED, "hookshim ended before the answer")
        return Verdict((change,), after)
    return Verdict((), operation)


def _armed(
    now: Now, operation: Operation, hooks: Sequence[Delivery], container: Container | None, ending: Ending | None
) -> Verdict:
    if container is None or (ending is not None and not ending.started):
        return _over(now, operation, hooks, "", DeliveryEvent.START_FAILED)
    if ending is not None:
        return _over(now, operation, hooks, texts.NOT_RUNNING, DeliveryEvent.STARTED, DeliveryEvent.NOT_RUNNING)
    # RUNNING is found by the resumed start itself; CREATED is no evidence, so it stays armed.
    return Verdict((), operation, tuple(hooks))


def _over(now: Now, operation: Operation, hooks: Sequence[Delivery], why: str, *events: DeliveryEvent) -> Verdict:
    changes: list[Change] = []
    for hook in hooks:
        outcome, event = _known(hook)
        if event is not None:
            changes += settled(now.at, hook, outcome, event)[1]
        else:
            changes += settled(now.at, hook, Outcome(_text(hook, why) if why else ""), *events)[1]
    _, change = moved(now.at, operation, OperationEvent.END)
    return Verdict((*changes, change))


def _known(hook: Delivery) -> tuple[Outcome, DeliveryEvent | None]:
    """What a hook came to whose process's exit status was still recorded."""
    status = hook.execution.exit_status if hook.execution is not None else None
    # After a signal, nobody can tell whether it failed or its container ended under it.
    if hook.state is not DeliveryState.DELIVERING or status is None or status > SIGNALLED:
        return Outcome(), None
    if status == 0:
        return Outcome(exit_status=0), DeliveryEvent.SUCCEEDED
    return Outcome(_text(hook, texts.exited_with(_command(hook), status)), exit_status=status), DeliveryEvent.FAILED


def _command(hook: Delivery) -> tuple[str, ...]:
    action = handler_from_json(hook.handler).action
    return action.command if isinstance(action, ExecAction | RunAction) else ()


def _text(hook: Delivery, why: str) -> str:
    return texts.failed(handler_from_json(hook.handler).action, hook.container, why)
