"""Events are read on from where a sink was, of this journal and no other, and what is missing is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.outbox import Batch, Place, read
from shim.records import NODE
from tests.sinks.bed import Events


@pytest.fixture
def events(tmp_path: Path) -> Iterator[Events]:
    """A journal with five events, one a minute."""
    made = Events(tmp_path / "state")
    for number in range(1, 6):
        made.fail(pod=f"pod{number}", at=60.0 * number)
    yield made
    made.store.close()


def pods(batch: Batch) -> list[str]:
    """Whom a batch is about."""
    return [entry.event.container.pod for entry in batch.entries]


def test_a_batch_goes_on_after_the_place_oldest_first(events: Events) -> None:
    """No more than asked for at once, with what the event says."""
    batch = read(events.store, Place(events.store.born(), 2), since=0, limit=2)
    assert pods(batch) == ["pod3", "pod4"]
    assert [entry.id for entry in batch.entries] == [3, 4]
    assert (batch.place.id, batch.gone) == (2, 0)
    assert batch.entries[0].event.delivery_id == "d3"
    assert batch.entries[0].event.at == 180.0


@pytest.mark.parametrize(
    ("since", "place", "expected"),
    [(0.0, 0, ["pod1", "pod2", "pod3", "pod4", "pod5"]), (240.0, 3, ["pod4", "pod5"]), (301.0, 5, [])],
)
def test_without_a_place_it_begins_at_a_time(events: Events, since: float, place: int, expected: list[str]) -> None:
    """What is older is passed over, and is not missing."""
    batch = read(events.store, None, since, limit=100)
    assert (batch.place.id, pods(batch), batch.gone) == (place, expected, 0)


def test_of_another_journal_everything_is_new(events: Events) -> None:
    """A new journal's rows begin again; the old one's place says nothing about them."""
    batch = read(events.store, Place(events.store.born() - 1, 4), since=1000, limit=100)
    assert batch.place == Place(events.store.born(), 0)
    assert len(batch.entries) == 5


def test_a_journal_that_was_put_back_goes_on_at_its_end(events: Events) -> None:
    """A copy of an earlier state ends before the place: what comes next is told, not passed over."""
    born = events.store.born()
    batch = read(events.store, Place(born, 9), since=0, limit=100)
    assert (batch.place, batch.entries) == (Place(born, 5), ())
    events.fail(pod="next")
    assert pods(read(events.store, batch.place, since=0, limit=100)) == ["next"]


def test_what_was_deleted_before_it_was_read_is_counted_once(events: Events) -> None:
    """Before the next event, between two, and at the end."""
    born = events.store.born()
    events.store.rows("DELETE FROM event WHERE id IN (2, 4, 5)", {})
    batch = read(events.store, Place(born, 1), since=0, limit=100)
    assert (pods(batch), batch.gone) == (["pod3"], 1)
    batch = read(events.store, Place(born, 3), since=0, limit=100)
    assert (batch.place, batch.entries, batch.gone) == (Place(born, 5), (), 2)
    assert read(events.store, batch.place, since=0, limit=100).gone == 0


def test_an_event_about_the_node_is_about_no_container(events: Events) -> None:
    """It has neither container nor delivery."""
    events.damage("the journal was damaged")
    [entry] = read(events.store, Place(events.store.born(), 5), since=0, limit=100).entries
    assert (entry.event.container, entry.event.delivery_id) == (NODE, "")
