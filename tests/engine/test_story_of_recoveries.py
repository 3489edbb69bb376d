"""Exact histories of recoveries, to be read: what a new daemon makes of what the last one left."""

from __future__ import annotations

from shim.failpoints import Failpoint
from tests.engine.sim_containerd import Behaviour, CutStart
from tests.engine.sim_ports import Script
from tests.engine.simulation import World
from tests.engine.stories import tells


def test_a_start_and_a_stop_that_are_both_open_end_as_a_stop(world: World) -> None:
    """PostStart is not sent again beside it."""
    container = world.create(Script("hang"), Script("succeed", 1))
    world.forget()
    world.start(container)
    world.run(2)
    world.kill_at.add(Failpoint.POST_START_RAN)
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
          2.0 c1 → stop(10)
          2.0 journal: stop accepted, preStop delivering
          2.0 hookshim is killed
          2.0 c1 start → UNAVAILABLE
          2.0 c1 stop(10) → UNAVAILABLE
          2.1 journal: postStart failed, event FailedPostStartHook, start done
          2.1 journal: preStop delivering
          2.1 c1 preStop handler, attempt 2
          3.1 journal: preStop delivered, stop hooks_done, stop forwarded
          3.1 c1 StopContainer(9)
          3.1 c1 gets TERM
          4.1 c1 exits with 143
          4.1 journal: stop done
        """,
    )


def test_a_forwarded_stop_is_forwarded_again(world: World) -> None:
    """Whether it arrived is not known, and containerd sends one TERM."""
    container = world.running(pre_stop=Script("succeed", 1), behaviour=Behaviour(term_takes=None))
    world.stop(container, 10)
    world.run(3)
    world.kill(downtime=1)
    world.run(30)
    tells(
        world,
        """
          0.0 c1 → stop(10)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          1.0 journal: preStop delivered, stop hooks_done, stop forwarded
          1.0 c1 StopContainer(9)
          1.0 c1 gets TERM
          3.0 hookshim is killed
          3.0 c1 stop(10) → UNAVAILABLE
          4.0 journal: stop hooks_done
          4.0 journal: stop forwarded
          4.0 c1 StopContainer(6)
         10.0 c1 gets KILL
         10.0 c1 exits with 137
         10.0 journal: stop done
        """,
    )


def test_a_stop_that_was_cut_off_before_its_commit_was_not_accepted(world: World) -> None:
    """Nothing has happened; the caller has its error, and repeats it."""
    container = world.running(pre_stop=Script("succeed", 1))
    world.kill_at.add(Failpoint.STOP_ACCEPT)
    world.stop(container, 10)
    world.run(2)
    world.stop(container, 10)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → stop(10)
          0.0 hookshim is killed
          0.0 c1 stop(10) → UNAVAILABLE
          2.0 c1 → stop(10)
          2.0 journal: stop accepted, preStop delivering
          2.0 c1 preStop handler, attempt 1
          3.0 journal: preStop delivered, stop hooks_done, stop forwarded
          3.0 c1 StopContainer(9)
          3.0 c1 gets TERM
          4.0 c1 exits with 143
          4.0 journal: stop done
          4.0 c1 stop(10) → OK
        """,
    )


def test_a_start_that_was_cut_off_and_runs_has_its_post_start(world: World) -> None:
    """Armed becomes pending as soon as the container is seen RUNNING."""
    container = world.create(Script("succeed", 1), behaviour=Behaviour(start_takes=2))
    world.forget()
    world.start(container)
    world.run(1)
    world.kill()
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 journal: start accepted, postStart armed
          0.0 c1 StartContainer
          1.0 hookshim is killed
          1.0 c1 start → UNAVAILABLE
          3.0 c1 runs
          4.2 journal: start forwarded, postStart delivering
          4.2 c1 postStart handler, attempt 1
          5.2 journal: postStart delivered, start done
        """,
    )


def test_a_start_that_was_cut_off_and_failed_is_void_and_cleared(world: World) -> None:
    """The task that it left behind would keep the pod from being removed."""
    container = world.create(Script("succeed", 1), behaviour=Behaviour(cut_start=CutStart.FAILS, start_takes=2))
    world.forget()
    world.start(container)
    world.run(1)
    world.kill(downtime=5)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 journal: start accepted, postStart armed
          0.0 c1 StartContainer
          1.0 hookshim is killed
          1.0 c1 start → UNAVAILABLE
          3.0 c1 does not start
          6.0 journal: postStart void, start done
        """,
    )
    assert not container.leftover


def test_a_reboot_misses_what_was_open(world: World) -> None:
    """Nothing of it can be delivered, and people hear of it."""
    container = world.running(pre_stop=Script("hang"))
    world.stop(container, 30)
    world.run(2)
    world.reboot()
    world.run(10)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          2.0 the node is rebooted
          2.0 containerd is away
          2.0 containerd is back
          2.0 hookshim is killed
          2.0 c1 stop(30) → UNAVAILABLE
          2.1 journal: preStop missed, event MissedPreStopHook, stop done
        """,
    )


def test_recovery_waits_for_containerd(world: World) -> None:
    """Callers are refused meanwhile, and what was open goes on afterwards."""
    container = world.running(pre_stop=Script("succeed", 3))
    world.stop(container, 30)
    world.run(1)
    world.containerd.away()
    world.kill()
    world.run(5)
    world.stop(container, 30)
    world.run(5)
    world.containerd.back()
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          1.0 containerd is away
          1.0 hookshim is killed
          1.0 c1 stop(30) → UNAVAILABLE
          6.0 c1 → stop(30)
          6.0 c1 stop(30) → UNAVAILABLE
         11.0 containerd is back
         11.0 journal: preStop delivering
         11.0 c1 preStop handler, attempt 2
         14.0 journal: preStop delivered, stop hooks_done, stop forwarded
         14.0 c1 StopContainer(16)
         14.0 c1 gets TERM
         15.0 c1 exits with 143
         15.0 journal: stop done
        """,
    )


def test_a_drain_leaves_what_takes_longer_to_recovery(world: World) -> None:
    """The hook is cancelled after 3 s, and is sent again by the next daemon."""
    container = world.running(pre_stop=Script("succeed", 8))
    world.stop(container, 30)
    world.run(1)
    world.terminate(drain=3)
    world.run(1)
    world.stop(container, 30)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          1.0 hookshim is terminated
          2.0 c1 → stop(30)
          2.0 c1 stop(30) → UNAVAILABLE
          4.0 c1 stop(30) → UNAVAILABLE
          4.1 journal: preStop delivering
          4.1 c1 preStop handler, attempt 2
         12.1 journal: preStop delivered, stop hooks_done, stop forwarded
         12.1 c1 StopContainer(18)
         12.1 c1 gets TERM
         13.1 c1 exits with 143
         13.1 journal: stop done
        """,
    )


def test_a_drain_lets_what_is_quick_end(world: World) -> None:
    """The caller has its answer, and nothing is left."""
    container = world.running(pre_stop=Script("succeed", 3))
    world.stop(container, 30)
    world.run(1)
    world.terminate(drain=10)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          1.0 hookshim is terminated
          3.0 journal: preStop delivered, stop hooks_done, stop forwarded
          3.0 c1 StopContainer(27)
          3.0 c1 gets TERM
          4.0 c1 exits with 143
          4.0 journal: stop done
          4.0 c1 stop(30) → OK
        """,
    )
