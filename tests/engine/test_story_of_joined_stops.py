"""Exact histories of stops that join another one, to be read: the earliest deadline counts, and a grace is kept."""

from __future__ import annotations

from tests.engine.sim_containerd import Behaviour
from tests.engine.sim_ports import Script
from tests.engine.simulation import World
from tests.engine.stories import tells


def test_a_second_stop_joins_the_first(world: World) -> None:
    """The hook runs once; both are answered when the container has ended."""
    container = world.running(pre_stop=Script("succeed", 5))
    world.stop(container, 30)
    world.run(1)
    world.stop(container, 30)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          1.0 c1 → stop(30)
          5.0 journal: preStop delivered, stop hooks_done, stop forwarded
          5.0 c1 StopContainer(25)
          5.0 c1 gets TERM
          6.0 c1 exits with 143
          6.0 journal: stop done
          6.0 c1 stop(30) → OK
          6.0 c1 stop(30) → OK
        """,
    )


def test_a_shorter_stop_shortens_a_running_hook(world: World) -> None:
    """The second caller's 5 s end the hook, and the minimum is forwarded."""
    container = world.running(pre_stop=Script("hang"))
    world.stop(container, 30)
    world.run(2)
    world.stop(container, 5)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          2.0 c1 → stop(5)
          2.0 journal: stop shortened
          7.0 journal: preStop failed, event FailedPreStopHook, stop hooks_done, stop forwarded
          7.0 c1 StopContainer(2)
          7.0 c1 gets TERM
          8.0 c1 exits with 143
          8.0 journal: stop done
          8.0 c1 stop(30) → OK
          8.0 c1 stop(5) → OK
        """,
    )


def test_a_shorter_stop_is_forwarded_too(world: World) -> None:
    """A process that ignores TERM is killed after the second caller's 5 s; it gets one TERM."""
    container = world.running(pre_stop=Script("succeed"), behaviour=Behaviour(term_takes=None))
    world.stop(container, 30)
    world.run(2)
    world.stop(container, 5)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          0.0 journal: preStop delivered, stop hooks_done, stop forwarded
          0.0 c1 StopContainer(30)
          0.0 c1 gets TERM
          2.0 c1 → stop(5)
          2.0 c1 StopContainer(5)
          2.0 journal: stop shortened
          7.0 c1 gets KILL
          7.0 c1 exits with 137
          7.0 journal: stop done
          7.0 c1 stop(30) → OK
          7.0 c1 stop(5) → OK
        """,
    )


def test_a_kill_that_joins_leaves_the_hook_its_budget(world: World) -> None:
    """Timeout 0 during the hook: the hook goes on, and the minimum grace is forwarded instead of 20 s."""
    container = world.running(pre_stop=Script("succeed", 10), behaviour=Behaviour(term_takes=None))
    world.stop(container, 30)
    world.run(2)
    world.stop(container, 0)
    world.run(60)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          2.0 c1 → stop(0)
         10.0 journal: preStop delivered, stop hooks_done, stop forwarded
         10.0 c1 StopContainer(2)
         10.0 c1 gets TERM
         12.0 c1 gets KILL
         12.0 c1 exits with 137
         12.0 journal: stop done
         12.0 c1 stop(30) → OK
         12.0 c1 stop(0) → OK
        """,
    )


def test_a_kill_that_joins_after_the_hook_leaves_the_minimum(world: World) -> None:
    """Timeout 0 while the process ends: it has 2 s more, since the first caller did not ask for a kill."""
    container = world.running(pre_stop=Script("succeed", 1), behaviour=Behaviour(term_takes=None))
    world.stop(container, 30)
    world.run(2)
    world.stop(container, 0)
    world.run(60)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          1.0 journal: preStop delivered, stop hooks_done, stop forwarded
          1.0 c1 StopContainer(29)
          1.0 c1 gets TERM
          2.0 c1 → stop(0)
          2.0 c1 StopContainer(2)
          2.0 journal: stop shortened
          4.0 c1 gets KILL
          4.0 c1 exits with 137
          4.0 journal: stop done
          4.0 c1 stop(30) → OK
          4.0 c1 stop(0) → OK
        """,
    )


def test_a_grace_that_joins_a_kill_is_kept(world: World) -> None:
    """Timeout 0 is forwarded only if every caller sent 0."""
    container = world.running(pre_stop=Script("succeed", 5), behaviour=Behaviour(term_takes=None))
    world.stop(container, 0)
    world.run(1)
    world.stop(container, 10)
    world.run(60)
    tells(
        world,
        """
          0.0 c1 → stop(0)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          1.0 c1 → stop(10)
          1.0 journal: stop shortened
          5.0 journal: preStop delivered, stop hooks_done, stop forwarded
          5.0 c1 StopContainer(6)
          5.0 c1 gets TERM
         11.0 c1 gets KILL
         11.0 c1 exits with 137
         11.0 journal: stop done
         11.0 c1 stop(0) → OK
         11.0 c1 stop(10) → OK
        """,
    )


def test_a_stop_that_joins_at_the_very_end_is_answered(world: World) -> None:
    """It comes while the end is being written, on a slow disk."""
    container = world.running(pre_stop=Script("succeed", 1))
    world.sync = 0.5
    world.stop(container, 30)
    world.run(3.2)
    world.stop(container, 5)
    world.run(10)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          0.5 journal: stop accepted, preStop delivering
          0.5 c1 preStop handler, attempt 1
          2.0 journal: preStop delivered, stop hooks_done, stop forwarded
          2.0 c1 StopContainer(28)
          2.0 c1 gets TERM
          3.0 c1 exits with 143
          3.2 c1 → stop(5)
          3.5 journal: stop done
          3.5 c1 stop(30) → OK
          4.0 journal: stop shortened
          4.0 c1 stop(5) → OK
        """,
    )
