"""What the histories have found and is not mended: each is let through by its own name, and by nothing wider.

Whoever mends one sets its name to False, sees that no history breaks, and takes it away with what asks for it. The
shortest way to each is told in ``test_known_gaps``.
"""

from __future__ import annotations

from shim.records import DeliveryState, Hook
from tests.engine.sim_callers import Caller
from tests.engine.sim_containerd import SimContainer
from tests.engine.simulation import World

#: A second StartContainer that joins a start makes its own call to the runtime, and nobody looks at what that does. If
#: the first is refused, or its caller's deadline is over before it is forwarded, its PostStart is void; the second then
#: starts the container, and is answered OK without a PostStart. Cut off by its deadline, it may leave a task behind.
JOINED_STARTS = True

#: A call that ends a pod, or removes a container, looks at it once. If the look says CREATED, and the start ends before
#: the look has its answer, there is no actor any more, and the container is killed without its PreStop.
STALE_LOOKS = True

#: A stop asks whether a start is under way, and then looks at the container. A start that is accepted during that look
#: is not waited for: if the look says CREATED, the stop is passed on, and kills the container without PreStop.
UNSEEN_STARTS = True

#: The same with a start that comes between the decision to pass a stop on and containerd's sight of it. One that has
#: waited for the actor meanwhile is forwarded at that very moment.
PASSED_ON = True

#: A daemon whose journal cannot be read serves before it has recovered. A container that is stopped meanwhile has an
#: actor, so that recovery passes it over: what else is open of it stays open until the next start of the daemon.
SKIPPED_RECOVERIES = True

#: What a full disk owes is written with the next record of its container, not when the disk is well: for as long as a
#: PostStart hangs, its row says armed.
UNPAID_RECORDS = True

#: Seconds: more than any look takes.
_LOOK = 0.5


def joined_start(world: World, container: SimContainer) -> bool:
    """Whether a start that joined another may have had an effect that nobody has looked at."""
    deliveries = world.store.deliveries_of(container.ref.id)
    void = any((one.hook, one.state) == (Hook.POST_START, DeliveryState.VOID) for one in deliveries)
    starts = [one for one in world.callers if one.container is container and one.what == "start"]
    return JOINED_STARTS and void and len(starts) > 1


def without_pre_stop(world: World, container: SimContainer) -> bool:
    """Whether the call that sent the first signal was passed on, and met a start of the container."""
    first = container.signals[0][0]
    under_way = [one for one in world.callers if one.began < first and (not one.answer or one.at > first)]
    overtaken = any(one.overtook and one.container is container for one in under_way)
    return overtaken or any(met(container, one) for one in under_way)


def met(container: SimContainer, ender: Caller) -> bool:
    """Whether a call that was passed on met a start of the container."""
    if ender.passed_on is None or container.forwarded_at is None or not _ends(ender, container):
        return False
    if PASSED_ON and container.forwarded_at >= ender.passed_on:
        return True
    if ender.what.startswith("stop("):
        within = container.ran_at is None or container.ran_at > ender.passed_on - _LOOK
        return UNSEEN_STARTS and container.forwarded_at >= ender.called and within
    return STALE_LOOKS and container.ran_at is not None and container.ran_at >= ender.called


def _ends(ender: Caller, container: SimContainer) -> bool:
    if ender.what in ("stop pod", "remove pod"):
        return ender.container.ref.sandbox_id == container.ref.sandbox_id
    return ender.container is container
