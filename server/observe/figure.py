"""The geometry of a timeline: what stands where, in parts of its width. Pure; the templates draw it.

Every operation has an axis of its own, since a container's start and its stop are hours apart and each takes seconds.
Widths are percentages, so that texts keep their size on a narrow screen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from server.observe import words
from shim.records import Delivery, Operation, OperationKind
from shim.timeline import Track

#: Percent of the width that is left free at either side.
_MARGIN: Final = 1.0

#: The most ticks of an axis, and the steps in seconds that they may have.
_TICKS: Final = 5
_STEPS: Final = (
    *(number * unit for unit in (0.01, 0.1, 1) for number in (1, 2, 5)),
    *(10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400),
)

#: A grace that is so many times as long as all that happened is cut off.
_CUT: Final = 8.0

#: The shortest axis, in seconds.
_SHORTEST: Final = 0.1

#: The most operations of a strip: the newest.
_STRIP: Final = 4

#: Where in the width a label is written to the left of what it is about.
_TURN: Final = 55.0


@dataclass(frozen=True, slots=True)
class Now:
    """The moment of the drawing: ``wall`` in seconds since the epoch, ``boot`` in seconds of the boot's clock."""

    wall: float
    boot: float
    boot_id: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time; ``x`` and ``width`` in percent. ``kind`` is its colour's name, ``text`` says what it is."""

    x: float
    width: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment: a line over the whole height. ``before``: its text is written to its left."""

    x: float
    text: str
    kind: str

    @property
    def before(self) -> bool:
        """Whether there is more room to its left."""
        return self.x > _TURN


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a panel: a label, and bars below it."""

    label: str
    kind: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One operation. ``text`` says all of it in sentences, ``live`` that it is not at its end."""

    id: str
    title: str
    text: str
    rows: tuple[Row, ...]
    marks: tuple[Mark, ...]
    ticks: tuple[Mark, ...]
    live: bool


class Strip(NamedTuple):
    """A container in one line: bars, when the runtime was asked, the names of the parts, and all of it in words."""

    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    labels: tuple[Mark, ...]
    text: str


@dataclass(frozen=True, slots=True)
class _Scale:
    begin: float
    end: float
    left: float = _MARGIN
    right: float = 100 - _MARGIN

    def at(self, moment: float) -> float:
        part = (moment - self.begin) / (self.end - self.begin)
        return round(self.left + (self.right - self.left) * min(1.0, max(0.0, part)), 3)

    def bar(self, begin: float, end: float, kind: str, text: str) -> Bar:
        x = self.at(begin)
        return Bar(x, round(max(0.0, self.at(end) - x), 3), kind, text)


def panels(track: Track, now: Now) -> list[Panel]:
    """A container's operations, oldest first."""
    return [panel(operation, track, now) for operation in track.operations if _shown(operation, track)]


def panel(operation: Operation, track: Track, now: Now) -> Panel:
    """One operation with its hooks."""
    deliveries = track.deliveries_of(operation)
    grace = _grace_end(operation, now)
    scale = _scale(operation, track, deliveries, grace, now)
    rows = [_grace_row(operation, scale, grace)] if grace is not None else []
    if operation.kind is OperationKind.EXEC:
        end = operation.finished_at or now.wall
        kind = "open" if operation.finished_at is None else "bad" if operation.error else "good"
        took = words.lasted(end - operation.created_at)
        rows.append(Row(f"ExecSync by the kubelet · {took}", kind, (scale.bar(operation.created_at, end, kind, took),)))
    rows += [_hook_row(one, track, scale, now) for one in deliveries]
    marks = list(_marks(operation, scale))
    title = f"{words.operation(operation)} at {words.clock(operation.created_at)}"
    said = [
        f"{words.progress(operation).capitalize()}.",
        *(f"{row.label}." for row in rows),
        *(f"{one.text}." for one in marks),
    ]
    live = any(one.state.open and one.attempts for one in deliveries) or (
        operation.finished_at is None and operation.kind in (OperationKind.STOP, OperationKind.EXEC)
    )
    return Panel(operation.id, title, " ".join(said), tuple(rows), tuple(marks), tuple(_ticks(scale)), live)


def strip(track: Track, now: Now) -> Strip:
    """The newest operations beside each other in one line."""
    shown = [one for one in track.operations if _shown(one, track)][-_STRIP:]
    bars, marks, labels, said = list[Bar](), list[Mark](), list[Mark](), list[str]()
    for number, operation in enumerate(shown):
        deliveries = track.deliveries_of(operation)
        grace = _grace_end(operation, now)
        wide = _scale(operation, track, deliveries, grace, now)
        share = 100 / len(shown)
        scale = _Scale(wide.begin, wide.end, number * share + (number and _MARGIN), (number + 1) * share)
        title = words.operation(operation)
        labels.append(Mark(round(scale.left, 3), title.partition(" ")[0], "tick"))
        bars.append(scale.bar(scale.begin, scale.end, "ground", title))
        if grace is not None:
            bars += _grace_row(operation, scale, grace).bars
        for one in deliveries:
            bars += _hook_row(one, track, scale, now).bars
            said.append(f"{title}: {one.hook} {words.STATES[one.state].text}.")
        marks += [mark for mark in _marks(operation, scale) if mark.kind == "sent"]
    return Strip(tuple(bars), tuple(marks), tuple(labels), " ".join(said))


