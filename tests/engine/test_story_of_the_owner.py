"""Exact histories of what the node's owner asks of single deliveries, to be read."""

from __future__ import annotations

import pytest

from shim.errors import AskedWronglyError, UnknownDeliveryError
from shim.failpoints import Failpoint
from shim.records import Delivery, DeliveryState, Hook
from tests.engine.promises import check_always
from tests.engine.settling import settle
from tests.engine.sim_callers import Caller
from tests.engine.sim_containerd import Behaviour, SimContainer
from tests.engine.sim_ports import Script
from tests.engine.simulation import World
from tests.engine.stories import tells

#: A postStop that has failed for good after its first attempt, and is heard at the second.
DEAF_ONCE = Script("succeed", 0.5, "http", fails=1, timeout=1.0)


def of(world: World, hook: Hook) -> Delivery:
    """The one delivery of this hook."""
    [found] = [one for one in world.store.deliveries() if one.hook is hook]
    return found


def stopping(world: World, pre_stop: Script) -> SimContainer:
    """A container that is being stopped for two seconds."""
    container = world.running(pre_stop=pre_stop)
    world.stop(container, 300)
    world.run(2)
    return container


def ended(world: World, post_stop: Script) -> SimContainer:
    """A container that has ended five seconds ago."""
    container = world.create(post_stop=post_stop)
    world.start(container)
    world.run(1)
    world.containerd.exit(container)
    world.run(5)
    world.forget()
    return container


def refused(world: World, caller: Caller) -> str:
    """What its owner is told: it ends with what can be done instead."""
    world.run(1)
    assert caller.answer == "FAILED_PRECONDITION"
    check_always(world)
    return caller.message


def test_a_skipped_pre_stop_is_ended_and_the_stop_goes_on(world: World) -> None:
    """Its record is written before it is ended; what is left of the grace is forwarded."""
    container = stopping(world, Script("hang"))
    world.skip(container, of(world, Hook.PRE_STOP).id)
    world.run(5)
    tells(
        world,
        """
          0.0 c1 → stop(300)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          2.0 c1 → skip
          2.0 journal: preStop skipped
          2.0 c1 skip → OK
          2.0 journal: stop hooks_done, stop forwarded
          2.0 c1 StopContainer(298)
          2.0 c1 gets TERM
          3.0 c1 exits with 143
          3.0 journal: stop done
          3.0 c1 stop(300) → OK
        """,
    )
    assert of(world, Hook.PRE_STOP).outcome.error == "skipped by the owner: it hangs"
    assert world.announced == []


def test_a_skipped_pre_stop_is_followed_by_the_next_one(world: World) -> None:
    """It has ended, as far as the others are concerned."""
    world.rules.replace([(Hook.PRE_STOP, Script("hang"))])
    container = stopping(world, Script("succeed", 1))
    first = next(one for one in world.store.deliveries() if one.state is DeliveryState.DELIVERING)
    world.skip(container, first.id)
    world.run(10)
    assert [one.state for one in world.store.deliveries()] == [DeliveryState.SKIPPED, DeliveryState.DELIVERED]
    assert not container.state.stoppable


