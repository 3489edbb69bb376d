"""One delivery in full, for the node's owner alone: its operation, its attempts, what was said, and what is next."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from server.log import printable
from server.report import event_object, kind_of, local, utc
from shim.errors import DeclarationError
from shim.lifecycle import describe, handler_from_json
from shim.query import Story
from shim.records import (
    AttemptRecord,
    Delivery,
    DeliveryState,
    Hook,
    Operation,
    OperationKind,
    OperationState,
    Outcome,
    Reason,
)

_NEXT = {
    DeliveryState.ARMED: "waits for its container to be started, or for a postStop to end",
    DeliveryState.PENDING: "is sent as soon as it is its turn",
    DeliveryState.DELIVERING: "is being delivered",
}

#: What is still to come of an operation whose hook has an outcome.
_THEN = {
    OperationKind.START: "StartContainer is answered once all of its hooks have ended",
    OperationKind.STOP: "the container is stopped once all of its hooks have ended",
    OperationKind.END: "the container's other postStop hooks are told",
    OperationKind.EXEC: "the kubelet's command is waited for",
}

#: Why there is an operation that nobody has asked for with a call of that name.
_BECAUSE = {
    Reason.POST_START_FAILED: "because its postStart failed",
    Reason.EXITED: "because the container exited by itself",
    Reason.ENDED: "for whenever the container ends",
    Reason.EXEC_SYNC: "by the kubelet's ExecSync",
}


@dataclass(frozen=True, slots=True)
class Now:
    """The boot's clock and the wall's as they are read together: a deadline is of the one, people go by the other."""

    boot_id: str
    boottime: float
    wall: float

    def wall_of(self, operation: Operation) -> float | None:
        """When the operation's deadline is, in seconds since the epoch; None if it has none, or not in this boot."""
        if operation.deadline is None or operation.boot_id != self.boot_id:
            return None
        return self.wall + operation.deadline - self.boottime


def text(story: Story, now: Now) -> str:
    """As lines to read; what the handler said is printable, and each of its lines begins with a bar."""
    delivery, operation = story.delivery, story.operation
    container = delivery.container
    lines = [
        ("delivery", delivery.id),
        ("hook", f"{delivery.hook}, number {delivery.position + 1} of its operation, declared by: {delivery.source}"),
        ("handler", _handler(delivery)),
        ("container", f"{container.name} ({container.id})"),
        ("pod", f"{container.namespace}/{container.pod} (uid {container.uid})"),
        ("state", f"{delivery.state}, since {local(delivery.finished_at or delivery.created_at)}"),
        *([("error", delivery.outcome.error)] if delivery.outcome.error else []),
        ("operation", _operation(operation)),
        *([("", f"error: {operation.error}")] if operation.error else []),
        *([("deadline", deadline)] if (deadline := _deadline(operation, now)) else []),
        *([("sent on", f"at {local(operation.forwarded_at)}")] if operation.forwarded_at is not None else []),
        *([("retried", f"by the owner at {local(delivery.retried_at)}")] if delivery.retried_at is not None else []),
        ("next", _next(story, local)),
    ]
    shown = [f"{name:<10} {printable(value)}".rstrip() for name, value in lines]
    for attempt in story.attempts:
        shown += _attempt(attempt, delivery)
    for event in story.events:
        shown.append(f"event      {local(event.at)}, {printable(f'{event.reason}: {event.message}')}")
    return "\n".join(shown)


