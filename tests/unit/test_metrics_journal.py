"""The journal as the metrics see it: its commits, its disk's failures, and a new file in place of a damaged one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.metrics import Metrics
from shim.changes import Change
from shim.errors import JournalUnavailableError
from shim.journal import Journal
from shim.store import Store
from tests.support.metrics import Scrape
from tests.unit.records import accepted, delivery, operation


@asynccontextmanager
async def opened(path: Path, metrics: Metrics) -> AsyncIterator[Journal]:
    """A journal that these metrics observe."""
    journal = await Journal.open(path, lambda: 0.0, observer=metrics.journal)
    try:
        yield journal
    finally:
        await journal.close()


@pytest.fixture
def metrics() -> Metrics:
    """Metrics that have seen nothing."""
    return Metrics(lambda: 5000.0)


async def test_each_transaction_counts_with_its_time_and_its_commits(tmp_path: Path, metrics: Metrics) -> None:
    """Twenty commits that came while the writer was busy are one transaction, beside the one before it."""
    async with opened(tmp_path / "journal.db", metrics) as journal:
        await journal.commit(*accepted(0))
        go = threading.Event()
        busy = asyncio.create_task(journal.ask(lambda _store: go.wait()))
        await asyncio.sleep(0)
        commits = [asyncio.create_task(journal.commit(*accepted(number))) for number in range(1, 21)]
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(busy, *commits)
    scraped = Scrape(metrics.text())
    assert scraped.value("hookshim_journal_commit_group_size_count") == 2
    assert scraped.value("hookshim_journal_commit_group_size_sum") == 21
    assert scraped.value("hookshim_journal_commit_duration_seconds_count") == 2
    assert scraped.value("hookshim_journal_commit_duration_seconds_sum") > 0
    assert scraped.value("hookshim_journal_commit_failures_total") == 0


async def test_a_disk_that_takes_nothing_is_told_until_it_does_again(tmp_path: Path, metrics: Metrics) -> None:
    """Not writable from the failed opening on, a failure for each try, nothing counted twice when it is written."""
    place = tmp_path / "not mounted"
    async with opened(place / "journal.db", metrics) as journal:
        scraped = Scrape(metrics.text())
        assert (
            scraped.value("hookshim_journal_writable"),
            scraped.value("hookshim_journal_commit_failures_total"),
        ) == (
            0,
            1,
        )
        with pytest.raises(JournalUnavailableError):
            await journal.commit(*accepted(1))
        assert Scrape(metrics.text()).value("hookshim_journal_commit_failures_total") == 2
        place.mkdir()
        await journal.commit(*accepted(1))
    scraped = Scrape(metrics.text())
    assert scraped.value("hookshim_journal_writable") == 1
    assert scraped.value("hookshim_journal_commit_failures_total") == 2
    assert scraped.value("hookshim_deliveries_open", state="delivering") == 1


async def test_what_was_open_in_a_damaged_journal_is_open_no_more(tmp_path: Path, metrics: Metrics) -> None:
    """The new one knows nothing of it, so that nothing would ever close it; that it was damaged is an event."""
    path = tmp_path / "journal.db"
    async with opened(path, metrics) as journal:
        for number in range(300):
            await journal.commit(*accepted(number))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 4096)
    async with opened(path, metrics) as journal:
        assert journal.set_aside == 1
    scraped = Scrape(metrics.text())
    assert scraped.value("hookshim_deliveries_open") == 0
    assert scraped.samples("hookshim_events_total") == {("JournalDamaged",): 1}


async def test_an_observer_that_fails_harms_no_commit(tmp_path: Path) -> None:
    """Whatever it raises, and whatever it is told: the commit stands, and the next one too."""

    class Broken:
        def opened(self, store: Store) -> None:
            raise RuntimeError("opened")

        def committed(self, commits: Sequence[Sequence[Change]], conflicts: int, seconds: float) -> None:
            raise RuntimeError("committed")

        def failed(self) -> None:
            raise RuntimeError("failed")

    place = tmp_path / "later"
    journal = await Journal.open(place / "journal.db", lambda: 0.0, observer=Broken())
    with pytest.raises(JournalUnavailableError):
        await journal.commit(*accepted(1))
    place.mkdir()
    for number in (1, 2):
        await journal.commit(*accepted(number))
    assert await journal.deliveries_of("c2") == [delivery(operation(2))]
    await journal.close()
