"""Deliveries and attempts as the metrics count them, fed by a real journal with the engine's own changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.metrics import Metrics
from shim.changes import Change, InsertOperation
from shim.journal import Journal
from shim.moves import inserted, moved, opened, postponed, reopened, sent, settled, withdrawn
from shim.records import Delivery, DeliveryState, Hook, Operation, OperationKind, OperationState, Outcome, Reason
from shim.table import DeliveryEvent, OperationEvent
from tests.support.metrics import Scrape
from tests.unit.records import delivery, operation

#: What the metrics take for now, in seconds since the epoch.
NOW = 5000.0

PRE_STOP = ("exec", "preStop")

FAILED = Outcome("it failed", exit_status=1)


class Kept:
    """One journal and the metrics of the daemon that has it open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = Metrics(lambda: NOW)
        self.journal: Journal

    async def open(self) -> None:
        """Open the journal, as a daemon that starts does."""
        self.metrics = Metrics(lambda: NOW)
        self.journal = await Journal.open(self.path, lambda: NOW, observer=self.metrics.journal)

    async def restart(self) -> None:
        """Another daemon opens it."""
        await self.journal.close()
        await self.open()

    async def commit(self, *changes: Change) -> None:
        """Commit."""
        await self.journal.commit(*changes)

    async def insert(self, of: Operation, *deliveries: Delivery) -> None:
        """Accept an operation."""
        changes: list[Change] = [InsertOperation(of)]
        for one in deliveries:
            changes += inserted(one)
        await self.commit(*changes)

    async def settle(self, one: Delivery, at: float, outcome: Outcome, *events: DeliveryEvent) -> Delivery:
        """Give a delivery an outcome."""
        after, changes = settled(at, one, outcome, *events)
        await self.commit(*changes)
        return after

    async def send(self, one: Delivery, at: float) -> Delivery:
        """Begin an attempt."""
        after, changes = sent(at, one)
        await self.commit(*changes)
        return after

    def scrape(self) -> Scrape:
        """What a scrape shows now."""
        return Scrape(self.metrics.text())


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    """An empty journal, open."""
    made = Kept(tmp_path / "journal.db")
    await made.open()
    yield made
    await made.journal.close()


def stop_with(number: int, **fields: object) -> tuple[Operation, Delivery]:
    """An accepted stop with its PreStop, whose first attempt begins at 1000.25."""
    stop = operation(number)
    return stop, delivery(stop, **fields)


def an_end(state: DeliveryState, attempts: int = 0) -> tuple[Operation, Delivery]:
    """The end of a container with a postStop."""
    kind, reason = OperationKind.END, Reason.ENDED
    of = operation(9, kind=kind, reason=reason, state=OperationState.FORWARDED, timeout=0, deadline=None)
    declared = '{"httpGet":{"url":"http://example.com/"}}'
    return of, delivery(of, hook=Hook.POST_STOP, handler=declared, state=state, attempts=attempts)


async def test_a_delivered_hook_counts_once_with_its_attempt_and_their_time(kept: Kept) -> None:
    """By hook, kind of handler and outcome; two seconds from the attempt's beginning to its end."""
    stop, hook = stop_with(1)
    await kept.insert(stop, hook)
    await kept.settle(hook, 1002.25, Outcome(exit_status=0), DeliveryEvent.SUCCEEDED)
    scraped = kept.scrape()
    assert scraped.samples("hookshim_deliveries_total") == {(*PRE_STOP, "delivered"): 1}
    assert scraped.samples("hookshim_attempts_total") == {(*PRE_STOP, "succeeded"): 1}
    for name in ("attempt", "delivery"):
        assert scraped.samples(f"hookshim_{name}_duration_seconds_sum") == {PRE_STOP: 2}
        assert scraped.samples(f"hookshim_{name}_duration_seconds_count") == {PRE_STOP: 1}


async def test_retries_are_attempts_of_one_delivery(kept: Kept) -> None:
    """Two that failed and one that succeeded: one delivery, whose time has the pauses in it."""
    stop, hook = stop_with(1)
    await kept.insert(stop, hook)
    for at in (1001.25, 1003.25):
        hook, changes = postponed(at, hook, FAILED, at + 1)
        await kept.commit(*changes)
        hook = await kept.send(hook, at + 1)
    await kept.settle(hook, 1005.25, Outcome(exit_status=0), DeliveryEvent.SUCCEEDED)
    scraped = kept.scrape()
    assert scraped.samples("hookshim_attempts_total") == {(*PRE_STOP, "failed"): 2, (*PRE_STOP, "succeeded"): 1}
    assert scraped.samples("hookshim_deliveries_total") == {(*PRE_STOP, "delivered"): 1}
    assert scraped.value("hookshim_attempt_duration_seconds_sum") == 3
    assert scraped.value("hookshim_delivery_duration_seconds_sum") == 5


