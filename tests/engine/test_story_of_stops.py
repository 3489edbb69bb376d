"""Exact histories of stops, to be read: what happens when, to whom, and what is written before it."""

from __future__ import annotations

from tests.engine.sim_containerd import Behaviour
from tests.engine.sim_ports import Script
from tests.engine.simulation import World
from tests.engine.stories import tells


def test_a_stop_runs_pre_stop_and_forwards_what_is_left(world: World) -> None:
    """60 s of grace, a hook of 55 s: 5 s for the process, which ignores TERM, then KILL (semantics.md's example)."""
    container = world.running(pre_stop=Script("succeed", 55), behaviour=Behaviour(term_takes=None))
    world.stop(container, 60)
    world.run(70)
    tells(
        world,
        """
          0.0 c1 → stop(60)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
         55.0 journal: preStop delivered, stop hooks_done, stop forwarded
         55.0 c1 StopContainer(5)
         55.0 c1 gets TERM
         60.0 c1 gets KILL
         60.0 c1 exits with 137
         60.0 journal: stop done
         60.0 c1 stop(60) → OK
        """,
    )


def test_a_stop_with_timeout_0_gives_the_hook_the_pods_grace(world: World) -> None:
    """The hook has 30 s, then 0 is forwarded: no TERM."""
    container = world.running(pre_stop=Script("hang"))
    world.stop(container, 0)
    world.run(60)
    tells(
        world,
        """
          0.0 c1 → stop(0)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
         30.0 journal: preStop failed, event FailedPreStopHook, stop hooks_done, stop forwarded
         30.0 c1 StopContainer(0)
         30.0 c1 gets KILL
         30.0 c1 exits with 137
         30.0 journal: stop done
         30.0 c1 stop(0) → OK
        """,
    )


def test_a_container_that_exits_in_its_pre_stop_is_no_failure(world: World) -> None:
    """It is recorded as exited, without an event, and the answer is OK."""
    container = world.running(pre_stop=Script("exit", 3))
    world.stop(container, 30)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          3.0 c1 exits with 0
          3.0 journal: preStop exited, stop hooks_done, stop forwarded
          3.0 c1 StopContainer(27)
          3.0 journal: stop done
          3.0 c1 stop(30) → OK
        """,
    )


def test_a_bug_in_a_handler_is_a_failed_hook(world: World) -> None:
    """The stop goes on; the exit of the container was ruled out for a second."""
    container = world.running(pre_stop=Script("raise", 1))
    world.stop(container, 10)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → stop(10)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          2.0 journal: preStop failed, event FailedPreStopHook, stop hooks_done, stop forwarded
          2.0 c1 StopContainer(8)
          2.0 c1 gets TERM
          3.0 c1 exits with 143
          3.0 journal: stop done
          3.0 c1 stop(10) → OK
        """,
    )
    [delivery] = world.store.deliveries()
    assert delivery.outcome.error.endswith("error: internal error: ZeroDivisionError")


def test_a_caller_that_leaves_during_pre_stop_takes_nothing_with_it(world: World) -> None:
    """The stop is finished."""
    container = world.running(pre_stop=Script("succeed", 3))
    world.stop(container, 30, leave=1)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          1.0 c1 stop(30) → left
          3.0 journal: preStop delivered, stop hooks_done, stop forwarded
          3.0 c1 StopContainer(27)
          3.0 c1 gets TERM
          4.0 c1 exits with 143
          4.0 journal: stop done
        """,
    )


def test_a_caller_that_leaves_after_the_hook_takes_nothing_with_it(world: World) -> None:
    """The forwarded call goes on: containerd would send no KILL without it."""
    container = world.running(pre_stop=Script("succeed", 1), behaviour=Behaviour(term_takes=None))
    world.stop(container, 5, leave=2)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → stop(5)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          1.0 journal: preStop delivered, stop hooks_done, stop forwarded
          1.0 c1 StopContainer(4)
          1.0 c1 gets TERM
          2.0 c1 stop(5) → left
          5.0 c1 gets KILL
          5.0 c1 exits with 137
          5.0 journal: stop done
        """,
    )


def test_a_container_that_ends_by_itself_leaves_a_record_of_its_pre_stop(world: World) -> None:
    """It was not due: skipped, without an event, and no handler is called."""
    container = world.running(pre_stop=Script("succeed", 1))
    world.containerd.exit(container)
    world.run(10)
    tells(
        world,
        """
          0.0 c1 exits with 0
          0.0 journal: stop done, preStop skipped
        """,
    )
    [delivery] = world.store.deliveries()
    assert delivery.outcome.error == "ended by itself: Completed, exit code 0"


def test_a_pods_stop_runs_the_pre_stops_of_its_containers_first(world: World) -> None:
    """All at once, and refuses a start meanwhile; then the caller's own call is forwarded."""
    # the pods take turns: first, third and fifth are of one
    first, _, _ = (world.running(pre_stop=Script("succeed", seconds)) for seconds in (2, 5, 4))
    other, new = world.create(), world.create(pre_stop=Script("succeed", 1))
    world.stop_pod(first)
    world.run(1)
    world.start(new)
    world.start(other)
    world.run(60)
    tells(
        world,
        """
          0.0 c1 → stop pod
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          0.0 journal: stop accepted, preStop delivering
          0.0 c3 preStop handler, attempt 1
          1.0 c5 → start
          1.0 c4 → start
          1.0 c4 StartContainer
          1.0 c5 start → FAILED_PRECONDITION
          1.1 c4 runs
          1.1 c4 start → OK
          2.0 journal: preStop delivered, stop hooks_done, stop forwarded
          2.0 c1 StopContainer(0)
          2.0 c1 gets KILL
          2.0 c1 exits with 137
          2.0 journal: stop done
          4.0 journal: preStop delivered, stop hooks_done, stop forwarded
          4.0 c3 StopContainer(0)
          4.0 c3 gets KILL
          4.0 c3 exits with 137
          4.0 journal: stop done
          4.0 StopPodSandbox(pod1)
          4.0 c1 stop pod → OK
        """,
    )