def _shown(operation: Operation, track: Track) -> bool:
    return operation.kind is OperationKind.EXEC or any(one.operation_id == operation.id for one in track.deliveries)


def _grace_end(operation: Operation, now: Now) -> float | None:
    """When a stop's countdown ends, in seconds since the epoch: its deadline is told by a clock that a boot ends."""
    if operation.kind is not OperationKind.STOP:
        return None
    if operation.deadline is not None and operation.boot_id == now.boot_id:
        return max(operation.created_at, now.wall + operation.deadline - now.boot)
    return operation.created_at + operation.timeout if operation.timeout else None


def _scale(operation: Operation, track: Track, deliveries: Sequence[Delivery], grace: float | None, now: Now) -> _Scale:
    begin = min([operation.created_at, *_begins(track, deliveries)])
    if operation.kind is OperationKind.END:
        # It was written down when its container started; what there is to see begins with the first attempt.
        begin = min(_begins(track, deliveries), default=operation.created_at)
    moments = [begin + _SHORTEST, operation.forwarded_at or 0.0, operation.finished_at or 0.0]
    for one in deliveries:
        moments += [one.next_attempt_at or 0.0, one.finished_at or 0.0 if one.attempts else 0.0]
        for attempt in track.attempts[one.id]:
            running = words.attempt_kind(one, attempt) == "open"
            moments.append(attempt.ended_at or (now.wall if running else attempt.began_at))
    if operation.finished_at is None and operation.kind in (OperationKind.STOP, OperationKind.EXEC):
        moments.append(now.wall)
    last = max(moments)
    if grace is not None:
        far = grace - begin > _CUT * (last - begin)
        last = max(last, begin + _CUT / 2 * (last - begin) if far else grace)
    return _Scale(begin, last)


def _begins(track: Track, deliveries: Sequence[Delivery]) -> list[float]:
    return [attempt.began_at for one in deliveries for attempt in track.attempts[one.id]]


def _grace_row(operation: Operation, scale: _Scale, grace: float) -> Row:
    text = f"grace period · {words.lasted(round(grace - operation.created_at, 1))}"
    return Row(text, "grace", (scale.bar(operation.created_at, grace, "grace", text),))


def _hook_row(delivery: Delivery, track: Track, scale: _Scale, now: Now) -> Row:
    state = words.STATES[delivery.state]
    label = f"{state.sign} {delivery.hook} {state.text}"
    attempts = track.attempts[delivery.id]
    bars: list[Bar] = []
    if len(attempts) > 1 or delivery.next_attempt_at is not None:
        last = delivery.next_attempt_at or attempts[-1].began_at
        bars.append(scale.bar(attempts[0].began_at if attempts else scale.begin, last, "between", "between attempts"))
    for attempt in attempts:
        kind = words.attempt_kind(delivery, attempt)
        end = attempt.ended_at or (now.wall if kind == "open" else attempt.began_at)
        took = words.lasted(end - attempt.began_at)
        text = f"attempt {attempt.number}: {words.attempt_text(delivery, attempt)}, {took}"
        bars.append(scale.bar(attempt.began_at, end, kind, text))
    if not attempts and delivery.finished_at is not None:
        bars.append(scale.bar(delivery.finished_at, delivery.finished_at, state.kind, state.text))
    if attempts:
        label += f", {len(attempts)} attempts" if len(attempts) > 1 else f", {bars[-1].text.rpartition(', ')[2]}"
    return Row(f"{label} · {words.handler(delivery)}", state.kind, tuple(bars))


def _marks(operation: Operation, scale: _Scale) -> Iterator[Mark]:
    asked, ended = "stop sent to the runtime", "not running"
    if operation.kind is OperationKind.START:
        asked, ended = "start sent to the runtime", "answered"
    if operation.forwarded_at is not None:
        yield Mark(scale.at(operation.forwarded_at), f"{asked} {_after(operation.forwarded_at - scale.begin)}", "sent")
    if operation.finished_at is not None and operation.kind in (OperationKind.START, OperationKind.STOP):
        yield Mark(scale.at(operation.finished_at), f"{ended} {_after(operation.finished_at - scale.begin)}", "ended")


def _ticks(scale: _Scale) -> Iterator[Mark]:
    length = scale.end - scale.begin
    step = next((one for one in _STEPS if length / one <= _TICKS), length / _TICKS)
    number = 0
    while number * step <= length:
        yield Mark(scale.at(scale.begin + number * step), _after(number * step), "tick")
        number += 1


def _after(seconds: float) -> str:
    return f"+{words.lasted(round(seconds, 3))}"
