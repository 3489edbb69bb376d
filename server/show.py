"""One delivery in full, for the node's owner alone: each attempt, what the handler said, and what happens next."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from server.log import printable
from server.report import kind_of, local, utc
from shim.errors import DeclarationError
from shim.lifecycle import describe, handler_from_json
from shim.records import AttemptRecord, Delivery, DeliveryState, Outcome

_NEXT = {
    DeliveryState.ARMED: "waits for its container to be started, or for a postStop to end",
    DeliveryState.PENDING: "is sent as soon as it is its turn",
    DeliveryState.DELIVERING: "is being delivered",
}


def text(delivery: Delivery, attempts: Sequence[AttemptRecord]) -> str:
    """As lines to read; what the handler said is printable, and each of its lines begins with a bar."""
    container = delivery.container
    lines = [
        ("delivery", delivery.id),
        ("hook", f"{delivery.hook}, number {delivery.position + 1} of its operation, declared by: {delivery.source}"),
        ("handler", _handler(delivery)),
        ("container", f"{container.name} ({container.id})"),
        ("pod", f"{container.namespace}/{container.pod} (uid {container.uid})"),
        ("state", f"{delivery.state}, since {local(delivery.finished_at or delivery.created_at)}"),
        *([("error", delivery.outcome.error)] if delivery.outcome.error else []),
        *([("next", _next(delivery))] if delivery.state.open else []),
    ]
    shown = [f"{name:<10} {printable(value)}" for name, value in lines]
    for attempt in attempts:
        shown += _attempt(attempt)
    return "\n".join(shown)


def as_json(delivery: Delivery, attempts: Sequence[AttemptRecord]) -> str:
    """A JSON object. Output is text, with U+FFFD for what is not UTF-8; headers and commands are not in it."""
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
            "error": delivery.outcome.error,
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
                for attempt in attempts
            ],
        },
        indent=2,
    )


def _handler(delivery: Delivery) -> str:
    try:
        return describe(handler_from_json(delivery.handler).action, 200)
    except DeclarationError:
        return "malformed"


def _next(delivery: Delivery) -> str:
    if delivery.next_attempt_at is not None:
        return f"attempt {delivery.attempts + 1} at {local(delivery.next_attempt_at)}"
    return _NEXT[delivery.state]


def _attempt(attempt: AttemptRecord) -> Iterator[str]:
    took = "no end was seen"
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
