"""Like events are counted up, put together or held back by client-go's rules, and the same way again after a crash."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from server.sinks.correlation import ALIKE, BURST, REFILL_SECONDS, SAME, Draft, Memory, Posting, correlate

DRAFT = Draft("web.1", "node/Pod/web", "spec.containers{c}", "Failed", "it broke", "it broke (delivery 1)", 1000.0)


def many(*drafts: Draft, memory: Memory | None = None) -> list[Posting | None]:
    """What becomes of these, one after the other."""
    postings = []
    memory = memory or Memory()
    for draft in drafts:
        memory, posting = correlate(memory, draft)
        postings.append(posting)
    return postings


def named(number: int, **changes: Any) -> Draft:
    """The same draft under another name, as every event has its own."""
    return replace(DRAFT, name=f"web.{number}", **changes)


def test_the_same_event_within_an_hour_keeps_its_name_and_its_beginning() -> None:
    """The count goes up, the time and the message are the last one's."""
    _, again = many(DRAFT, named(2, at=1000 + SAME, message="it broke (delivery 2)"))
    assert again == Posting("web.1", "it broke (delivery 2)", 2, 1000.0, 1000 + SAME)


def test_the_same_event_after_an_hour_is_a_new_one() -> None:
    """The API server has forgotten the first by then."""
    _, later = many(DRAFT, named(2, at=1001 + SAME))
    assert later == Posting("web.2", DRAFT.message, 1, 1001 + SAME, 1001 + SAME)


def test_events_that_differ_in_anything_are_not_counted_up() -> None:
    """Another pod, another container, another reason, another text."""
    others = [
        named(2, about="node/Pod/db"),
        named(3, part="spec.containers{d}"),
        named(4, reason="Other"),
        named(5, text="it broke otherwise"),
    ]
    postings = many(DRAFT, *others)
    assert [posting and posting.count for posting in postings] == [1] * 5
    assert len({posting.name for posting in postings if posting}) == 5


def test_a_clock_that_was_set_back_takes_nothing_back() -> None:
    """The last time of an event never goes before its first."""
    _, again = many(DRAFT, named(2, at=10.0))
    assert again == Posting("web.1", DRAFT.message, 2, 1000.0, 1000.0)


def test_many_texts_of_one_reason_are_put_together() -> None:
    """The tenth within ten minutes is the first that is not its own."""
    postings = many(*(named(n, text=f"{n}", message=f"message {n}") for n in range(ALIKE + 2)))
    assert [posting and posting.count for posting in postings] == [1] * ALIKE + [2, 3]
    assert {posting.name for posting in postings[ALIKE - 1 :] if posting} == {f"web.{ALIKE - 1}"}
    assert postings[-1] is not None
    assert postings[-1].message == f"(combined from similar events): message {ALIKE + 1}"


def test_texts_that_are_far_apart_are_not_put_together() -> None:
    """Ten minutes without one begin anew."""
    postings = many(*(named(n, text=f"{n}", at=1000.0 + 601 * n) for n in range(ALIKE * 2)))
    assert [posting and posting.message for posting in postings] == [DRAFT.message] * (ALIKE * 2)


def test_a_burst_is_told_and_then_one_every_five_minutes() -> None:
    """Held back by the object, whatever the events are; and what was held back is in the next one's count."""
    flood = [named(n) for n in range(BURST + 5)]
    after = named(99, at=1000.0 + REFILL_SECONDS)
    *told, dropped, again, dropped_again = many(*flood, after, replace(after, name="web.100"))
    assert all(told[:BURST])
    assert told[BURST:] == [None] * 4
    assert dropped is None
    assert again is not None
    assert again.count == BURST + 6
    assert dropped_again is None


def test_one_objects_flood_holds_back_no_other() -> None:
    """Each has a bucket of its own."""
    assert many(*(named(n) for n in range(BURST + 1)), named(99, about="node/Pod/db"))[-1] is not None


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.sampled_from("123"), st.integers(0, 5000)),
        max_size=60,
    ),
    st.integers(0, 60),
)
def test_a_memory_that_was_saved_decides_the_same(events: list[tuple[str, str, str, int]], cut: int) -> None:
    """A process that is killed and started again at any place tells the same as one that lives on."""
    drafts = [named(n, about=a, reason=r, text=t, at=float(at)) for n, (a, r, t, at) in enumerate(events)]
    memory = Memory()
    for draft in drafts[:cut]:
        memory, _ = correlate(memory, draft)
    restarted = Memory.load(json.loads(json.dumps(memory.dump())))
    assert many(*drafts[cut:], memory=restarted) == many(*drafts[cut:], memory=memory)


def test_a_memory_stays_small() -> None:
    """A node with ever new pods writes no ever longer cursor."""
    memory = Memory()
    for number in range(2000):
        memory, posting = correlate(memory, named(number, about=f"pod{number}", at=1000.0 + number))
        assert posting is not None
    assert len(json.dumps(memory.dump())) < 200_000


def test_a_memory_of_another_kind_is_none() -> None:
    """What an earlier version or a hand has written costs a count, and stops nothing."""
    for saved in ({}, {"told": 1, "alike": {}, "buckets": {}}, {"told": {"k": {"no": 1}}, "alike": {}, "buckets": {}}):
        assert Memory.load(saved) == Memory()
