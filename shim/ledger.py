"""One container's writing hand: what is done to the table's records, in order, and what the disk still owes.

Accepting needs the journal (``write``). What has happened already is recorded if it can be (``note``): a disk that
is full then keeps nothing from being stopped, and the missing records are written with the next commit that works.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from shim.changes import Change, InsertEvent
from shim.errors import JournalConflictError, JournalUnavailableError
from shim.tools import Tools
from shim.waking import first_of

log = structlog.get_logger(__name__)


#: Seconds that something which has happened waits for its record: a disk that hangs must not keep containers alive.
PATIENCE = 5.0

#: Seconds between two tries to write what is owed.
SETTLE_MIN, SETTLE_MAX = 0.5, 30.0


class Ledger:
    """Writes the records of one container's operations."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._owed: tuple[Change, ...] = ()
        self._paying: asyncio.Task[None] | None = None
        self._hanging: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    async def write(self, *changes: Change) -> None:
        """Commit before a side effect. Raises JournalUnavailableError; then nothing was accepted."""
        async with self._writing:
            if self._paying is not None:
                await asyncio.wait({self._paying})
            owed = self._owed
            if wanted := (*owed, *changes):
                await self._tools.journal.commit(*wanted)
            self._owed = self._owed[len(owed) :]
        self._announce(changes)

    async def accept(self, *changes: Change, void: Callable[[], None]) -> None:
        """Commit what something is accepted with. Raises JournalUnavailableError: then it is not.

        Whoever asks the journal before this, notes what is owed before that: it tells what earlier ones came to. A disk
        that only hangs may write it yet: ``void`` is called then, to say that nothing has come of it.
        """

        def late(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and done.exception() is None:
                void()

        if self.owes:
            raise JournalUnavailableError("what has happened before is not written yet")
        commit = self._tools.tasks.spawn(self._tools.journal.commit(*changes), "accept", patient=True)
        await first_of(commit, timeout=PATIENCE)
        if commit.done():
            commit.result()
        else:
            commit.add_done_callback(late)
            raise JournalUnavailableError(f"the journal has not answered for {PATIENCE:g} s")

    def owe(self, *changes: Change) -> None:
        """Record what happened with the next commit, in the order of these calls."""
        self._owed = (*self._owed, *changes)
        self._announce(changes)

    async def note(self, *changes: Change) -> None:
        """Record what happened. Never raises, and never waits long: what cannot be written now is owed."""
        async with self._writing:
            self.owe(*changes)
            paying = self._pay_now()
            if paying is self._hanging:
                # It has been waited for once: a stop has many records, and only one grace.
                return
            await first_of(paying, timeout=PATIENCE)
            if not paying.done():
                self._hanging = paying
                log.error("the journal does not answer: going on without waiting for the record", seconds=PATIENCE)

    async def _pay(self) -> None:
        """Write what is owed, in its order: a change is handed in only when the one that it builds on is written."""
        while wanted := self._owed:
            try:
                await self._tools.journal.commit(*wanted)
            except JournalUnavailableError as error:
                log.error("the journal cannot be written: going on without a record", error=str(error))
                if self._settling is None or self._settling.done():
                    self._settling = self._tools.tasks.spawn(self.settle(), "settle", patient=True)
                return
            except JournalConflictError:
                log.exception("the journal does not agree with what happened; its own record stands")
                await self._pay_singly(wanted)
            self._owed = self._owed[len(wanted) :]

    async def _pay_singly(self, changes: Sequence[Change]) -> None:
        """Write what the journal agrees with: the end of an operation must not be lost over one hook's record."""
        for change in changes:
            with suppress(JournalConflictError, JournalUnavailableError):
                await self._tools.journal.commit(change)

    @property
    def owes(self) -> bool:
        """Whether something has happened that is not written."""
        return bool(self._owed)

    async def settle(self) -> None:
        """Write what is still owed, for as long as it takes; in nobody's way meanwhile."""
        pause = SETTLE_MIN
        while self._owed:
            # Whoever has the lock is writing it.
            if not self._writing.locked():
                await asyncio.wait({self._pay_now()})
            if self._owed:
                await asyncio.sleep(pause)
                pause = min(pause * 2, SETTLE_MAX)

    def _pay_now(self) -> asyncio.Task[None]:
        if self._paying is None or self._paying.done():
            self._paying = self._tools.tasks.spawn(self._pay(), "commit")
        return self._paying

    def _announce(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            if isinstance(change, InsertEvent):
                self._tools.announce(change.event)
