"""The geometry of a timeline, without a browser: what stands where, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from server.observe.figure import Now, Panel, panel, panels, strip
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
from shim.timeline import Track
from tests.unit.records import REF, delivery, operation

NOW = Now(wall=1100.0, boot=500.0, boot_id="boot")
STOP = operation(container=REF, created_at=1000.0, deadline=420.0, timeout=30)


def track(of: Operation, *hooks: Delivery, attempts: Sequence[AttemptRecord] = ()) -> Track:
    """A container with one operation, and attempts of its first hook."""
    mine = {one.id: tuple(attempts if number == 0 else ()) for number, one in enumerate(hooks)}
    return Track(REF, (of,), hooks, mine)


def hook(of: Operation, state: DeliveryState, **fields: object) -> Delivery:
    """One of the operation's hooks, which has ended unless it is open."""
    made = replace(delivery(of), state=state, attempts=1, finished_at=None if state.open else 1010.0)
    return replace(made, **fields)  # type: ignore[arg-type]  # each is given in its own type


def attempt(began: float, ended: float | None, error: str = "", number: int = 1) -> AttemptRecord:
    """One attempt."""
    return AttemptRecord(number, began, ended, Outcome(error))


def bars(drawn: Panel, row: int) -> list[tuple[float, float, str]]:
    """Where the bars of a row begin and end, in seconds of an axis that is 20 s long, and their colours."""
    return [
        (round((bar.x - 1) / 98 * 20, 1), round((bar.x + bar.width - 1) / 98 * 20, 1), bar.kind)
        for bar in drawn.rows[row].bars
    ]


def test_the_grace_is_as_long_as_its_deadline_says() -> None:
    """The deadline is told by the boot's clock: 80 s before now, which is 20 s after the stop was accepted."""
    done = replace(STOP, state=OperationState.DONE, finished_at=1012.0, forwarded_at=1010.0)
    drawn = panel(done, track(done, hook(done, DeliveryState.DELIVERED), attempts=[attempt(1000.5, 1010)]), NOW)
    assert bars(drawn, 0) == [(0, 20, "grace")]
    assert bars(drawn, 1) == [(0.5, 10, "good")]
    assert [mark.text for mark in drawn.marks] == ["stop sent to the runtime +10 s", "not running +12 s"]
    assert drawn.text == (
        "Done. grace period · 20 s. ✓ preStop delivered, 9.5 s · exec [/hook]. "
        "stop sent to the runtime +10 s. not running +12 s."
    )
    assert not drawn.live


def test_the_grace_of_another_boot_is_its_timeout() -> None:
    """A deadline means nothing without its boot."""
    done = replace(STOP, boot_id="other", timeout=20, state=OperationState.DONE, finished_at=1012.0)
    drawn = panel(done, track(done, hook(done, DeliveryState.MISSED, attempts=0)), NOW)
    assert drawn.rows[0].label == "grace period · 20 s"
    assert drawn.rows[1].label == "! preStop missed · exec [/hook]"


def test_a_long_grace_does_not_squeeze_what_happened() -> None:
    """It is cut off at the right, and its label still says how long it is."""
    done = replace(STOP, boot_id="other", timeout=3600, state=OperationState.DONE, finished_at=1005.0)
    one = hook(done, DeliveryState.DELIVERED, finished_at=1005.0)
    drawn = panel(done, track(done, one, attempts=[attempt(1000, 1005)]), NOW)
    assert drawn.rows[0].label == "grace period · 60 min"
    assert bars(drawn, 0) == [(0, 20, "grace")]
    assert bars(drawn, 1) == [(0, 5, "good")]


def test_what_runs_is_drawn_until_now() -> None:
    """And the page is told that it grows."""
    now = Now(1010.0, 410.0, "boot")
    drawn = panel(STOP, track(STOP, hook(STOP, DeliveryState.DELIVERING), attempts=[attempt(1002, None)]), now)
    assert bars(drawn, 1) == [(2, 10, "open")]
    assert drawn.live


