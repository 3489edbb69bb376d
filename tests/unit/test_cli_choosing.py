"""How what was typed to choose deliveries and events is read."""

from __future__ import annotations

import time
from typing import Any

import click
import pytest

from server.cli.choosing import chosen
from server.cli.events import events
from shim.query import Filter
from shim.records import DeliveryState, Hook


def read(*words: str) -> Filter:
    """The choice, as the command gets it. Raises click.UsageError."""
    given: dict[str, Any] = dict(events.make_context("events", list(words)).params)
    for beside in ("as_json", "follow"):
        del given[beside]
    return chosen(**given)


def test_nothing_typed_is_everything() -> None:
    """As before there were choices."""
    assert read() == Filter()


def test_each_option_is_one_part_of_the_choice() -> None:
    """A pod may bring its namespace; open stands for three states."""
    assert read("--pod", "a", "-n", "b", "--container", "c", "--limit", "3") == Filter("a", "b", "c", limit=3)
    assert read("--pod", "b/a") == read("--pod", "a", "--namespace", "b") == read("--pod", "b/a", "-n", "b")
    assert read("--hook", "preStop").hook is Hook.PRE_STOP
    opened = {DeliveryState.ARMED, DeliveryState.PENDING, DeliveryState.DELIVERING}
    assert read("--state", "open", "--state", "failed").states == opened | {DeliveryState.FAILED}


@pytest.mark.parametrize(("typed", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2d", 172800)])
def test_since_may_say_how_long_ago(typed: str, seconds: float) -> None:
    """From the moment at which it is asked."""
    before = time.time()
    since = read("--since", typed).since
    assert since is not None
    assert before - seconds <= since <= time.time() - seconds


@pytest.mark.parametrize("typed", ["2024-06-01T08:34:56.5Z", "2024-06-01T10:34:56.5+02:00", "2024-06-01 08:34:56.5Z"])
def test_since_may_be_a_time_of_any_zone(typed: str) -> None:
    """RFC 3339, as JSON has it."""
    assert read("--since", typed).since == 1_717_230_896.5


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--since", "2024-06-01T08:34:56"], "expected a time ago, as 90s, 30m, 2h or 1d, or a time with its zone"),
        (["--since", "-5m"], "expected a time ago"),
        (["--since", ""], "expected a time ago"),
        (["--since", "99999999999d"], "expected a time ago"),
        (["--state", "lost"], "'lost' is not one of 'open', 'armed', "),
        (["--hook", "preStopp"], "'preStopp' is not one of 'postStart', 'preStop', 'postStop'"),
        (["--limit", "0"], "0 is not in the range"),
        (["--pod", "a/b", "--namespace", "c"], "--pod names the namespace 'a', --namespace 'c': give one of them"),
    ],
)
def test_what_is_no_choice_is_refused_with_what_was_expected(words: list[str], expected: str) -> None:
    """All of it is usage: exit 2."""
    with pytest.raises(click.UsageError) as refused:
        read(*words)
    assert expected in refused.value.format_message()
