"""What the status page gets from the journal: bounded, without what handlers said unless it is asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from shim import timeline
from shim.changes import BeginAttempt, EndAttempt, InsertDelivery, InsertOperation
from shim.records import DeliveryState, Outcome
from shim.store import FILE, Store
from shim.timeline import FEW_ATTEMPTS, MOST, MOST_ATTEMPTS, Wanted
from tests.unit.records import delivered, delivery, done, operation


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty journal."""
    with closing(Store.open(tmp_path / FILE)) as made:
        yield made


def write(store: Store, number: int, attempts: int = 1) -> str:
    """A container with a stop whose hook was delivered at last; the hook's id."""
    stop = done(operation(number))
    made = replace(delivered(delivery(stop)), attempts=attempts)
    said = Outcome("refused", output=b"said")
    tries = [(BeginAttempt(made.id, n, 1000.0), EndAttempt(made.id, n, 1001.0, said)) for n in range(1, attempts + 1)]
    group = [InsertOperation(stop), InsertDelivery(made), *(change for pair in tries for change in pair)]
    assert store.commit([group]) == [None]
    return made.id


def test_a_page_has_what_it_asks_for_and_knows_how_many_there_are(store: Store) -> None:
    """The newest first; what comes after is on the next pages."""
    for number in range(1, 8):
        write(store, number)
    pages = [timeline.overview(store, Wanted(limit=3, offset=offset)) for offset in (0, 3, 6)]
    assert [[track.container.id for track in page.tracks] for page in pages] == [
        ["c7", "c6", "c5"],
        ["c4", "c3", "c2"],
        ["c1"],
    ]
    assert {page.total for page in pages} == {7}
    assert pages[0].counts == {DeliveryState.DELIVERED: 7}


def test_the_newest_attempts_are_shown_and_no_more(store: Store) -> None:
    """A postStop may be tried for a day."""
    key = write(store, 1, attempts=MOST_ATTEMPTS + 50)
    found = timeline.delivery(store, key, output=False)
    assert found is not None
    [*_, last] = attempts = found.track.attempts[key]
    assert (len(attempts), last.number) == (MOST_ATTEMPTS, MOST_ATTEMPTS + 50)
    [track] = timeline.overview(store, Wanted()).tracks
    assert len(track.attempts[key]) == FEW_ATTEMPTS


def test_the_newest_records_of_a_container_are_shown_and_no_more(store: Store) -> None:
    """One that was told to stop a thousand times is a page all the same."""
    for number in range(1, MOST + 20):
        stop = done(operation(number, container=operation(1).container))
        hook = replace(delivered(delivery(stop)), state=DeliveryState.SKIPPED, position=0)
        assert store.commit([[InsertOperation(stop), InsertDelivery(hook)]]) == [None]
    found = timeline.container(store, "c1", output=False)
    assert found is not None
    assert [one.id for one in found.track.operations] == [f"op{number}" for number in range(20, MOST + 20)]
    assert len(found.track.deliveries) == MOST


@pytest.mark.parametrize(("output", "said"), [(False, b""), (True, b"said")])
def test_what_handlers_said_is_read_only_if_it_is_asked_for(store: Store, *, output: bool, said: bytes) -> None:
    """And never for a page of many."""
    key = write(store, 1)
    found = timeline.container(store, "c1", output=output)
    assert found is not None
    assert [one.outcome.output for one in found.track.attempts[key]] == [said]
    assert [one.outcome.output for one in found.track.deliveries] == [b""]
    [track] = timeline.overview(store, Wanted()).tracks
    assert [one.outcome.output for one in track.attempts[key]] == [b""]


def test_a_row_that_a_bad_disk_has_spoiled_hides_no_other(store: Store, tmp_path: Path) -> None:
    """A delivery in no state that there is."""
    write(store, 1)
    write(store, 2)
    with closing(sqlite3.connect(tmp_path / FILE)) as file, file:
        file.execute("PRAGMA ignore_check_constraints = ON")
        file.execute("UPDATE delivery SET state = 'spoiled' WHERE id = 'd1'")
    found = timeline.overview(store, Wanted())
    assert {track.container.id: len(track.deliveries) for track in found.tracks} == {"c2": 1, "c1": 0}
    assert found.counts == {DeliveryState.DELIVERED: 1}


def test_what_is_not_there_is_none(store: Store) -> None:
    """A part of an id is no id here: links have it whole."""
    key = write(store, 1)
    assert timeline.container(store, "c", output=False) is None
    assert timeline.delivery(store, key[:1], output=False) is None
    assert timeline.overview(store, Wanted(text="nothing like it")).tracks == ()
