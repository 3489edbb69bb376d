"""An event's words fit where they go: a name, a message of a length, a topic of the bus."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.sinks.bus import topic
from server.sinks.correlation import Memory, correlate
from server.sinks.kube_event import bounded, created, draft
from shim.outbox import Entry
from shim.records import ContainerRef, Event
from shim.texts import MISSED_REASONS, REASONS
from tests.sinks.validation import problems

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300)


@settings(deadline=None)
@given(
    NAMES, st.text(st.characters(codec="utf-8"), min_size=1, max_size=3000), st.floats(0, 4e9), st.integers(1, 1 << 40)
)
def test_an_api_server_takes_whatever_a_pod_is_called(pod: str, message: str, at: float, row: int) -> None:
    """A name that Kubernetes would not give and a message of any length make an Event all the same."""
    container = ContainerRef("c1", "s1", "main", pod, "prod", "uid")
    entry = Entry(row, Event(at, "FailedPreStopHook", container, "d1", message))
    event = draft(entry, "node-1")
    _, posting = correlate(Memory(), event.draft)
    assert posting is not None
    body = created(event, posting, "node-1")
    assert problems(body, "prod") == []
    assert body == created(draft(entry, "node-1"), posting, "node-1")


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=2000))
def test_a_message_is_cut_only_if_it_has_to_be(message: str) -> None:
    """Whole characters, 1024 bytes, the beginning and the end."""
    short = bounded(message)
    assert len(short.encode()) <= 1024
    if len(message.encode()) <= 1024:
        assert short == message
    else:
        head, _, tail = short.partition("…")
        assert message.startswith(head)
        assert message.endswith(tail[-20:])


def test_two_events_of_one_moment_have_two_names() -> None:
    """Two containers of a pod can fail at once."""
    container = ContainerRef("c1", "s1", "main", "web", "prod", "uid")
    names = {draft(Entry(row, Event(1.5, "F", container, "d", "m")), "n").draft.name for row in range(1, 500)}
    assert len(names) == 499


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("FailedPostStartHook", "/hookshim/failed-post-start-hook"),
        ("FailedPreStopHook", "/hookshim/failed-pre-stop-hook"),
        ("JournalDamaged", "/hookshim/journal-damaged"),
        ("HTTPFailed2xx", "/hookshim/http-failed2xx"),
        ("///", "/hookshim/event"),
    ],
)
def test_a_topic_is_the_reason_in_small_letters(reason: str, expected: str) -> None:
    """As containerd's own topics are written."""
    assert topic(reason) == expected


@settings(deadline=None)
@given(st.one_of(st.sampled_from(sorted({*REASONS.values(), *MISSED_REASONS.values()})), st.text(max_size=200)))
def test_a_topic_is_one_that_containerd_takes(reason: str) -> None:
    """Two components by containerd's rule for identifiers, whatever the reason; never the CRI plugin's ``/images/``."""
    _, first, second = topic(reason).split("/")
    assert first == "hookshim"
    assert re.fullmatch(r"[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*", second)
    assert len(second) <= 76
