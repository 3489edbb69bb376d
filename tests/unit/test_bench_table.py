"""The bench's table: as wide as it has to be, with the targets beside the numbers, and a reason where there is none."""

from __future__ import annotations

import pytest

from tests.support.bench.figures import Check, Of, Results, Row, Target, Usage, Verdict
from tests.support.bench.table import number, render


def results() -> Results:
    """A small run: a way that was lost, a target that is met and one that is not."""
    version = Row("Version, 1 caller", "µs", Target(Of.RATIO, 1.35))
    for direct, relay in ((100.0, 110.0), (90.0, 100.0), (100.0, 120.0)):
        version.note("direct", direct)
        version.note("relay", relay, 0.035, 1000)
    version.lose("grpc", "it does not start: no")
    start = Row("exec PostStart", "ms", Target(Of.ADDED, 5.0))
    start.note("direct", 50.0)
    start.note("relay", 58.0)
    start.lose("grpc", "it does not start: no")
    return Results(
        {"machine": "a CPU"},
        {"mode": "quick"},
        ("direct", "relay", "grpc"),
        (version, start),
        (Check("idle memory", "77 MB", "≤ 80 MB", Verdict.MET),),
        (Usage("relay, containerd 1.6.20", "hookshim serve", 77_040_000, None),),
    )


def cells(line: str) -> list[str]:
    """What is between a table line's bars."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def line_of(title: str) -> list[str]:
    """The cells of the line that begins with a title."""
    found = [line for line in render(results()).splitlines() if line.startswith(f"| {title} ")]
    assert len(found) == 1
    return cells(found[0])


def test_a_line_has_medians_quartiles_ratios_cpu_and_the_target() -> None:
    """Each number stands in its way's column, and what was promised and came of it at the end."""
    assert line_of("Version, 1 caller") == [
        "Version, 1 caller",
        "µs",
        "100 (95.0…100)",
        "110 (105…115)",
        "-",
        "1.11 (1.11…1.16)",
        "-",
        "35.0 µs",
        "-",
        "≤ 1.35",
        "met",
    ]


def test_a_single_round_has_no_spread_and_a_target_in_units_tells_what_was_added() -> None:
    """A number that stands for itself has no range; a bound that is no ratio is told with what it bounds."""
    told = line_of("exec PostStart")
    assert told[2:4] == ["50.0", "58.0"]
    assert told[-2:] == ["≤ direct + 5 ms", "NOT MET (+8.0 ms)"]


def test_every_line_of_a_table_has_the_same_width() -> None:
    """The table reads on a terminal as in a browser."""
    blocks = [block.splitlines() for block in render(results()).split("\n\n") if block.startswith("|")]
    assert len(blocks) == 3
    assert all(len({len(line) for line in block}) == 1 for block in blocks)


def test_why_a_way_was_not_measured_is_told_once() -> None:
    """A way that is missing everywhere has one reason, with how much it is for."""
    told = [line for line in render(results()).splitlines() if "not measured" in line]
    assert told == ["- grpc was not measured (Version, 1 caller and 1 more): it does not start: no"]


def test_memory_of_a_process_that_has_ended_is_not_made_up() -> None:
    """What there is no number for is a dash."""
    assert line_of("relay, containerd 1.6.20") == ["relay, containerd 1.6.20", "hookshim serve", "77.0 MB", "-"]


def test_the_machine_and_the_mode_come_first() -> None:
    """Nobody reads a number before what it was measured on."""
    assert render(results()).startswith("- machine: a CPU\n- mode: quick\n\n|")


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0.0, "0.00")]
)
def test_numbers_have_the_digits_that_mean_something(value: float, text: str) -> None:
    """Three digits or so, and thousands apart."""
    assert number(value) == text
