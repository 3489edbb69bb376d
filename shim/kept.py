"""What is kept for as long as somebody uses it, work of its own runs, or the disk owes it a record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from shim.changes import Change
from shim.ledger import Ledger
from shim.tools import Tools

T = TypeVar("T")


class Kept:
    """Something of one container, with its ledger. ``drop`` is called when nobody uses it any more."""

    def __init__(self, tools: Tools, container_id: str, drop: Callable[[str], None]) -> None:
        self._tools = tools
        self._id = container_id
        self._drop = drop
        self._users = 0
        self._ledger = Ledger(tools)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep it; when nobody does any more, it is dropped."""
        self._users += 1
        try:
            yield
        finally:
            self._let_go()

    def spawn(self, work: Coroutine[Any, Any, T], name: str, *, patient: bool = False) -> asyncio.Task[T]:
        """Run ``work`` in a task of the engine's, and keep this meanwhile."""
        task = self._tools.tasks.spawn(work, name, patient=patient)
        self._users += 1
        task.add_done_callback(self._let_go)
        return task

    def _let_go(self, _task: object = None) -> None:
        self._users -= 1
        if self._users == 0:
            self._drop(self._id)

    def _owe(self, changes: Sequence[Change]) -> None:
        self._ledger.owe(*changes)
        self._settle()

    def _settle(self) -> None:
        """Have written what is owed, for as long as it takes."""
        if self._ledger.owes:
            self.spawn(self._ledger.settle(), f"settle {self._id}", patient=True)