def as_json(story: Story, now: Now) -> str:
    """A JSON object. Output is text, with U+FFFD for what is not UTF-8; headers and commands are not in it."""
    delivery, operation = story.delivery, story.operation
    container = delivery.container
    return json.dumps(
        {
            "id": delivery.id,
            "hook": delivery.hook,
            "position": delivery.position,
            "handler": kind_of(delivery.handler),
            "source": delivery.source,
            "container_id": container.id,
            "container": container.name,
            "sandbox_id": container.sandbox_id,
            "pod": container.pod,
            "namespace": container.namespace,
            "uid": container.uid,
            "state": delivery.state,
            "created_at": utc(delivery.created_at),
            "finished_at": utc(delivery.finished_at),
            "next_attempt_at": utc(delivery.next_attempt_at),
            "retried_at": utc(delivery.retried_at),
            "next": _next(story, lambda at: str(utc(at))),
            "error": delivery.outcome.error,
            "operation": {
                "kind": operation.kind,
                "reason": operation.reason,
                "state": operation.state,
                "timeout_seconds": operation.timeout if operation.kind is OperationKind.STOP else None,
                "deadline_at": utc(now.wall_of(operation)),
                "created_at": utc(operation.created_at),
                "forwarded_at": utc(operation.forwarded_at),
                "finished_at": utc(operation.finished_at),
                "error": operation.error,
            },
            "attempts": [
                {
                    "number": attempt.number,
                    "began_at": utc(attempt.began_at),
                    "ended_at": utc(attempt.ended_at),
                    "exit_status": attempt.outcome.exit_status,
                    "http_status": attempt.outcome.http_status,
                    "error": attempt.outcome.error,
                    "output": attempt.outcome.output.decode(errors="replace"),
                }
                for attempt in story.attempts
            ],
            "events": [event_object(event) for event in story.events],
        },
        indent=2,
    )


def _handler(delivery: Delivery) -> str:
    try:
        return describe(handler_from_json(delivery.handler).action, 200)
    except DeclarationError:
        return "malformed"


def _operation(operation: Operation) -> str:
    timeout = f", timeout {operation.timeout} s" if operation.kind is OperationKind.STOP else ""
    since = local(operation.finished_at or operation.created_at)
    state = operation.state.replace("_", " ")
    return (
        f"{operation.kind}, {_BECAUSE.get(operation.reason, f'by {operation.reason}')}{timeout}; {state} since {since}"
    )


def _deadline(operation: Operation, now: Now) -> str:
    if operation.deadline is None or operation.state is OperationState.DONE:
        return ""
    at = now.wall_of(operation)
    if at is None:
        return "of an earlier boot, so it is over"
    left = at - now.wall
    return f"{local(at)}, {f'in {left:.0f} s' if left > 0 else 'which has passed'}"


def _next(story: Story, when: Callable[[float], str]) -> str:
    delivery, operation = story.delivery, story.operation
    if delivery.next_attempt_at is not None:
        return f"attempt {delivery.attempts + 1} at {when(delivery.next_attempt_at)}"
    if delivery.state.open:
        return _NEXT[delivery.state]
    if operation.state is OperationState.FORWARDED and operation.kind is OperationKind.STOP:
        return "nothing for this hook; the container is being stopped"
    if operation.state is not OperationState.DONE:
        return f"nothing for this hook; {_THEN[operation.kind]}"
    if delivery.state is DeliveryState.FAILED and delivery.hook is Hook.POST_STOP:
        return "nothing, unless `hookshim deliveries retry` sends it again"
    return "nothing"


def _attempt(attempt: AttemptRecord, delivery: Delivery) -> Iterator[str]:
    current = delivery.state is DeliveryState.DELIVERING and attempt.number == delivery.attempts
    took = "no end was seen yet" if current else "no end was seen"
    if attempt.ended_at is not None:
        took = f"took {max(0.0, attempt.ended_at - attempt.began_at):.1f} s, {_result(attempt.outcome)}"
    yield f"attempt {attempt.number}  {local(attempt.began_at)}, {took}"
    for line in attempt.outcome.output.decode(errors="replace").splitlines():
        yield f"  | {printable(line)}"


def _result(outcome: Outcome) -> str:
    if outcome.exit_status is not None:
        return f"exit status {outcome.exit_status}"
    if outcome.http_status is not None:
        return f"HTTP status {outcome.http_status}"
    return "failed" if outcome.error else "succeeded"
