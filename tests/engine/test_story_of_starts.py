"""Exact histories of starts, to be read: what happens when, to whom, and what is written before it."""

from __future__ import annotations

from tests.engine.sim_containerd import Behaviour
from tests.engine.sim_ports import Script
from tests.engine.simulation import World
from tests.engine.stories import tells


def test_a_stop_that_saw_a_container_before_its_start_looks_again(world: World) -> None:
    """Its look-up was on the way while the start was answered."""
    container = world.create(pre_stop=Script("succeed", 1))
    world.forget()
    world.latency = 0.3
    world.start(container)
    world.run(0.2)
    world.stop(container, 5)
    world.run(10)
    tells(
        world,
        """
          0.0 c1 → start
          0.2 c1 → stop(5)
          0.3 c1 StartContainer
          0.3 c1 runs
          0.3 c1 start → OK
          0.8 journal: stop accepted, preStop delivering
          0.8 c1 preStop handler, attempt 1
          1.8 journal: preStop delivered, stop hooks_done, stop forwarded
          1.8 c1 StopContainer(4)
          1.8 c1 gets TERM
          2.8 c1 exits with 143
          2.8 journal: stop done
          2.8 c1 stop(5) → OK
        """,
    )


def test_a_post_start_that_fails_while_a_stop_is_being_accepted_causes_no_second_stop(world: World) -> None:
    """On a slow disk; the start hears of the failure, and neither waits for the other."""
    container = world.create(Script("fail", 1), Script("succeed", 1))
    world.forget()
    world.sync = 0.5
    world.start(container)
    world.run(1.8)
    world.stop(container, 5)
    world.run(10)
    tells(
        world,
        """
          0.0 c1 → start
          0.5 journal: start accepted, postStart armed
          0.5 c1 StartContainer
          0.6 c1 runs
          1.1 journal: start forwarded, postStart delivering
          1.1 c1 postStart handler, attempt 1
          1.8 c1 → stop(5)
          2.3 journal: stop accepted, preStop delivering
          2.8 journal: postStart failed, event FailedPostStartHook, start done
          2.8 c1 preStop handler, attempt 1
          2.8 c1 start → FAILED_PRECONDITION
          4.3 journal: preStop delivered, stop hooks_done, stop forwarded
          4.3 c1 StopContainer(3)
          4.3 c1 gets TERM
          5.3 c1 exits with 143
          5.8 journal: stop done
          5.8 c1 stop(5) → OK
        """,
    )


def test_a_start_waits_for_post_start(world: World) -> None:
    """StartContainer is answered after the handler; armed before it is forwarded."""
    container = world.create(Script("succeed", 3))
    world.forget()
    world.start(container)
    world.run(10)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 journal: start accepted, postStart armed
          0.0 c1 StartContainer
          0.1 c1 runs
          0.1 journal: start forwarded, postStart delivering
          0.1 c1 postStart handler, attempt 1
          3.1 journal: postStart delivered, start done
          3.1 c1 start → OK
        """,
    )


def test_a_failed_post_start_kills_the_container(world: World) -> None:
    """The stop that it causes is in the same commit, and the caller hears of it after the end."""
    container = world.create(Script("fail", 1))
    world.forget()
    world.start(container)
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
          1.1 journal: postStart failed, event FailedPostStartHook, start done, stop accepted
          1.1 journal: stop hooks_done, stop forwarded
          1.1 c1 StopContainer(30)
          1.1 c1 gets TERM
          2.1 c1 exits with 143
          2.1 journal: stop done
          2.1 c1 start → FAILED_PRECONDITION
        """,
    )
    assert world.callers[0].message == "PostStart handler: exited with 1"


def test_a_failed_post_start_runs_pre_stop_before_the_kill(world: World) -> None:
    """With the pod's grace as its countdown."""
    container = world.create(Script("fail", 1), Script("succeed", 3))
    world.forget()
    world.start(container)
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
          1.1 journal: postStart failed, event FailedPostStartHook, start done, stop accepted, preStop delivering
          1.1 c1 preStop handler, attempt 1
          4.1 journal: preStop delivered, stop hooks_done, stop forwarded
          4.1 c1 StopContainer(27)
          4.1 c1 gets TERM
          5.1 c1 exits with 143
          5.1 journal: stop done
          5.1 c1 start → FAILED_PRECONDITION
        """,
    )


def test_a_stop_during_post_start_ends_it(world: World) -> None:
    """The start is ABORTED, PreStop runs, and the PostStart that was ended causes no second stop."""
    container = world.create(Script("hang"), Script("succeed", 1))
    world.forget()
    world.start(container)
    world.run(3)
    world.stop(container, 10)
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
          3.0 c1 → stop(10)
          3.0 journal: stop accepted, preStop delivering
          3.0 journal: postStart failed, event FailedPostStartHook, start done
          3.0 c1 preStop handler, attempt 1
          3.0 c1 start → ABORTED
          4.0 journal: preStop delivered, stop hooks_done, stop forwarded
          4.0 c1 StopContainer(9)
          4.0 c1 gets TERM
          5.0 c1 exits with 143
          5.0 journal: stop done
          5.0 c1 stop(10) → OK
        """,
    )
    assert world.callers[0].message == "PostStart handler: stopped before it ended: the container is being stopped"


