"""Exact histories of stops, to be read: what happens when, to whom, and what is written before it."""

from __future__ import annotations

from tests.engine.sim_containerd import Behaviour, Trouble
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


def test_an_error_of_stop_container_is_answered_and_the_stop_is_tried_again(world: World) -> None:
    """The caller hears containerd's own words; the accepted stop is finished without it, and without the hook."""
    container = world.running(pre_stop=Script("succeed", 1), behaviour=Behaviour(stop_troubles=(Trouble.REFUSED,) * 2))
    world.stop(container, 30)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          1.0 journal: preStop delivered, stop hooks_done, stop forwarded
          1.0 c1 StopContainer(29)
          1.0 journal: stop hooks_done
          1.0 c1 stop(30) → UNKNOWN
          1.2 journal: stop forwarded
          1.2 c1 StopContainer(29)
          1.2 journal: stop hooks_done
          1.6 journal: stop forwarded
          1.6 c1 StopContainer(29)
          1.6 c1 gets TERM
          2.6 c1 exits with 143
          2.6 journal: stop done
        """,
    )


def test_a_stop_whose_answer_was_lost_is_not_repeated_on_an_ended_container(world: World) -> None:
    """The state tells that it had its effect."""
    container = world.running(pre_stop=Script("succeed", 1), behaviour=Behaviour(stop_troubles=(Trouble.LOST_AFTER,)))
    world.stop(container, 30)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          1.0 journal: preStop delivered, stop hooks_done, stop forwarded
          1.0 c1 StopContainer(29)
          1.0 c1 gets TERM
          2.0 c1 exits with 143
          2.0 journal: stop hooks_done
          2.0 c1 stop(30) → UNAVAILABLE
          2.2 journal: stop done
        """,
    )


def test_a_caller_that_joins_a_stop_in_trouble_has_it_tried_at_once(world: World) -> None:
    """It does not wait for the pause between two tries, and is answered by its own."""
    troubles = (Trouble.REFUSED,) * 7
    container = world.running(pre_stop=Script("succeed", 1), behaviour=Behaviour(stop_troubles=troubles))
    world.stop(container, 30)
    world.run(20)
    world.stop(container, 5)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          1.0 journal: preStop delivered, stop hooks_done, stop forwarded
          1.0 c1 StopContainer(29)
          1.0 journal: stop hooks_done
          1.0 c1 stop(30) → UNKNOWN
          1.2 journal: stop forwarded
          1.2 c1 StopContainer(29)
          1.2 journal: stop hooks_done
          1.6 journal: stop forwarded
          1.6 c1 StopContainer(29)
          1.6 journal: stop hooks_done
          2.4 journal: stop forwarded
          2.4 c1 StopContainer(28)
          2.4 journal: stop hooks_done
          4.0 journal: stop forwarded
          4.0 c1 StopContainer(26)
          4.0 journal: stop hooks_done
          7.2 journal: stop forwarded
          7.2 c1 StopContainer(23)
          7.2 journal: stop hooks_done
         13.6 journal: stop forwarded
         13.6 c1 StopContainer(17)
         13.6 journal: stop hooks_done
         20.0 c1 → stop(5)
         20.0 journal: stop shortened
         20.0 journal: stop forwarded
         20.0 c1 StopContainer(5)
         20.0 c1 gets TERM
         21.0 c1 exits with 143
         21.0 journal: stop done
         21.0 c1 stop(5) → OK
        """,
    )


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


def test_containerd_that_goes_away_during_a_stop_is_waited_for(world: World) -> None:
    """It sends no KILL then; the stop is forwarded again when it is back."""
    container = world.running(pre_stop=Script("succeed", 1), behaviour=Behaviour(term_takes=None))
    world.stop(container, 10)
    world.run(3)
    world.containerd.away()
    world.run(3)
    world.containerd.back()
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → stop(10)
          0.0 journal: stop accepted, preStop delivering
          0.0 c1 preStop handler, attempt 1
          1.0 journal: preStop delivered, stop hooks_done, stop forwarded
          1.0 c1 StopContainer(9)
          1.0 c1 gets TERM
          3.0 containerd is away
          3.0 journal: stop hooks_done
          3.0 c1 stop(10) → UNAVAILABLE
          3.2 journal: stop forwarded
          3.2 journal: stop hooks_done
          3.6 journal: stop forwarded
          3.6 journal: stop hooks_done
          4.4 journal: stop forwarded
          4.4 journal: stop hooks_done
          6.0 containerd is back
          6.0 journal: stop forwarded
          6.0 c1 StopContainer(4)
         10.0 c1 gets KILL
         10.0 c1 exits with 137
         10.0 journal: stop done
        """,
    )


def test_a_stop_is_never_refused_by_a_full_disk(world: World) -> None:
    """The hook runs, the container ends, and the records are written when there is room again."""
    container = world.running(pre_stop=Script("succeed", 1))
    world.disk_full = True
    world.stop(container, 10)
    world.run(3)
    world.disk_full = False
    world.run(5)
    tells(
        world,
        """
          0.0 c1 → stop(10)
          0.0 journal: disk full
          0.0 c1 preStop handler, attempt 1
          1.0 journal: disk full
          1.0 c1 StopContainer(9)
          1.0 c1 gets TERM
          2.0 c1 exits with 143
          2.0 journal: disk full
          2.0 c1 stop(10) → OK
          2.0 journal: disk full
          2.5 journal: disk full
          3.5 journal: stop accepted, preStop delivering, preStop delivered, stop hooks_done, stop forwarded, stop done
        """,
    )


def test_a_hanging_disk_keeps_nothing_alive_and_loses_no_record(world: World) -> None:
    """Five seconds at most are waited for a record; one that fails later is written before those that build on it."""
    container = world.running(pre_stop=Script("succeed", 1))
    world.sync = 8
    world.stop(container, 30)
    world.run(7)
    world.disk_full = True
    world.run(3)
    world.disk_full = False
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → stop(30)
          5.0 c1 preStop handler, attempt 1
          8.0 journal: disk full
          8.0 c1 StopContainer(22)
          8.0 c1 gets TERM
          9.0 c1 exits with 143
         14.0 c1 stop(30) → OK
         17.0 journal: stop accepted, preStop delivering, preStop delivered, stop hooks_done, stop forwarded, stop done
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