@pytest.mark.parametrize(
    ("event", "outcome", "result"),
    [
        (DeliveryEvent.FAILED, "failed", "failed"),
        (DeliveryEvent.CONTAINER_EXITED, "exited", "exited"),
        (DeliveryEvent.NOT_RUNNING, "missed", "interrupted"),
        (DeliveryEvent.REBOOTED, "missed", "interrupted"),
    ],
)
async def test_every_way_to_end_is_told_apart(kept: Kept, event: DeliveryEvent, outcome: str, result: str) -> None:
    """Failed, ended with its container, or missed: that attempt's end was not seen, and has no time."""
    stop, hook = stop_with(1)
    await kept.insert(stop, hook)
    await kept.settle(hook, 1001.25, FAILED, event)
    scraped = kept.scrape()
    assert scraped.samples("hookshim_deliveries_total") == {(*PRE_STOP, outcome): 1}
    assert scraped.samples("hookshim_attempts_total") == {(*PRE_STOP, result): 1}
    assert scraped.value("hookshim_attempt_duration_seconds_count") == (result != "interrupted")
    reasons = {"failed": {("FailedPreStopHook",): 1.0}, "missed": {("MissedPreStopHook",): 1.0}}
    assert scraped.samples("hookshim_events_total") == reasons.get(outcome, {})


async def test_a_hook_that_was_never_attempted_has_an_outcome_and_no_time(kept: Kept) -> None:
    """Skipped from the start, or armed and void: counted, without attempts or durations; a malformed one is unknown."""
    stop, skipped = stop_with(1, state=DeliveryState.SKIPPED, attempts=0, finished_at=1000.25)
    malformed = replace(
        skipped, id="m", position=1, handler="{}", state=DeliveryState.FAILED, outcome=Outcome("no such field")
    )
    await kept.insert(stop, skipped, malformed)
    start = operation(2, kind=OperationKind.START, reason=Reason.START_CONTAINER, timeout=0)
    post_start = delivery(start)
    await kept.insert(start, post_start)
    await kept.settle(post_start, 1001.25, Outcome(), DeliveryEvent.START_FAILED)
    scraped = kept.scrape()
    assert scraped.samples("hookshim_deliveries_total") == {
        (*PRE_STOP, "skipped"): 1,
        ("unknown", "preStop", "failed"): 1,
        ("exec", "postStart", "void"): 1,
    }
    assert scraped.value("hookshim_attempts_total") == 0
    assert scraped.value("hookshim_delivery_duration_seconds_count") == 0


async def test_what_is_open_is_shown_with_the_age_of_the_oldest_that_is_due(kept: Kept) -> None:
    """An armed postStop is open and not due, however old; without one that is due the age is 0."""
    await kept.insert(*an_end(DeliveryState.ARMED))
    assert kept.scrape().value("hookshim_oldest_pending_delivery_age_seconds") == 0
    stop, hook = stop_with(1)
    await kept.insert(stop, replace(hook, created_at=NOW - 20))
    await kept.insert(*stop_with(2, state=DeliveryState.PENDING, attempts=0, created_at=NOW - 10))
    scraped = kept.scrape()
    assert scraped.value("hookshim_deliveries_open", hook="postStop", state="armed") == 1
    assert scraped.value("hookshim_deliveries_open", hook="preStop", state="delivering") == 1
    assert scraped.value("hookshim_deliveries_open", hook="preStop", state="pending") == 1
    assert scraped.value("hookshim_deliveries_open") == 3
    expected = {("preStop",): 20}
    assert scraped.samples("hookshim_oldest_pending_delivery_age_seconds") == expected
    await kept.restart()
    restarted = kept.scrape().samples("hookshim_oldest_pending_delivery_age_seconds")
    assert restarted == expected


async def test_what_the_last_daemon_left_open_is_counted_by_the_next(kept: Kept) -> None:
    """Open from the first scrape on; its outcome counts as resumed, and its time goes over the restart."""
    stop, hook = stop_with(1)
    await kept.insert(stop, hook)
    await kept.restart()
    assert kept.scrape().value("hookshim_deliveries_open", hook="preStop", state="delivering") == 1
    hook = await kept.send(hook, 1010.25)
    await kept.settle(hook, 1011.25, Outcome(exit_status=0), DeliveryEvent.SUCCEEDED)
    stop, hook = stop_with(2)
    await kept.insert(stop, hook)
    await kept.settle(hook, 1001.25, FAILED, DeliveryEvent.FAILED)
    scraped = kept.scrape()
    assert scraped.samples("hookshim_resumed_deliveries_total") == {("preStop", "delivered"): 1}
    assert scraped.samples("hookshim_attempts_total") == {
        (*PRE_STOP, "interrupted"): 1,
        (*PRE_STOP, "succeeded"): 1,
        (*PRE_STOP, "failed"): 1,
    }
    assert scraped.value("hookshim_attempt_duration_seconds_sum") == 1 + 1
    assert scraped.value("hookshim_delivery_duration_seconds_sum") == 11 + 1
    assert scraped.value("hookshim_deliveries_open") == 0


