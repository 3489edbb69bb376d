"""The results for people: Markdown whose tables are aligned, so that a terminal shows them as well as a browser."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from tests.support.bench.figures import DIRECT, JUDGED, Of, Results, Row, Spread, Target, Usage

#: Where there is no number.
_NOTHING = "-"


def render(results: Results) -> str:
    """Everything, ending with a newline."""
    through = [way for way in results.ways if way != DIRECT]
    head = ["", "unit", *results.ways, *(f"{way} ÷ direct" for way in through), *(f"CPU {way}" for way in through)]
    body = [_line(row, results.ways) for row in results.rows]
    parts = [
        "\n".join(f"- {name}: {text}" for name, text in (results.machine | results.how).items()),
        _table([*head, "target", ""], body),
        _table(
            ["promise", "found", "target", ""],
            [[check.title, check.found, check.promised, check.verdict.value] for check in results.checks],
        ),
        _table(["resident memory", "process", "idle", "after the run"], [_memory(usage) for usage in results.memory]),
        "\n".join(f"- {line}" for line in _reasons(results.rows)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def number(value: float) -> str:
    """With about three digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _line(row: Row, ways: Sequence[str]) -> list[str]:
    through = [way for way in ways if way != DIRECT]
    verdict = row.verdict()
    return [
        row.title,
        row.unit,
        *(_cell(row.spread(way)) for way in ways),
        *(_cell(row.against_direct(way)) for way in through),
        *(_cpu(row.cpu_per_call(way)) for way in through),
        _target(row.target, row.unit),
        "" if row.target is None or verdict is None else f"{verdict.value}{_added(row, row.target)}",
    ]


def _cell(spread: Spread | None) -> str:
    """The median, and between which numbers the middle half lies, if there is more than one."""
    if spread is None:
        return _NOTHING
    if spread.least == spread.most:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.low)}…{number(spread.high)})"


def _cpu(seconds: float | None) -> str:
    return _NOTHING if seconds is None else f"{number(seconds * 1e6)} µs"


def _target(target: Target | None, unit: str) -> str:
    if target is None:
        return ""
    sign = "≥" if target.at_least else "≤"
    return f"{sign} {target.bound:g}" if target.of is Of.RATIO else f"{sign} direct + {target.bound:g} {unit}"


def _added(row: Row, target: Target) -> str:
    """How much was added, where that is what was promised: no other column has it."""
    got = row.against_direct(JUDGED, target.of)
    return "" if target.of is Of.RATIO or got is None else f" ({got.median:+.1f} {row.unit})"


def _memory(usage: Usage) -> list[str]:
    sizes = (_NOTHING if size is None else f"{size / 1e6:.1f} MB" for size in (usage.idle, usage.after))
    return [usage.whose, usage.process, *sizes]


def _reasons(rows: Sequence[Row]) -> Iterator[str]:
    """Why something was not measured; the same reason is told once, with all that it is for."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for way, why in row.missing.items():
            reasons.setdefault((way, why), []).append(row.title)
    for (way, why), titles in reasons.items():
        what = titles[0] if len(titles) == 1 else f"{titles[0]} and {len(titles) - 1} more"
        yield f"{way} was not measured ({what}): {why}"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    if not body:
        return ""
    widths = [max(_width(line[at]) for line in (head, *body)) for at in range(len(head))]
    rule = ["-" * max(width, 3) for width in widths]
    return "\n".join(
        "| "
        + " | ".join(cell + " " * (max(width, 3) - _width(cell)) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in (head, rule, *body)
    )


def _width(text: str) -> int:
    """The columns it takes on a terminal."""
    return sum(0 if unicodedata.combining(each) else 1 for each in text)
