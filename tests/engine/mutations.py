"""Mistakes that an engine could have, each made on purpose: what the simulation must find, or it proves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

import pytest

import shim.engine
from shim.actor import Actor
from shim.attempt import Result
from shim.caller import Caller
from shim.changes import Change
from shim.ledger import Ledger
from shim.ports import Container
from shim.records import Delivery, Outcome
from shim.stop import StopRun
from shim.table import DeliveryEvent

#: Makes one mistake for as long as the test runs.
Mutation = Callable[[pytest.MonkeyPatch], None]


class _NoLock:
    """A lock that was left out."""

    async def __aenter__(self) -> None:
        await asyncio.sleep(0)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def without_waiting_for_the_disk(patch: pytest.MonkeyPatch) -> None:
    """What has happened is written some time: the next step does not wait for it."""
    note = Ledger.note

    async def hasty(self: Ledger, *changes: Change) -> None:
        self._tools.tasks.spawn(note(self, *changes), "hasty")

    patch.setattr(Ledger, "note", hasty)


def with_a_lost_outcome(patch: pytest.MonkeyPatch) -> None:
    """What a full disk owes is forgotten."""

    async def forgetful(self: Ledger) -> None:
        self._owed = ()

    patch.setattr(Ledger, "settle", forgetful)


def without_the_admission_lock(patch: pytest.MonkeyPatch) -> None:
    """Two calls are admitted to one container at once."""
    init = Actor.__init__

    def unlocked(self: Actor, *args: Any) -> None:
        init(self, *args)
        self._admission = _NoLock()  # type: ignore[assignment] # that is the mistake

    patch.setattr(Actor, "__init__", unlocked)


def without_the_ledger_lock(patch: pytest.MonkeyPatch) -> None:
    """Two tasks of one container write at once."""
    init = Ledger.__init__

    def unlocked(self: Ledger, *args: Any) -> None:
        init(self, *args)
        self._writing = _NoLock()  # type: ignore[assignment] # that is the mistake

    patch.setattr(Ledger, "__init__", unlocked)


def with_callers_that_take_their_work_along(patch: pytest.MonkeyPatch) -> None:
    """A caller that leaves cancels what was accepted."""

    async def unshielded(work: asyncio.Task[Any], _caller: Caller) -> Any:
        return await work

    patch.setattr(shim.engine, "_wait", unshielded)


def with_a_stale_look(patch: pytest.MonkeyPatch) -> None:
    """A stop believes what it was told before the start was answered."""

    async def stale(_self: Actor, container: Container) -> Container:
        return container

    patch.setattr(Actor, "_look_again", stale)


def with_a_hook_that_is_taken_as_delivered(patch: pytest.MonkeyPatch) -> None:
    """PreStop's record says delivered, and nobody was called, when it is sent again after a death."""
    deliver = StopRun._deliver

    async def lazy(self: StopRun, delivery: Delivery) -> Result:
        if delivery.interruptions:
            self._delivery, change = self._ledger.sent(delivery)
            await self._ledger.note(change)
            return Result(DeliveryEvent.SUCCEEDED, Outcome())
        return await deliver(self, delivery)

    patch.setattr(StopRun, "_deliver", lazy)


def with_an_answer_that_is_waited_for_too_late(patch: pytest.MonkeyPatch) -> None:
    """A caller that joins asks for its answer a moment after it has joined, when it may have been given."""

    def late(self: StopRun) -> asyncio.Future[bytes]:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.02, self._waiting.append, answer)
        self._nudge.set()
        return answer

    patch.setattr(StopRun, "wait", late)


def without_caring_who_left(patch: pytest.MonkeyPatch) -> None:
    """What was not accepted yet is begun for a caller who has left."""
    patch.setattr(Caller, "accept", lambda self: setattr(self, "accepted", True))


MUTATIONS: list[Mutation] = [
    without_waiting_for_the_disk,
    with_a_lost_outcome,
    without_the_admission_lock,
    without_the_ledger_lock,
    with_callers_that_take_their_work_along,
    with_a_stale_look,
    with_a_hook_that_is_taken_as_delivered,
    with_an_answer_that_is_waited_for_too_late,
    without_caring_who_left,
]
