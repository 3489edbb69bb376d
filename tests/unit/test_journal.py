"""A commit that returned is on the disk; many at once cost one sync; a full disk is told, not hidden."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from shim.changes import UpdateOperation
from shim.errors import JournalConflictError, JournalUnavailableError
from shim.journal import Journal
from shim.records import OperationState
from shim.store import Store
from tests.unit.records import accepted, delivery, done, operation

#: Commits one stop after the other, says each number when its commit has returned, and goes on until it is killed.
WRITER = """
import asyncio, itertools, os, sys
from pathlib import Path
from shim.journal import Journal
from tests.unit.records import accepted

async def main() -> None:
    journal = await Journal.open(Path(sys.argv[1]), lambda: 0.0)
    for number in itertools.count(1):
        await journal.commit(*accepted(number))
        print(number, flush=True)
        if number == int(sys.argv[2]):
            os._exit(7)

asyncio.run(main())
"""


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Journal]:
    """An open journal."""
    journal = await Journal.open(path, lambda: 0.0)
    try:
        yield journal
    finally:
        await journal.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal will be."""
    return tmp_path / "journal.db"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB of its own. Needs root, as the daemon does."""
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "hookshim-test", directory], check=True)
    yield directory
    subprocess.run(["umount", directory], check=True)


def kept(path: Path) -> list[str]:
    """The open operations in the file."""
    with closing(Store.open(path)) as store:
        return [each.id for each in store.open_operations()]


class Busy:
    """Keeps a journal's writer busy until it is left, as a slow disk would."""

    def __init__(self, journal: Journal) -> None:
        self._go = threading.Event()
        self._read = asyncio.create_task(journal.ask(lambda _store: self._go.wait()))

    async def __aenter__(self) -> None:
        """Hand the wait in."""
        await asyncio.sleep(0)

    async def __aexit__(self, *_error: object) -> None:
        """Let the writer go on."""
        self._go.set()
        await self._read


async def test_commits_that_come_together_share_one_transaction(path: Path) -> None:
    """Fifty that arrive during one sync are the next one; the disk is waited for twice, not fifty times."""
    async with opened(path) as journal:
        await journal.commit(*accepted(0))
        assert journal._store is not None
        statements: list[str] = []
        journal._store._db.set_trace_callback(statements.append)
        async with Busy(journal):
            commits = [asyncio.create_task(journal.commit(*accepted(number))) for number in range(1, 51)]
            await asyncio.sleep(0)
        await asyncio.gather(*commits)
        assert statements.count("COMMIT") == 1
    assert len(kept(path)) == 51


async def test_one_commit_that_conflicts_fails_alone(path: Path) -> None:
    """Those that share its transaction stand, and each caller hears of its own."""
    async with opened(path) as journal:
        wrong = UpdateOperation(done(operation(2)), OperationState.FORWARDED)
        async with Busy(journal):
            groups = [accepted(1), (wrong,), accepted(3)]
            commits = [asyncio.create_task(journal.commit(*group)) for group in groups]
            await asyncio.sleep(0)
        first, conflict, last = await asyncio.gather(*commits, return_exceptions=True)
        assert (first, last) == (None, None)
        assert isinstance(conflict, JournalConflictError)
        assert kept(path) == ["op1", "op3"]


async def test_a_caller_that_is_cancelled_takes_no_commit_back(path: Path) -> None:
    """What was handed in is written, and the writer goes on."""
    async with opened(path) as journal:
        async with Busy(journal):
            commit = asyncio.create_task(journal.commit(*accepted(1)))
            await asyncio.sleep(0)
            commit.cancel()
            await asyncio.wait({commit})
        await journal.commit(*accepted(2))
        assert commit.cancelled()
        assert kept(path) == ["op1", "op2"]


async def test_what_was_committed_is_read(path: Path) -> None:
    """A container's deliveries, and the open work with its deliveries, oldest first."""
    async with opened(path) as journal:
        await journal.commit(*accepted(2))
        await journal.commit(*accepted(1))
        assert await journal.deliveries_of("c1") == [delivery(operation(1))]
        assert await journal.deliveries_of("c3") == []
        works = [(operation(number), [delivery(operation(number))]) for number in (2, 1)]
        assert await journal.open_work() == works
        assert await journal.open_work_of("c1") == works[1:]
        assert sorted(await journal.open_attempts()) == [("d1", 1), ("d2", 1)]


async def test_close_writes_what_was_handed_in(path: Path) -> None:
    """And what comes later is refused, so that nobody waits for it."""
    journal = await Journal.open(path, lambda: 0.0)
    async with Busy(journal):
        commit = asyncio.create_task(journal.commit(*accepted(1)))
        await asyncio.sleep(0)
        closing_ = asyncio.create_task(journal.close())
        await asyncio.sleep(0)
        with pytest.raises(JournalUnavailableError, match="hookshim is shutting down"):
            await journal.commit(*accepted(2))
    await closing_
    await commit
    await journal.close()
    assert kept(path) == ["op1"]


@pytest.mark.parametrize("last", [1, 20])
def test_a_commit_that_returned_survives_the_end_of_the_process(path: Path, last: int) -> None:
    """It ends in the very next step, with nothing closed or flushed."""
    result = subprocess.run(
        [sys.executable, "-c", WRITER, path, str(last)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (result.returncode, len(result.stdout.split())) == (7, last), result.stderr
    assert kept(path) == [f"op{number}" for number in range(1, last + 1)]


def test_a_commit_that_returned_survives_sigkill(path: Path) -> None:
    """Killed in the middle of writing: all that was said is there, at most one more, and the file is sound."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path, "0"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(25)]
        os.kill(process.pid, signal.SIGKILL)
        said += [int(line) for line in process.stdout if line.endswith("\n")]
    store = Store.open(path)
    with closing(store):
        assert len(store.open_operations()) - len(said) in (0, 1)
        assert len(store.deliveries()) == len(store.open_operations())
    assert said == list(range(1, len(said) + 1))


#: Where the test's own records can be imported from.
ROOT = Path(__file__).parents[2]


async def test_a_full_disk_is_told_and_hurts_nothing_that_was_written(small_disk: Path) -> None:
    """Commits are refused while there is no room, and work again as soon as there is."""
    path, ballast = small_disk / "journal.db", small_disk / "ballast"
    async with opened(path) as journal:
        await journal.commit(*accepted(0))
        fill(ballast)
        # The log may have room in its last page.
        written = await commits_until_refused(journal)
        ballast.unlink()
        await journal.commit(*accepted(written + 1))
        assert kept(path) == [f"op{number}" for number in range(written + 2)]


async def test_a_journal_that_cannot_be_opened_is_tried_again_with_every_call(small_disk: Path) -> None:
    """A full disk at the start keeps nothing from being served."""
    path, ballast = small_disk / "journal.db", small_disk / "ballast"
    fill(ballast)
    async with opened(path) as journal:
        with pytest.raises(JournalUnavailableError):
            await journal.commit(*accepted(1))
        ballast.unlink()
        await journal.commit(*accepted(1))
        assert kept(path) == ["op1"]


async def commits_until_refused(journal: Journal) -> int:
    """How many fit on the disk, from number 1 on."""
    for number in range(1, 1000):
        try:
            await journal.commit(*accepted(number))
        except JournalUnavailableError as error:
            assert "full" in str(error)  # noqa: PT017 - the loop has to end here
            return number - 1
    raise AssertionError("the disk does not fill")


def fill(file: Path) -> None:
    """Write until the disk is full."""
    with file.open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(b"x" * 4096)
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017 - anything else is no full disk