def test_a_stop_waits_for_an_unanswered_start(world: World) -> None:
    """Within its own countdown: containerd would say OK, and the container would run."""
    container = world.create(pre_stop=Script("succeed", 1), behaviour=Behaviour(start_takes=3))
    world.forget()
    world.start(container)
    world.run(1)
    world.stop(container, 10)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 c1 StartContainer
          1.0 c1 → stop(10)
          3.0 c1 runs
          3.0 c1 start → OK
          3.0 journal: stop accepted, preStop delivering
          3.0 c1 preStop handler, attempt 1
          4.0 journal: preStop delivered, stop hooks_done, stop forwarded
          4.0 c1 StopContainer(7)
          4.0 c1 gets TERM
          5.0 c1 exits with 143
          5.0 journal: stop done
          5.0 c1 stop(10) → OK
        """,
    )


def test_a_stop_that_cannot_wait_any_longer_for_a_start_is_refused(world: World) -> None:
    """Containerd would say OK, and the container would run: its caller is told to try again, and then it is stopped."""
    container = world.create(pre_stop=Script("succeed"), behaviour=Behaviour(start_takes=5))
    world.forget()
    world.start(container)
    world.run(1)
    world.stop(container, 2)
    world.run(5)
    world.stop(container, 2)
    world.run(5)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 c1 StartContainer
          1.0 c1 → stop(2)
          3.0 c1 stop(2) → UNAVAILABLE
          5.0 c1 runs
          5.0 c1 start → OK
          6.0 c1 → stop(2)
          6.0 journal: stop accepted, preStop delivering
          6.0 c1 preStop handler, attempt 1
          6.0 journal: preStop delivered, stop hooks_done, stop forwarded
          6.0 c1 StopContainer(2)
          6.0 c1 gets TERM
          7.0 c1 exits with 143
          7.0 journal: stop done
          7.0 c1 stop(2) → OK
        """,
    )
    assert world.callers[1].message == (
        "container main of pod web_default(uid) is not stopped: containerd has not answered its StartContainer within "
        "the timeout; try again"
    )


def test_a_stop_that_meets_a_start_being_accepted_waits_for_it(world: World) -> None:
    """They come at the same moment, and both find the container CREATED."""
    container = world.create(Script("succeed", 1), Script("succeed", 1))
    world.forget()
    world.start(container)
    world.stop(container, 10)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 c1 → stop(10)
          0.0 journal: start accepted, postStart armed
          0.0 c1 StartContainer
          0.1 c1 runs
          0.1 journal: start forwarded, postStart delivering
          0.1 c1 postStart handler, attempt 1
          0.1 journal: stop accepted, preStop delivering
          0.1 journal: postStart failed, event FailedPostStartHook, start done
          0.1 c1 preStop handler, attempt 1
          0.1 c1 start → ABORTED
          1.1 journal: preStop delivered, stop hooks_done, stop forwarded
          1.1 c1 StopContainer(9)
          1.1 c1 gets TERM
          2.1 c1 exits with 143
          2.1 journal: stop done
          2.1 c1 stop(10) → OK
        """,
    )


def test_a_caller_that_leaves_before_the_answer_takes_nothing_with_it(world: World) -> None:
    """The start goes on, and the hook after it."""
    container = world.create(Script("succeed", 2), behaviour=Behaviour(start_takes=3))
    world.forget()
    world.start(container, leave=1)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 journal: start accepted, postStart armed
          0.0 c1 StartContainer
          1.0 c1 start → left
          3.0 c1 runs
          3.0 journal: start forwarded, postStart delivering
          3.0 c1 postStart handler, attempt 1
          5.0 journal: postStart delivered, start done
        """,
    )


def test_a_caller_that_leaves_during_post_start_takes_nothing_with_it(world: World) -> None:
    """A failure still kills the container."""
    container = world.create(Script("fail", 2), behaviour=Behaviour(start_takes=1))
    world.forget()
    world.start(container, leave=2)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 journal: start accepted, postStart armed
          0.0 c1 StartContainer
          1.0 c1 runs
          1.0 journal: start forwarded, postStart delivering
          1.0 c1 postStart handler, attempt 1
          2.0 c1 start → left
          3.0 journal: postStart failed, event FailedPostStartHook, start done, stop accepted
          3.0 journal: stop hooks_done, stop forwarded
          3.0 c1 StopContainer(30)
          3.0 c1 gets TERM
          4.0 c1 exits with 143
          4.0 journal: stop done
        """,
    )


def test_a_container_that_exits_in_its_post_start_was_started(world: World) -> None:
    """The answer is OK, without an event."""
    container = world.create(Script("exit", 3))
    world.forget()
    world.start(container)
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
          3.1 c1 exits with 0
          3.1 journal: postStart exited, start done
          3.1 c1 start → OK
        """,
    )


def test_a_start_with_post_start_is_refused_by_a_full_disk(world: World) -> None:
    """Nothing is forwarded; with room again, the same call works."""
    container = world.create(Script("succeed", 1))
    world.forget()
    world.disk_full = True
    world.start(container)
    world.run(1)
    world.disk_full = False
    world.start(container)
    world.run(5)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 journal: disk full
          0.0 c1 start → UNAVAILABLE
          1.0 c1 → start
          1.0 journal: start accepted, postStart armed
          1.0 c1 StartContainer
          1.1 c1 runs
          1.1 journal: start forwarded, postStart delivering
          1.1 c1 postStart handler, attempt 1
          2.1 journal: postStart delivered, start done
          2.1 c1 start → OK
        """,
    )


def test_a_start_without_post_start_needs_no_journal(world: World) -> None:
    """A full disk keeps no container from being started."""
    container = world.create(pre_stop=Script("succeed", 1))
    world.forget()
    world.disk_full = True
    world.start(container)
    world.run(5)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 c1 StartContainer
          0.1 c1 runs
          0.1 c1 start → OK
        """,
    )
