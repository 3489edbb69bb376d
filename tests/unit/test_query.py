"""The owner's questions to the journal: what each choice leaves, of any version's journal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.reading import ask
from shim import query
from shim.changes import InsertDelivery, InsertEvent, InsertOperation
from shim.query import Filter, NotOneError
from shim.records import DeliveryState, Event, Hook
from shim.store import FILE, Store
from tests.cli.bed import ALL, ARMED, AT, DB, DELIVERED, ODD, REFUSED, STARTED, TOLD, WAITING, WEB, commit, write
from tests.cli.bed import delivery as made
from tests.cli.bed import operation as of
from tests.unit.records import write_version_1


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The journal of the golden files."""
    with closing(Store.open(write(tmp_path / "state") / FILE)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ALL),
        ({"pod": WEB.pod}, (DELIVERED, ARMED)),
        ({"pod": "db"}, ()),
        ({"namespace": "odd"}, (REFUSED,)),
        ({"namespace": "production", "pod": DB.pod}, (STARTED, WAITING)),
        ({"container": "db"}, (STARTED, WAITING)),
        ({"container": WEB.id[: query.SHORTEST_ID]}, (DELIVERED, ARMED)),
        ({"container": WEB.id}, (DELIVERED, ARMED)),
        ({"container": WEB.id[: query.SHORTEST_ID - 1]}, ()),
        ({"container": ODD.name}, (REFUSED,)),
        ({"container": "%"}, ()),
        ({"hook": Hook.POST_STOP}, (WAITING, ARMED)),
        ({"states": frozenset({DeliveryState.FAILED, DeliveryState.PENDING})}, (REFUSED, WAITING)),
        ({"limit": 2}, (WAITING, ARMED)),
        ({"limit": 1, "hook": Hook.PRE_STOP}, (REFUSED,)),
        # Begun before and ended after: it is of this time too.
        ({"since": AT + 60 * 3 + 99}, (REFUSED, ARMED)),
        ({"since": AT + 60 * 3 + 101}, (ARMED,)),
        ({"since": AT + 10000}, ()),
    ],
)
def test_a_choice_leaves_what_meets_all_of_it(store: Store, wanted: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """The newest last; a limit takes the newest; no glob and no wildcard is read into a name."""
    found = query.deliveries(store, Filter(**wanted))
    assert [one.id for one in found] == [one.id for one in expected]


def test_a_list_holds_no_output(store: Store) -> None:
    """What a handler has said is read for one delivery alone; all else is as it was written."""
    found = query.deliveries(store, Filter())
    assert DELIVERED.outcome.output
    assert found == [replace(one, outcome=replace(one.outcome, output=b"")) for one in ALL]


def test_an_event_is_chosen_by_its_delivery(store: Store) -> None:
    """One of the node is nobody's: any choice but a time leaves it out."""
    everything = query.events(store, Filter())
    assert [event.reason for event in everything.events] == ["FailedPreStopHook", "JournalDamaged"]
    for wanted in (Filter(namespace="odd"), Filter(hook=Hook.PRE_STOP), Filter(states=frozenset({REFUSED.state}))):
        assert query.events(store, wanted).events == (TOLD,)
    for wanted in (Filter(hook=Hook.POST_START), Filter(pod="db-0"), Filter(since=AT + 10000)):
        assert query.events(store, wanted).events == ()


def test_after_an_answer_only_what_is_new_is_told(store: Store) -> None:
    """Also if the first answer had nothing of it; of another journal everything is new."""
    before = query.events(store, Filter(limit=1))
    assert query.events(store, Filter(), before).events == ()
    assert query.events(store, Filter(), replace(before, born=before.born + 1)).events != ()
    commit(store, (InsertEvent(replace(TOLD, message="again")),))
    news = query.events(store, Filter(), before)
    assert [event.message for event in news.events] == ["again"]
    assert query.events(store, Filter(), news).events == ()


def test_a_story_is_found_by_a_beginning_that_is_one_deliverys_alone(store: Store) -> None:
    """A whole id is never ambiguous; attempts and events come with it."""
    longer = made(6, DB, DeliveryState.DELIVERED, id=f"{REFUSED.id}0")
    commit(store, (InsertOperation(of(longer)), InsertDelivery(longer)))
    story = query.story(store, REFUSED.id)
    assert (story.delivery, len(story.attempts), story.events) == (REFUSED, 2, (TOLD,))
    assert query.story(store, longer.id).delivery == longer
    with pytest.raises(NotOneError, match="more than one delivery begins with"):
        query.story(store, "0")
    with pytest.raises(NotOneError, match="there is no delivery"):
        query.story(store, "f")


def test_an_older_journals_copy_is_chosen_from_alike(tmp_path: Path) -> None:
    """Its file is left as it is, and every question finds what it asks for."""
    write_version_1(tmp_path / FILE)
    chosen = Filter(pod="web", namespace="default", container="main", hook=Hook.PRE_STOP, since=1.5)
    found = ask(tmp_path / FILE, lambda store: query.deliveries(store, chosen))
    assert found is not None
    assert [one.id for one in found] == ["d1"]
    told = ask(tmp_path / FILE, lambda store: query.events(store, chosen))
    assert told is not None
    assert [event.message for event in told.events] == ["told"]
    story = ask(tmp_path / FILE, lambda store: query.story(store, "d"))
    assert story is not None
    assert (story.operation.id, story.events) == (
        "op1",
        (Event(2.0, "FailedPreStopHook", story.delivery.container, "d1", "told"),),
    )


def test_what_the_doctor_asks_is_answered(store: Store) -> None:
    """The oldest that is due, the newest time, what PostStarts there were, and that the file is whole."""
    assert query.oldest_open(store) == (WAITING.id, DeliveryState.PENDING, WAITING.created_at, WAITING.next_attempt_at)
    commit(store, (InsertEvent(Event(AT + 1e9, "JournalDamaged", TOLD.container, TOLD.delivery_id, "later")),))
    assert query.newest_time(store) == AT + 1e9
    assert query.start_handlers(store, 10) == [STARTED.handler]
    assert query.damage(store) == ""
    assert Path(query.file_of(store)).name == FILE