async def test_an_attempt_that_is_found_again_has_its_whole_time(kept: Kept) -> None:
    """An exec that outlived the daemon: its attempt began before this process did."""
    stop, hook = stop_with(1)
    await kept.insert(stop, hook)
    await kept.restart()
    await kept.settle(hook, 1007.25, Outcome(exit_status=0), DeliveryEvent.SUCCEEDED)
    scraped = kept.scrape()
    assert scraped.samples("hookshim_attempts_total") == {(*PRE_STOP, "succeeded"): 1}
    assert scraped.value("hookshim_attempt_duration_seconds_sum") == 7


async def test_one_that_is_given_up_after_interruptions_has_no_attempt_too_many(kept: Kept) -> None:
    """Its last attempt was interrupted, and has not failed besides."""
    stop, hook = stop_with(1)
    await kept.insert(stop, hook)
    await kept.restart()
    hook = replace(hook, interruptions=1)
    await kept.settle(hook, 1001.25, FAILED, DeliveryEvent.FAILED)
    scraped = kept.scrape()
    assert scraped.samples("hookshim_attempts_total") == {(*PRE_STOP, "interrupted"): 1}
    assert scraped.samples("hookshim_deliveries_total") == {(*PRE_STOP, "failed"): 1}


async def test_a_post_stop_is_due_from_its_containers_end_on(kept: Kept) -> None:
    """Not from its container's start; it was armed before, and is no work that was left undone."""
    of, hook = an_end(DeliveryState.ARMED)
    await kept.insert(of, hook)
    await kept.restart()
    hook, change = opened(hook, DeliveryEvent.ENDED)
    await kept.commit(change)
    hook = await kept.send(hook, 4990)
    await kept.settle(hook, 4995, Outcome(http_status=200), DeliveryEvent.SUCCEEDED)
    scraped = kept.scrape()
    assert scraped.value("hookshim_delivery_duration_seconds_sum") == 5
    assert scraped.samples("hookshim_deliveries_total") == {("httpGet", "postStop", "delivered"): 1}
    assert scraped.value("hookshim_resumed_deliveries_total") == 0


async def test_one_that_its_owner_asks_for_again_counts_again_and_from_then_on(kept: Kept) -> None:
    """Over a restart too: its age and its time begin with that, and not with what has failed hours before."""
    of, hook = an_end(DeliveryState.DELIVERING, attempts=1)
    await kept.insert(of, hook)
    hook = await kept.settle(hook, 1001.25, FAILED, DeliveryEvent.FAILED)
    of, change = moved(1001.25, of, OperationEvent.END)
    await kept.commit(change)
    of, hook, changes = reopened(NOW - 30, "boot", of, hook)
    await kept.commit(*changes)
    assert kept.scrape().value("hookshim_deliveries_open", hook="postStop", state="pending") == 1
    await kept.restart()
    assert kept.scrape().samples("hookshim_oldest_pending_delivery_age_seconds") == {("postStop",): 30}
    hook = await kept.send(hook, NOW - 20)
    await kept.restart()
    await kept.settle(hook, NOW - 5, Outcome(http_status=200), DeliveryEvent.SUCCEEDED)
    scraped = kept.scrape()
    assert scraped.samples("hookshim_deliveries_total") == {("httpGet", "postStop", "delivered"): 1}
    assert scraped.value("hookshim_delivery_duration_seconds_sum") == 15


async def test_one_that_its_owner_takes_back_is_skipped_with_its_attempt(kept: Kept) -> None:
    """Neither a failure nor missed: nobody is woken by it."""
    stop, hook = stop_with(1)
    await kept.insert(stop, hook)
    _, changes = withdrawn(1003.25, hook, "skipped by the owner: stuck")
    await kept.commit(*changes)
    scraped = kept.scrape()
    assert scraped.samples("hookshim_deliveries_total") == {(*PRE_STOP, "skipped"): 1}
    assert scraped.samples("hookshim_attempts_total") == {(*PRE_STOP, "skipped"): 1}
    assert scraped.samples("hookshim_events_total") == {}


async def test_a_commit_that_was_refused_counts_nothing(kept: Kept) -> None:
    """The journal does not agree: no delivery is counted, but the conflict is."""
    stop, hook = stop_with(1)
    await kept.insert(stop, hook)
    _, changes = settled(1001.25, replace(hook, state=DeliveryState.DELIVERING), FAILED, DeliveryEvent.FAILED)
    wrong = moved(1001.25, replace(stop, state=OperationState.FORWARDED), OperationEvent.END)[1]
    with pytest.raises(Exception, match="is not forwarded in the journal"):
        await kept.commit(*changes, wrong)
    scraped = kept.scrape()
    assert scraped.value("hookshim_deliveries_total") == 0
    assert scraped.value("hookshim_deliveries_open", state="delivering") == 1
    assert scraped.value("hookshim_journal_conflicts_total") == 1
