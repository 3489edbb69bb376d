"""The bench's numbers: compared within a round, judged against what was promised, and never made of nothing."""

from __future__ import annotations

import pytest

from tests.support.bench.figures import Check, Of, Results, Row, Spread, Target, Verdict


def row(target: Target | None = None) -> Row:
    """A row with three rounds, of which the machine was twice as slow in the second."""
    made = Row("Version", "µs", target)
    for direct, relay in ((100.0, 120.0), (200.0, 240.0), (100.0, 130.0)):
        made.note("direct", direct)
        made.note("relay", relay, 0.004, 100)
    return made


def results(*rows: Row, checks: tuple[Check, ...] = ()) -> Results:
    """A run with these rows."""
    return Results({}, {}, ("direct", "relay", "grpc"), rows, checks, ())


def test_a_spread_is_the_median_the_quartiles_and_the_range() -> None:
    """A spread tells where the middle lies, where the middle half, and how far it goes."""
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(median=3.0, low=2.0, high=4.0, least=1.0, most=5.0)


def test_one_number_is_its_own_spread() -> None:
    """A single round has a median, too."""
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0, 7.0, 7.0)


def test_there_is_no_spread_of_no_numbers() -> None:
    """Nothing measured is an error, not a zero."""
    with pytest.raises(ValueError, match="no median"):
        Spread.of([])


def test_ways_are_compared_within_a_round() -> None:
    """A round in which the whole machine was slow does not show in the ratio."""
    compared = row().against_direct("relay")
    assert compared is not None
    assert (compared.least, compared.median, compared.most) == pytest.approx((1.2, 1.2, 1.3))


def test_what_is_added_is_the_median_of_the_rounds() -> None:
    """A bound in the row's unit is held against what each round added."""
    added = row().against_direct("relay", Of.ADDED)
    assert added is not None
    assert added.median == pytest.approx(30.0)


def test_cpu_is_told_for_one_call_of_all_rounds() -> None:
    """CPU time is summed over all rounds first: the kernel counts in steps that are coarser than a call."""
    assert row().cpu_per_call("relay") == pytest.approx(4e-5)
    assert row().cpu_per_call("direct") is None


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        (Target(Of.RATIO, 1.2), Verdict.MET),
        (Target(Of.RATIO, 1.19), Verdict.NOT_MET),
        (Target(Of.RATIO, 1.2, at_least=True), Verdict.MET),
        (Target(Of.RATIO, 1.21, at_least=True), Verdict.NOT_MET),
        (Target(Of.ADDED, 30.0), Verdict.MET),
        (Target(Of.ADDED, 29.0), Verdict.NOT_MET),
    ],
)
def test_a_target_is_met_up_to_its_bound(target: Target, verdict: Verdict) -> None:
    """A bound is a most or a least, of a ratio or of what is added, and is met when it is reached."""
    assert row(target).verdict() is verdict


def test_a_row_without_a_target_is_not_judged() -> None:
    """What nobody promised is told and not judged."""
    assert row().verdict() is None
    assert results(row()).kept


def test_a_way_that_failed_has_no_numbers_and_meets_no_target() -> None:
    """Half of a way's rounds are not shown as if they were all, and what was not measured was not met."""
    made = row(Target(Of.RATIO, 2.0))
    made.lose("relay", "it went away")
    assert made.spread("relay") is None
    assert made.cpu_per_call("relay") is None
    assert made.verdict() is Verdict.UNKNOWN
    assert not results(made).kept


def test_everything_is_kept_only_if_every_row_and_check_is() -> None:
    """The exit status is of all targets together."""
    met = row(Target(Of.RATIO, 2.0))
    assert results(met).kept
    assert not results(met, row(Target(Of.RATIO, 1.0))).kept
    assert not results(met, checks=(Check("memory", "90 MB", "≤ 80 MB", Verdict.NOT_MET),)).kept