def test_a_skipped_post_start_lets_its_container_run(world: World) -> None:
    """StartContainer is answered OK."""
    container = world.create(Script("hang"), Script("succeed", 1))
    world.forget()
    world.start(container)
    world.run(2)
    world.skip(container, of(world, Hook.POST_START).id)
    world.run(5)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 journal: start accepted, postStart armed
          0.0 c1 StartContainer
          0.1 c1 runs
          0.1 journal: start forwarded, postStart delivering
          0.1 c1 postStart handler, attempt 1
          2.0 c1 → skip
          2.0 journal: postStart skipped
          2.0 c1 skip → OK
          2.0 journal: start done
          2.0 c1 start → OK
        """,
    )


def test_a_post_start_that_is_skipped_before_its_container_runs_is_not_run(world: World) -> None:
    """The start that is on its way is nothing to be ended."""
    container = world.create(Script("succeed", 1), behaviour=Behaviour(start_takes=3))
    start = world.start(container)
    world.run(1)
    world.skip(container, of(world, Hook.POST_START).id)
    world.run(9)
    assert start.answer == "OK"
    assert container.state.stoppable
    assert world.calls == []


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "after its end"])
def test_a_skipped_post_stop_is_not_told(world: World, running: bool) -> None:  # noqa: FBT001 # it is the case
    """Neither by this hookshim nor by the next one."""
    container = world.create(post_stop=Script("fail", 1, "http", attempts=None))
    world.start(container)
    world.run(1)
    if not running:
        world.containerd.exit(container)
        world.run(9)
    calls = len(world.calls)
    skip = world.skip(container, of(world, Hook.POST_STOP).id)
    world.run(1)
    assert skip.answer == "OK"
    world.containerd.exit(container)
    world.run(100)
    world.kill()
    world.run(100)
    assert len(world.calls) == calls
    settle(world)


def test_a_skip_that_was_accepted_holds_after_a_crash(world: World) -> None:
    """What the next daemon does not know of is not sent again: it was recorded before anything came of it."""
    container = stopping(world, Script("hang"))
    world.kill_at.add(Failpoint.OWNER_ACCEPTED)
    world.skip(container, of(world, Hook.PRE_STOP).id)
    world.run(5)
    tells(
        world,
        """
          0.0 c1 → stop(300)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          2.0 c1 → skip
          2.0 journal: preStop skipped
          2.0 hookshim is killed
          2.0 c1 stop(300) → UNAVAILABLE
          2.0 c1 skip → UNAVAILABLE
          2.1 journal: stop hooks_done, stop forwarded
          2.1 c1 StopContainer(298)
          2.1 c1 gets TERM
          3.1 c1 exits with 143
          3.1 journal: stop done
        """,
    )


def test_a_skip_that_was_not_accepted_never_was(world: World) -> None:
    """The hook is sent again, as after any crash."""
    container = stopping(world, Script("hang"))
    world.kill_at.add(Failpoint.OWNER_ACCEPT)
    world.skip(container, of(world, Hook.PRE_STOP).id)
    world.run(5)
    assert of(world, Hook.PRE_STOP).state is DeliveryState.DELIVERING
    assert [call.attempt for call in world.calls] == [1, 2]


def test_a_full_disk_keeps_no_skip_from_its_effect(world: World) -> None:
    """A stop must not have to wait for a disk; the record is written when it can be."""
    container = stopping(world, Script("hang"))
    world.disk_full = world.disk_was_bad = True
    world.skip(container, of(world, Hook.PRE_STOP).id)
    world.run(20)
    assert not container.state.stoppable
    world.disk_full = False
    world.run(60)
    assert of(world, Hook.PRE_STOP).state is DeliveryState.SKIPPED


def test_a_hook_that_waits_for_its_next_attempt_gets_it_at_once(world: World) -> None:
    """Instead of the rest of its pause, which is at least four seconds after the third attempt, and drawn."""
    container = world.running(pre_stop=Script("succeed", 0.1, fails=3, attempts=9))
    stop = world.stop(container, 300)
    world.run(6)
    asked = world.loop.time()
    world.retry(container, of(world, Hook.PRE_STOP).id)
    world.run(3)
    assert [call.attempt for call in world.calls] == [1, 2, 3, 4]
    assert world.calls[2].time < asked <= world.calls[3].time < asked + 0.1
    assert stop.answer == "OK"


@pytest.mark.parametrize("crash", [False, True], ids=["alive", "killed"])
def test_a_post_stop_that_has_failed_is_told_again(world: World, crash: bool) -> None:  # noqa: FBT001 # it is the case
    """Its operation is open again, whoever dies after that was accepted, and for another period."""
    container = ended(world, DEAF_ONCE)
    failed = of(world, Hook.POST_STOP)
    assert failed.state is DeliveryState.FAILED
    if crash:
        world.kill_at.add(Failpoint.OWNER_ACCEPTED)
    world.retry(container, failed.id)
    world.run(5)
    now = of(world, Hook.POST_STOP)
    assert (now.state, now.attempts, now.attempts_before) == (DeliveryState.DELIVERED, 2, 1)
    assert world.ends == crash
    settle(world)


def test_a_post_stop_that_fails_once_more_is_told_until_its_time_is_over(world: World) -> None:
    """Each time that its owner asks, it has the time and the attempts that it had at first."""
    container = ended(world, Script("fail", 0.5, "http", attempts=3, timeout=60.0))
    world.run(60)
    assert of(world, Hook.POST_STOP).attempts == 3
    for times in (2, 3):
        world.retry(container, of(world, Hook.POST_STOP).id)
        world.run(60)
        now = of(world, Hook.POST_STOP)
        assert (now.state, now.attempts, now.tries) == (DeliveryState.FAILED, 3 * times, 3)
    assert [event.reason for event in world.announced] == ["FailedPostStopHook"] * 3
    settle(world)


@pytest.mark.parametrize("crash", [False, True], ids=["alive", "killed"])
def test_a_post_start_that_is_sent_again_ends_nobody(world: World, crash: bool) -> None:  # noqa: FBT001 # it is the case
    """Its container has lived on without it: if it fails once more, that is told, and all there is to it."""
    container = world.create(Script("fail", 0.5, ignore=True), Script("succeed", 1))
    world.start(container)
    world.run(2)
    delivery = of(world, Hook.POST_START)
    world.forget()
    world.retry(container, delivery.id)
    if crash:
        world.run(0.2)
        world.kill()
    world.run(5)
    now = of(world, Hook.POST_START)
    assert (now.state, now.attempts) == (DeliveryState.FAILED, 2 + crash)
    assert container.state.stoppable
    assert [event.delivery_id for event in world.announced] == [delivery.id] * 2
    settle(world)


def test_a_post_start_that_is_sent_again_is_ended_by_a_stop(world: World) -> None:
    """As one that is sent for the first time."""
    container = world.create(Script("succeed", 50, fails=1, ignore=True), Script("succeed", 1))
    world.start(container)
    world.run(60)
    world.retry(container, of(world, Hook.POST_START).id)
    world.run(2)
    stop = world.stop(container, 30)
    world.run(5)
    assert stop.answer == "OK"
    assert of(world, Hook.POST_START).outcome.error.endswith("stopped before it ended")
    settle(world)


def test_a_retry_that_cannot_be_recorded_is_none(world: World) -> None:
    """It is accepted by its record."""
    container = ended(world, DEAF_ONCE)
    world.disk_full = world.disk_was_bad = True
    retry = world.retry(container, of(world, Hook.POST_STOP).id)
    world.run(10)
    assert retry.answer == "UNAVAILABLE"
    world.disk_full = False
    world.run(60)
    assert of(world, Hook.POST_STOP).state is DeliveryState.FAILED
    retry = world.retry(container, of(world, Hook.POST_STOP).id)
    world.run(10)
    assert (retry.answer, of(world, Hook.POST_STOP).state) == ("OK", DeliveryState.DELIVERED)


def test_what_cannot_be_sent_again_is_refused_with_what_to_do(world: World) -> None:
    """Of each state, why."""
    container = world.create(Script("succeed"), Script("fail", 3), post_stop=Script("succeed", 0.1, "http"))
    world.start(container)
    world.run(1)
    assert "it has been delivered" in refused(world, world.retry(container, of(world, Hook.POST_START).id))
    assert "it is not due yet" in refused(world, world.retry(container, of(world, Hook.POST_STOP).id))
    assert "delivered already" in refused(world, world.skip(container, of(world, Hook.POST_START).id))
    world.stop(container, 30)
    world.run(1)
    assert "wait for its outcome, or skip it" in refused(world, world.retry(container, of(world, Hook.PRE_STOP).id))
    world.run(30)
    assert "by hand" in refused(world, world.retry(container, of(world, Hook.PRE_STOP).id))


def test_a_post_start_whose_container_does_not_run_is_not_sent_again(world: World) -> None:
    """It has nobody to be run in."""
    container = world.create(Script("fail", 0.5))
    world.start(container)
    world.run(0.6)
    assert "being started or stopped" in refused(world, world.retry(container, of(world, Hook.POST_START).id))
    world.run(30)
    assert "does not run any more" in refused(world, world.retry(container, of(world, Hook.POST_START).id))


def test_an_id_is_known_by_its_beginning_if_that_is_one_alone(world: World) -> None:
    """As people type ids; what is none, or several, is refused."""
    container = world.running(Script("succeed"), Script("hang"))
    world.stop(container, 300)
    world.run(1)
    engine, loop = world.daemon.engine, world.loop
    with pytest.raises(UnknownDeliveryError, match="there is no delivery x\\\\x1b; `hookshim deliveries` lists them"):
        loop.run_until_complete(world.spawn(engine.skip("x\x1b", "why")))
    with pytest.raises(AskedWronglyError, match="more than one delivery begins with id: type more of its id"):
        loop.run_until_complete(world.spawn(engine.skip("id", "why")))
    done = loop.run_until_complete(world.spawn(engine.skip(of(world, Hook.PRE_STOP).id[:3], "why")))
    assert done.delivery_id == of(world, Hook.PRE_STOP).id
    assert (
        done.message
        == f"delivery {done.delivery_id}, the preStop of container main of pod web_default(uid), is skipped"
    )
    world.errors.clear()


@pytest.mark.parametrize("reason", ["", "  ", "a\nb", "\x1b[31m", "x" * 201])
def test_a_reason_is_one_line_that_people_can_read(world: World, reason: str) -> None:
    """It is shown in a table, and kept."""
    container = stopping(world, Script("hang"))
    with pytest.raises(AskedWronglyError, match=r"a reason is needed|one line of at most 200 printable characters"):
        world.loop.run_until_complete(world.spawn(world.daemon.engine.skip(of(world, Hook.PRE_STOP).id, reason)))
    world.errors.clear()
    assert of(world, Hook.PRE_STOP).state is DeliveryState.DELIVERING
    assert container.state.stoppable
