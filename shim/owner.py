"""What the node's owner asks of one delivery: to have it sent again, or not at all.

What is open belongs to whoever carries it out, and is told so; what has failed is opened again where that still makes
sense: a postStop always, a PostStart while its container runs. Every other wish is refused with what can be done
instead. What is accepted is on disk before it has an effect, so that it holds whatever dies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from shim import texts
from shim.actor import Actor
from shim.changes import Change
from shim.errors import AskedWronglyError, JournalConflictError, RefusedError, TransitionError
from shim.failpoints import Failpoint
from shim.hooks import HookRun
from shim.moves import moved, reopened, settled
from shim.post_stop import PostStops
from shim.records import ContainerState, Delivery, DeliveryState, Found, Hook
from shim.table import DeliveryEvent, OperationEvent
from shim.tools import Tools
from shim.watch import Watch

#: Characters of the reason for a skip: it is kept, and shown in one line.
MOST_REASON = 200

_BY_HAND = "what it would have done has to be done by hand"

#: Why a delivery in this state is not sent again.
_NOT_AGAIN = {
    DeliveryState.ARMED: "it is not due yet; it is sent by itself when it is",
    DeliveryState.PENDING: "it waits for the hooks before it, and is sent after them",
    DeliveryState.DELIVERING: "it is being delivered now: wait for its outcome, or skip it",
    DeliveryState.DELIVERED: "it has been delivered, and there is nothing to be made up for",
    DeliveryState.EXITED: f"its container ended under it; {_BY_HAND}",
    DeliveryState.VOID: "its container was not started by that call, so that it was never due",
    DeliveryState.SKIPPED: f"it was skipped; {_BY_HAND}",
    DeliveryState.MISSED: f"its container has ended; {_BY_HAND}",
}

_MOVED = "it has just changed: look at it again (`hookshim deliveries show`)"


@dataclass(frozen=True, slots=True)
class Done:
    """What was done: to which delivery, by its whole id, and in words."""

    delivery_id: str
    message: str


class Owner:
    """Carries out what the node's owner asks for. ``actor`` keeps a container's actor."""

    def __init__(
        self, tools: Tools, post_stops: PostStops, actor: Callable[[str], AbstractContextManager[Actor]]
    ) -> None:
        self._tools = tools
        self._post_stops = post_stops
        self._actor = actor

    async def skip(self, key: str, reason: str) -> Done:
        """Take an open delivery back: its operation goes on as if the hook had ended.

        What is recorded is written when the disk lets it: a container must not have to wait for a disk to be stopped.
        Raises UnknownDeliveryError, AskedWronglyError, RefusedError, JournalUnavailableError and RuntimeCallError: then
        nothing was done.
        """
        why = texts.skipped(_checked(reason))
        found = await self._tools.journal.find(key)
        if not found.delivery.state.open:
            raise _refusal(found.delivery, "skipped", f"it is {found.delivery.state} already")
        with self._actor(found.operation.container.id) as actor:
            run, index = await self._carrier(actor, found)
            await self._tools.hit(Failpoint.OWNER_ACCEPT)
            delivery = run.deliveries[index]
            if not delivery.state.open:
                raise _refusal(delivery, "skipped", f"it is {delivery.state} already")
            if isinstance(run, Watch):
                await self._post_stops.withdraw(run, index, why)
            else:
                await run.withdraw(index, why)
        return Done(delivery.id, f"{_named(delivery)} is skipped")

    async def retry(self, key: str) -> Done:
        """Send a delivery again that has failed, or now one that waits for its next attempt.

        Raises what ``skip`` raises.
        """
        found = await self._tools.journal.find(key)
        delivery = found.delivery
        try:
            if delivery.state.open:
                return await self._hurry(found)
            if delivery.state is not DeliveryState.FAILED:
                raise _refusal(delivery, "sent again", _NOT_AGAIN[delivery.state])
            if delivery.hook is Hook.PRE_STOP:
                why = f"a preStop comes before its container's end, and that goes on without it; {_BY_HAND}"
                raise _refusal(delivery, "sent again", why)
            with self._actor(found.operation.container.id) as actor:
                if delivery.hook is Hook.POST_STOP:
                    await self._tell_again(actor, found)
                else:
                    await self._start_again(actor, found)
        except (JournalConflictError, TransitionError) as error:
            raise _refusal(delivery, "sent again", _MOVED) from error
        return Done(delivery.id, f"{_named(delivery)} is sent again")

    async def _hurry(self, found: Found) -> Done:
        with self._actor(found.operation.container.id) as actor:
            run, index = await self._carrier(actor, found)
            await self._tools.hit(Failpoint.OWNER_ACCEPT)
            delivery = run.deliveries[index]
            if delivery.state is not DeliveryState.PENDING or delivery.next_attempt_at is None:
                raise _refusal(delivery, "sent now", _NOT_AGAIN.get(delivery.state, _MOVED))
            await run.hurry(index)
        return Done(delivery.id, f"{_named(delivery)} is sent now")

    async def _carrier(self, actor: Actor, found: Found) -> tuple[HookRun | Watch, int]:
        """Who carries an open delivery out, and where it is there. Raises RefusedError."""
        async with actor.admitted():
            watch = self._post_stops.of(found.operation.container.id)
            runs: list[HookRun | Watch] = [*actor.runs]
            for run in runs if watch is None else [*runs, watch]:
                if (index := run.find(found.delivery.id)) is not None:
                    return run, index
        why = "nothing is done for it now: the journal or the runtime could not be asked; look at hookshim's log"
        raise _refusal(found.delivery, "changed", f"{why}, and try again")

    async def _tell_again(self, actor: Actor, found: Found) -> None:
        async with actor.admitted():
            pass  # what recovery has not come to is taken up first
        await self._tools.hit(Failpoint.OWNER_ACCEPT)
        await self._post_stops.tell_again(found.operation, found.deliveries, found.delivery.id)

    async def _start_again(self, actor: Actor, found: Found) -> None:
        """One more delivery of a PostStart that its container has lived on without: it ends nobody if it fails."""
        async with actor.admitted():
            if actor.runs:
                raise _refusal(found.delivery, "sent again", "its container is being started or stopped")
            container = await self._tools.runtime.find(found.operation.container.id)
            if container is None or container.state is not ContainerState.RUNNING:
                raise _refusal(found.delivery, "sent again", f"its container does not run any more; {_BY_HAND}")
            await self._tools.hit(Failpoint.OWNER_ACCEPT)
            clock = self._tools.clock
            operation, delivery, changes = reopened(clock.wall(), clock.boot_id, found.operation, found.delivery)

            def void() -> Sequence[Change]:
                now = clock.wall()
                taken_back = settled(now, delivery, delivery.outcome, DeliveryEvent.GIVEN_UP)[1]
                return (*taken_back, moved(now, operation, OperationEvent.END)[1])

            await actor.accept(changes, void)
            await self._tools.hit(Failpoint.OWNER_ACCEPTED)
            rest = [delivery if one.id == delivery.id else one for one in found.deliveries]
            actor.resume(container, operation, rest)


def _checked(reason: str) -> str:
    text = reason.strip()
    if not text:
        raise AskedWronglyError("a reason is needed: it is what others read later")
    if len(text) > MOST_REASON or not text.isprintable():
        raise AskedWronglyError(f"the reason has to be one line of at most {MOST_REASON} printable characters")
    return text


def _named(delivery: Delivery) -> str:
    where = f"container {delivery.container.name} of pod {delivery.container.pod_text}"
    return f"delivery {delivery.id}, the {delivery.hook} of {where},"


def _refusal(delivery: Delivery, what: str, why: str) -> RefusedError:
    return RefusedError(f"{_named(delivery)} is not {what}: {why}")
