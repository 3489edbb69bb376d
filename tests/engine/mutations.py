"""Mistakes that an engine could have, each made on purpose: what the simulation must find, or it proves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any

import pytest

import shim.attempt
import shim.engine
import shim.hooks
from shim.actions import LifecycleHandler, Retry
from shim.actor import Actor
from shim.attempt import Result
from shim.caller import Caller
from shim.changes import Change, UpdateOperation
from shim.countdown import Countdown
from shim.hooks import HookRun
from shim.ledger import Ledger
from shim.moves import reopened, withdrawn
from shim.ports import Container
from shim.post_stop import PostStops
from shim.records import Ending, Hook, Outcome
from shim.stop import StopRun
from shim.table import DeliveryEvent
from shim.watch import Watch

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
    deliver = HookRun._deliver

    async def lazy(self: HookRun, index: int, countdown: Countdown, *, again: bool) -> Result | None:
        if again and self.deliveries[index].hook is Hook.PRE_STOP:
            await self._send(index, again=again)
            return Result(DeliveryEvent.SUCCEEDED, Outcome())
        return await deliver(self, index, countdown, again=again)

    patch.setattr(HookRun, "_deliver", lazy)


def with_an_answer_that_is_waited_for_too_late(patch: pytest.MonkeyPatch) -> None:
    """A caller that joins asks for its answer a moment after it has joined, when it may have been given."""

    def late(self: StopRun) -> asyncio.Future[bytes]:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.02, self._waiting.append, answer)
        self._nudge.set()
        return answer

    patch.setattr(StopRun, "wait", late)


def with_hooks_out_of_order(patch: pytest.MonkeyPatch) -> None:
    """The hooks of one operation are delivered from the last to the first."""
    init = HookRun.__init__

    def backwards(self: HookRun, *args: Any) -> None:
        init(self, *args)
        self.deliveries.reverse()

    patch.setattr(HookRun, "__init__", backwards)


def with_an_exec_that_is_sent_again(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks for the process that has outlived hookshim."""
    carry_out = shim.attempt.carry_out

    async def blind(*args: Any, find: bool) -> Result:
        if find:
            return Result(DeliveryEvent.INTERRUPTED, Outcome())
        return await carry_out(*args, find=find)

    patch.setattr(shim.hooks, "carry_out", blind)


def without_the_hooks_own_timeout(patch: pytest.MonkeyPatch) -> None:
    """Only the grace bounds a hook."""
    deliver = HookRun._attempt

    async def endless(
        self: HookRun, index: int, handler: LifecycleHandler, bounds: tuple[Countdown, ...], *, find: bool
    ) -> Result:
        return await deliver(self, index, handler, bounds[:1], find=find)

    patch.setattr(HookRun, "_attempt", endless)


def with_one_retry_too_many(patch: pytest.MonkeyPatch) -> None:
    """The number of attempts is taken as that of retries."""
    rest = HookRun._pause

    async def stubborn(self: HookRun, index: int, retry: Retry, *args: Any) -> Result | None:
        more = replace(retry, attempts=None if retry.attempts is None else retry.attempts + 1)
        return await rest(self, index, more, *args)

    patch.setattr(HookRun, "_pause", stubborn)


def with_a_post_stop_that_dies_with_hookshim(patch: pytest.MonkeyPatch) -> None:
    """An end that was not told of before a death is not told of after it."""
    begin = PostStops._begin

    def forgetful(self: PostStops, watch: Watch) -> None:
        if all(delivery.attempts == 0 for delivery in watch.deliveries):
            begin(self, watch)

    patch.setattr(PostStops, "_begin", forgetful)


def with_a_post_stop_before_the_end(patch: pytest.MonkeyPatch) -> None:
    """The end is told of when the container has begun to run."""
    started = Watch.started

    def hasty(self: Watch) -> None:
        started(self)
        if not self.ended:
            self.tell(Ending(started=True, exit_code=None, reason="Unknown", finished_at=self._tools.clock.wall()))
            self._tools.tasks.spawn(PostStops(self._tools)._tell_all(self), "hasty")

    patch.setattr(Watch, "started", hasty)


def with_a_skip_that_is_not_written(patch: pytest.MonkeyPatch) -> None:
    """What its owner has taken back is ended, and the journal does not know."""

    async def withdraw(self: HookRun, index: int, why: str) -> None:
        self.deliveries[index], _ = withdrawn(self._tools.clock.wall(), self.deliveries[index], why)
        self._withdrawn[index].set()

    patch.setattr(HookRun, "withdraw", withdraw)


def with_a_retry_that_leaves_its_operation_over(patch: pytest.MonkeyPatch) -> None:
    """A postStop is opened again, and the next daemon would not look at it."""

    def forgetful(*args: Any) -> Any:
        operation, delivery, changes = reopened(*args)
        return operation, delivery, [change for change in changes if not isinstance(change, UpdateOperation)]

    patch.setattr("shim.post_stop.reopened", forgetful)


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
    with_hooks_out_of_order,
    with_an_exec_that_is_sent_again,
    without_the_hooks_own_timeout,
    with_one_retry_too_many,
    with_a_post_stop_that_dies_with_hookshim,
    with_a_post_stop_before_the_end,
    with_a_skip_that_is_not_written,
    with_a_retry_that_leaves_its_operation_over,
]
