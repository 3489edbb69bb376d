"""Deliveries and events as people read them: a table where the terminal is wide enough, else a few lines for each.

A line for each, too, for what is told one after another. All that a pod's author has chosen is made printable here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from server.log import printable
from server.report import kind_of, local
from shim.records import NODE, ContainerRef, Delivery, DeliveryState, Event

_MINUTE: Final = 60

#: The narrowest column, in characters, that an error text is still readable in.
_TEXT_WIDTH: Final = 20

#: Wider than any table, in characters.
_UNBOUNDED: Final = 1 << 20

_STYLES: Final = {
    DeliveryState.DELIVERED: "green",
    DeliveryState.FAILED: "red",
    DeliveryState.MISSED: "red",
    DeliveryState.ARMED: "yellow",
    DeliveryState.PENDING: "yellow",
    DeliveryState.DELIVERING: "yellow",
}


def console() -> Console:
    """Stdout, on which text is only text."""
    return Console(highlight=False, markup=False, emoji=False)


def deliveries(to: Console, records: Sequence[Delivery]) -> RenderableType:
    """A line for each where ``to`` is wide enough, else a few lines for each. Ids are never cut."""
    wide = _table("id", "pod", "container", "hook", "handler", "state", "tries", "created", "took", folding="error")
    # Ids have 16 characters (``shim.ports``, Clock.new_id): a line of the narrow form stays below 80.
    width = max([len("id"), *(len(record.id) for record in records)])
    narrow: list[RenderableType] = [_head(f"{'id':<{width}}", "hook", "handler", "state", "took", style="bold")]
    for record in records:
        pod, name = f"{record.container.namespace}/{record.container.pod}", record.container.name
        kind, state, took = kind_of(record.handler), record.state, _took(record)
        tries, created, error = str(record.attempts), local(record.created_at), record.outcome.error
        style = _STYLES.get(record.state, "")
        cells = (record.id, pod, name, record.hook, kind, state, tries, created, took, error)
        wide.add_row(*(_text(cell, style if cell is state else "") for cell in cells))
        narrow += [
            _head(f"{record.id:<{width}}", record.hook, kind, state, took, style=style),
            _indented(f"{pod} {name}, {created}, {_tries(record)}"),
            *([_indented(error)] if error else []),
        ]
    return _fitting(to, wide, narrow)


def events(to: Console, records: Sequence[Event]) -> RenderableType:
    """A line for each where ``to`` is wide enough, else a few lines for each."""
    wide = _table("at", "reason", "pod", "container", folding="message")
    narrow: list[RenderableType] = []
    for record in records:
        pod, name, at = _pod(record.container), record.container.name, local(record.at)
        wide.add_row(*map(_text, (at, record.reason, pod, name, record.message)))
        narrow += [_text(f"{at}  {record.reason}"), _indented(f"{pod} {name}"), _indented(record.message)]
    return _fitting(to, wide, narrow)


def delivery_line(record: Delivery) -> str:
    """One delivery in one line, however long."""
    head = f"{record.id}  {record.hook:<9}  {kind_of(record.handler):<9}  {record.state:<10}"
    parts = [f"{_pod(record.container)} {record.container.name}", _tries(record), _took(record), record.outcome.error]
    return printable(f"{head}  {', '.join(part for part in parts if part)}")


def event_line(record: Event) -> str:
    """One event in one line, however long."""
    about = f"{_pod(record.container)} {record.container.name}".rstrip()
    return printable(f"{local(record.at)}  {record.reason}  {about}: {record.message}")


class Lines:
    """What is rendered, without blanks at the ends of its lines; ``fit``: its head and as much of its end as fits."""

    def __init__(self, rendered: RenderableType, *, fit: bool = False) -> None:
        self._rendered = rendered
        self._fit = fit

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines. What is newest stands at the end, and is what has to be seen."""
        lines = console.render_lines(self._rendered, options.update(height=None), pad=False)
        if self._fit:
            lines = [*lines[:1], *lines[1:][-max(1, console.height - 2) :]]
        for line in lines:
            yield from _trimmed(line)
            yield Segment.line()


def _trimmed(line: list[Segment]) -> list[Segment]:
    *rest, last = line or [Segment("")]
    if rest and not last.text.strip():
        return _trimmed(rest)
    return [*rest, Segment(last.text.rstrip(), last.style)]


def _table(*columns: str, folding: str) -> Table:
    """A table whose columns are as wide as what is in them, but for the last, which folds."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    table.add_column(folding, overflow="fold", min_width=_TEXT_WIDTH)
    return table


def _fitting(to: Console, wide: Table, narrow: Sequence[RenderableType]) -> RenderableType:
    # Measured without the console's own bound, which would make everything fit.
    unbounded = to.options.update(width=_UNBOUNDED)
    fits = to.measure(wide, options=unbounded).minimum <= to.width
    return wide if fits else Group(*narrow)


def _head(key: str, hook: str, kind: str, state: str, took: str, *, style: str) -> Text:
    return _text(f"{key}  {hook:<9}  {kind:<9}  {state:<10}  {took}", style)


def _indented(text: str) -> Padding:
    return Padding(_text(text), (0, 0, 0, 4))


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style, overflow="fold")


def _pod(container: ContainerRef) -> str:
    return "the node" if container == NODE else f"{container.namespace}/{container.pod}"


def _tries(record: Delivery) -> str:
    return f"{record.attempts} {'try' if record.attempts == 1 else 'tries'}"


def _took(record: Delivery) -> str:
    if record.finished_at is None:
        return ""
    seconds = max(0.0, record.finished_at - record.created_at)
    return f"{seconds:.1f} s" if seconds < _MINUTE else str(timedelta(seconds=round(seconds)))
