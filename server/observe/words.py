"""The words of the pages: states, times and durations, for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from shim.errors import DeclarationError
from shim.lifecycle import describe, handler_from_json
from shim.records import (
    KUBELET,
    RULE,
    AttemptRecord,
    Delivery,
    DeliveryState,
    Operation,
    OperationKind,
    OperationState,
    Outcome,
    Reason,
)

#: Characters of a handler in a table, and on a page of its own.
SHORT, LONG = 60, 300


@dataclass(frozen=True, slots=True)
class Word:
    """A state as it is shown: never by ``kind``'s colour alone. ``meaning`` is a sentence."""

    text: str
    sign: str
    kind: str
    meaning: str


STATES: Final = {
    DeliveryState.PENDING: Word("pending", "◌", "open", "It is due, and waits for its turn or its next attempt."),
    DeliveryState.DELIVERING: Word("delivering", "▶", "open", "It is being sent now."),
    DeliveryState.FAILED: Word("failed", "✕", "bad", "It was sent, and what it was for was not done."),
    DeliveryState.MISSED: Word("missed", "!", "bad", "It was due, and could not be sent any more."),
    DeliveryState.ARMED: Word("armed", "◦", "wait", "It waits for its container to start or to end."),
    DeliveryState.DELIVERED: Word("delivered", "✓", "good", "It was sent, and has done what it was for."),
    DeliveryState.EXITED: Word("exited", "■", "calm", "Its container ended first."),
    DeliveryState.SKIPPED: Word("skipped", "-", "calm", "It was not to be sent."),
    DeliveryState.VOID: Word("void", "∅", "calm", "Its container was not started."),
}

#: What a page can be asked to show: a word and the states that it stands for.
FILTERS: Final = {
    "open": (DeliveryState.PENDING, DeliveryState.DELIVERING),
    **{state.value: (state,) for state in STATES},
}

_WHO: Final = {"container": "the container's annotation", "pod": "its pod's annotation", KUBELET: "its kubelet"}

_KINDS: Final = {
    OperationKind.START: "Start",
    OperationKind.STOP: "Stop",
    OperationKind.END: "End",
    OperationKind.EXEC: "The kubelet's own preStop",
}

_MILLISECOND, _MINUTE, _HOUR, _DAY = 0.001, 60, 3600, 86400


def handler(delivery: Delivery, limit: int = SHORT) -> str:
    """What is done, in a line: without header values and environments."""
    try:
        return describe(handler_from_json(delivery.handler).action, limit)
    except DeclarationError:
        return "malformed"


def source(delivery: Delivery) -> str:
    """Who declared it."""
    rule = delivery.source.removeprefix(RULE)
    return f"the node's rule {rule}" if rule != delivery.source else _WHO.get(delivery.source, delivery.source)


def next_step(delivery: Delivery) -> str:
    """What happens next to a delivery that is open; empty for any other."""
    if delivery.next_attempt_at is not None:
        return f"attempt {delivery.attempts + 1} at {clock(delivery.next_attempt_at)}"
    return STATES[delivery.state].meaning if delivery.state.open else ""


def result(outcome: Outcome) -> str:
    """What an attempt that has ended came to."""
    if outcome.exit_status is not None:
        return f"exit status {outcome.exit_status}"
    if outcome.http_status is not None:
        return f"HTTP status {outcome.http_status}"
    return "failed" if outcome.error else "succeeded"


def attempt_kind(delivery: Delivery, attempt: AttemptRecord) -> str:
    """The colour of an attempt: ``open``, ``good``, ``bad``, or ``calm`` where nobody has judged it."""
    if attempt.ended_at is None:
        runs = delivery.state is DeliveryState.DELIVERING and attempt.number == delivery.attempts
        return "open" if runs else "calm"
    if attempt.number == delivery.attempts and not delivery.state.open:
        return STATES[delivery.state].kind
    return "bad" if attempt.outcome.error else "good"


def attempt_text(delivery: Delivery, attempt: AttemptRecord) -> str:
    """What came of an attempt, in a few words."""
    if attempt.ended_at is not None:
        return result(attempt.outcome)
    return "running" if attempt_kind(delivery, attempt) == "open" else "no end was seen"


def operation(one: Operation) -> str:
    """What an operation is called."""
    plain = one.reason in (Reason.START_CONTAINER, Reason.ENDED, Reason.EXEC_SYNC)
    return _KINDS[one.kind] if plain else f"{_KINDS[one.kind]} by {one.reason}"


def progress(one: Operation) -> str:
    """How far an operation has come."""
    match one.state:
        case OperationState.ACCEPTED:
            return "waits for the container's end" if one.kind is OperationKind.END else "its hooks run"
        case OperationState.HOOKS_DONE:
            return "its hooks have ended"
        case OperationState.FORWARDED:
            return "the runtime was asked"
        case OperationState.DONE:
            return "done"


def clock(at: float) -> str:
    """A time of the node's day, with the date if that is not today."""
    there = datetime.fromtimestamp(at, UTC).astimezone()
    today = there.date() == datetime.now(UTC).astimezone().date()
    return there.strftime("%H:%M:%S" if today else "%b %d %H:%M:%S")


def exact(at: float) -> str:
    """RFC 3339 in UTC, to milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def lasted(seconds: float) -> str:
    """A duration, in its own unit."""
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{max(1, round(seconds / _MILLISECOND))} ms" if seconds else "0 s"
    for unit, size in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def zone() -> str:
    """The node's time zone."""
    here = datetime.now(UTC).astimezone()
    return here.strftime("%Z, UTC%z") if here.utcoffset() else "UTC"
