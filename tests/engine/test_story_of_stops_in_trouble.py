"""Exact histories of stops in trouble, to be read: errors of containerd's, and disks that are full or hang."""

from __future__ import annotations

from tests.engine.sim_containerd import Behaviour, Trouble
from tests.engine.sim_ports import Script
from tests.engine.simulation import World
from tests.engine.stories import tells


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
          2.0 c1 stop(30) → UNKNOWN
          2.2 journal: stop forwarded
          2.2 c1 StopContainer(28)
          2.3 journal: stop hooks_done
          2.7 journal: stop forwarded
          2.7 c1 StopContainer(28)
          2.7 c1 gets TERM
          3.7 c1 exits with 143
          3.7 journal: stop done
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
          2.0 c1 stop(30) → UNKNOWN
          2.2 journal: stop forwarded
          2.2 c1 StopContainer(28)
          2.3 journal: stop hooks_done
          2.7 journal: stop forwarded
          2.7 c1 StopContainer(28)
          2.7 journal: stop hooks_done
          3.5 journal: stop forwarded
          3.5 c1 StopContainer(27)
          3.5 journal: stop hooks_done
          5.1 journal: stop forwarded
          5.1 c1 StopContainer(25)
          5.1 journal: stop hooks_done
          8.3 journal: stop forwarded
          8.3 c1 StopContainer(22)
          8.3 journal: stop hooks_done
         14.7 journal: stop forwarded
         14.7 c1 StopContainer(16)
         14.7 journal: stop hooks_done
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
          0.5 journal: disk full
          1.0 journal: disk full
          1.0 c1 StopContainer(9)
          1.0 c1 gets TERM
          1.5 journal: disk full
          2.0 c1 exits with 143
          2.0 journal: disk full
          2.0 c1 stop(10) → OK
          2.0 journal: disk full
          2.5 journal: disk full
          3.5 journal: stop accepted, preStop delivering, preStop delivered, stop hooks_done, stop forwarded, stop done
        """,
    )


def test_a_hanging_disk_keeps_nothing_alive_and_loses_no_record(world: World) -> None:
    """It is waited for once, for five seconds; what fails later is written before what builds on it."""
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
          6.0 c1 StopContainer(24)
          6.0 c1 gets TERM
          7.0 c1 exits with 143
          7.0 c1 stop(30) → OK
          8.0 journal: disk full
         16.0 journal: stop accepted, preStop delivering, preStop delivered, stop hooks_done, stop forwarded, stop done
        """,
    )