def test_attempts_that_failed_and_the_pauses_between_them_are_told_apart() -> None:
    """Each attempt has its own colour and words; what nobody saw the end of has none."""
    tries = [attempt(1000, 1002, "refused"), attempt(1005, None, number=2), attempt(1010, 1020, "refused", 3)]
    done = replace(STOP, state=OperationState.DONE, finished_at=1020.0)
    one = hook(done, DeliveryState.FAILED, attempts=3, finished_at=1020.0)
    drawn = panel(done, track(done, one, attempts=tries), NOW)
    assert bars(drawn, 1) == [(0, 10, "between"), (0, 2, "bad"), (5, 5, "calm"), (10, 20, "bad")]
    assert [bar.text for bar in drawn.rows[1].bars[1:]] == [
        "attempt 1: failed, 2 s",
        "attempt 2: no end was seen, 0 s",
        "attempt 3: failed, 10 s",
    ]


def test_an_end_begins_with_its_first_attempt() -> None:
    """It was written down when its container started, which may be weeks ago."""
    end = replace(
        STOP,
        kind=OperationKind.END,
        reason=Reason.ENDED,
        created_at=10.0,
        deadline=None,
        state=OperationState.FORWARDED,
    )
    told = hook(end, DeliveryState.PENDING, hook=Hook.POST_STOP, next_attempt_at=1020.0)
    drawn = panel(end, track(end, told, attempts=[attempt(1000, 1001, "refused")]), NOW)
    assert bars(drawn, 0) == [(0, 20, "between"), (0, 1, "bad")]


def test_ticks_are_few_and_round() -> None:
    """At most six, whatever the length."""
    for seconds in (0.01, 0.3, 7.0, 100.0, 5000.0, 86400.0, 1e7):
        done = replace(STOP, boot_id="other", timeout=0, state=OperationState.DONE, finished_at=1000 + seconds)
        one = hook(done, DeliveryState.DELIVERED, finished_at=1000 + seconds)
        drawn = panel(done, track(done, one, attempts=[attempt(1000, 1000 + seconds)]), NOW)
        assert 2 <= len(drawn.ticks) <= 6
        assert drawn.ticks[0].text == "+0 s"
        assert all(0 <= tick.x <= 100 for tick in drawn.ticks)


@pytest.mark.parametrize("number", [1, 3, 9])
def test_a_strip_shows_the_newest_beside_each_other(number: int) -> None:
    """As wide as there is room, none over another, and all of it in words."""
    stops = [replace(STOP, id=f"op{index}", state=OperationState.DONE, finished_at=1001.0) for index in range(number)]
    hooks = [hook(one, DeliveryState.DELIVERED, id=f"d{index}") for index, one in enumerate(stops)]
    whole = Track(REF, tuple(stops), tuple(hooks), {one.id: (attempt(1000, 1001),) for one in hooks})
    drawn = strip(whole, NOW)
    grounds = [bar for bar in drawn.bars if bar.kind == "ground"]
    assert len(grounds) == min(4, number)
    ends = [edge for bar in grounds for edge in (bar.x, bar.x + bar.width)]
    assert ends == sorted(ends)
    assert (ends[0], ends[-1]) == (0, 100)
    assert drawn.text.count("Stop by StopContainer: preStop delivered.") == min(4, number)


def test_an_operation_without_hooks_is_not_drawn_unless_it_is_the_kubelets() -> None:
    """A stop after a PostStart alone has nothing to show; the kubelet's own run of its preStop has itself."""
    run = replace(STOP, kind=OperationKind.EXEC, reason=Reason.EXEC_SYNC, deadline=None, finished_at=1004.0)
    assert panels(track(STOP), NOW) == []
    [drawn] = panels(track(replace(run, state=OperationState.DONE)), NOW)
    assert (drawn.title.partition(" at ")[0], drawn.rows[0].label) == (
        "The kubelet's own preStop",
        "ExecSync by the kubelet · 4 s",
    )
