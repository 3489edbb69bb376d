"""Exact histories of hooks that are sent again, to be read: how often, and what they have left."""

from __future__ import annotations

from tests.engine.sim_ports import Script
from tests.engine.simulation import World
from tests.engine.stories import tells


def test_an_interrupted_pre_stop_is_sent_again_and_the_stop_finished(world: World) -> None:
    """What is left of the grace counts from the acceptance."""
    container = world.running(pre_stop=Script("succeed", 4))
    world.stop(container, 30)
    world.run(2)
    world.kill(downtime=3)
    world.run(30)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          2.0 hookshim is killed
          2.0 c1 stop(30) → UNAVAILABLE
          5.0 journal: preStop delivering
          5.0 c1 preStop handler, attempt 2
          9.0 journal: preStop delivered, stop hooks_done, stop forwarded
          9.0 c1 StopContainer(21)
          9.0 c1 gets TERM
         10.0 c1 exits with 143
         10.0 journal: stop done
        """,
    )


def test_a_hook_that_is_sent_again_has_at_least_2_seconds(world: World) -> None:
    """Also if the grace has passed while hookshim was away."""
    container = world.running(pre_stop=Script("hang"))
    world.stop(container, 10)
    world.run(2)
    world.kill(downtime=60)
    world.run(80)
    tells(
        world,
        """
          0.0 c1 → stop(10)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          2.0 hookshim is killed
          2.0 c1 stop(10) → UNAVAILABLE
         62.0 journal: preStop delivering
         62.0 c1 preStop handler, attempt 2
         64.0 journal: preStop failed, event FailedPreStopHook, stop hooks_done, stop forwarded
         64.0 c1 StopContainer(2)
         64.0 c1 gets TERM
         65.0 c1 exits with 143
         65.0 journal: stop done
        """,
    )


def test_an_interrupted_post_start_is_sent_again(world: World) -> None:
    """Its caller has gone with the daemon; a failure still kills the container."""
    container = world.create(Script("fail", 3))
    world.forget()
    world.start(container)
    world.run(2)
    world.kill()
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 journal: start accepted, postStart armed
          0.0 c1 StartContainer
          0.1 c1 runs
          0.1 journal: start forwarded, postStart delivering
          0.1 c1 postStart handler, attempt 1
          2.0 hookshim is killed
          2.0 c1 start → UNAVAILABLE
          2.1 journal: postStart delivering
          2.1 c1 postStart handler, attempt 2
          5.1 journal: postStart failed, event FailedPostStartHook, start done, stop accepted
          5.1 journal: stop hooks_done, stop forwarded
          5.1 c1 StopContainer(30)
          5.1 c1 gets TERM
          6.1 c1 exits with 143
          6.1 journal: stop done
        """,
    )


def test_a_pre_stop_interrupted_5_times_is_failed_and_the_stop_goes_on(world: World) -> None:
    """It is given up with an event."""
    container = world.running(pre_stop=Script("hang"))
    world.stop(container, 300)
    for _ in range(5):
        world.run(2)
        world.kill()
    world.run(40)
    tells(
        world,
        """
          0.0 c1 → stop(300)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          2.0 hookshim is killed
          2.0 c1 stop(300) → UNAVAILABLE
          2.1 journal: preStop delivering
          2.1 c1 preStop handler, attempt 2
          4.0 hookshim is killed
          4.1 journal: preStop delivering
          4.1 c1 preStop handler, attempt 3
          6.0 hookshim is killed
          6.1 journal: preStop delivering
          6.1 c1 preStop handler, attempt 4
          8.0 hookshim is killed
          8.1 journal: preStop delivering
          8.1 c1 preStop handler, attempt 5
         10.0 hookshim is killed
         10.1 journal: preStop failed, event FailedPreStopHook, stop hooks_done, stop forwarded
         10.1 c1 StopContainer(290)
         10.1 c1 gets TERM
         11.1 c1 exits with 143
         11.1 journal: stop done
        """,
    )
    [delivery] = world.store.deliveries()
    assert (delivery.attempts, delivery.interruptions) == (5, 5)
    assert delivery.outcome.error.endswith("error: interrupted 5 times by the end of hookshim")


def test_a_post_start_interrupted_5_times_is_failed_and_the_container_killed(world: World) -> None:
    """As after any failed PostStart: PreStop, then the stop."""
    container = world.create(Script("hang"), Script("succeed", 1))
    world.forget()
    world.start(container)
    for _ in range(5):
        world.run(2)
        world.kill()
    world.run(40)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 journal: start accepted, postStart armed
          0.0 c1 StartContainer
          0.1 c1 runs
          0.1 journal: start forwarded, postStart delivering
          0.1 c1 postStart handler, attempt 1
          2.0 hookshim is killed
          2.0 c1 start → UNAVAILABLE
          2.1 journal: postStart delivering
          2.1 c1 postStart handler, attempt 2
          4.0 hookshim is killed
          4.1 journal: postStart delivering
          4.1 c1 postStart handler, attempt 3
          6.0 hookshim is killed
          6.1 journal: postStart delivering
          6.1 c1 postStart handler, attempt 4
          8.0 hookshim is killed
          8.1 journal: postStart delivering
          8.1 c1 postStart handler, attempt 5
         10.0 hookshim is killed
         10.1 journal: postStart failed, event FailedPostStartHook, start done, stop accepted, preStop delivering
         10.1 c1 preStop handler, attempt 1
         11.1 journal: preStop delivered, stop hooks_done, stop forwarded
         11.1 c1 StopContainer(29)
         11.1 c1 gets TERM
         12.1 c1 exits with 143
         12.1 journal: stop done
        """,
    )
