"""Exact histories of starts that are in doubt or refused, to be read: only the container's state tells."""

from __future__ import annotations

from tests.engine.sim_containerd import Behaviour, CutStart, Trouble
from tests.engine.sim_ports import Script
from tests.engine.simulation import World
from tests.engine.stories import tells


def test_a_start_in_doubt_is_settled_as_running(world: World) -> None:
    """The answer was lost: the caller hears that, the hook is delivered."""
    container = world.create(Script("succeed", 1), behaviour=Behaviour(start_trouble=Trouble.LOST_AFTER))
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
          0.1 c1 start → UNAVAILABLE
          0.1 journal: start forwarded, postStart delivering
          0.1 c1 postStart handler, attempt 1
          1.1 journal: postStart delivered, start done
        """,
    )


def test_a_start_in_doubt_is_settled_as_void(world: World) -> None:
    """The caller's deadline cut it off, and containerd made an end of it."""
    container = world.create(Script("succeed", 1), behaviour=Behaviour(start_takes=3, cut_start=CutStart.FAILS))
    world.forget()
    world.start(container, deadline=2)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 journal: start accepted, postStart armed
          0.0 c1 StartContainer
          2.0 c1 start → DEADLINE_EXCEEDED
          5.0 c1 does not start
          5.1 journal: postStart void, start done
        """,
    )
    assert not container.leftover


def test_a_start_in_doubt_is_settled_as_ended(world: World) -> None:
    """It ran and ended between two looks: its hook was missed."""
    container = world.create(Script("succeed", 1), behaviour=Behaviour(start_takes=3, lives=0.01))
    world.forget()
    world.start(container, deadline=2)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 journal: start accepted, postStart armed
          0.0 c1 StartContainer
          2.0 c1 start → DEADLINE_EXCEEDED
          5.0 c1 runs
          5.0 c1 exits with 0
          5.1 journal: postStart missed, event MissedPostStartHook, start done
        """,
    )


def test_a_start_in_doubt_stays_open_while_the_container_is_created(world: World) -> None:
    """That is no evidence; a caller who starts it again settles it, and waits for its hook."""
    container = world.create(Script("succeed", 1), behaviour=Behaviour(start_takes=3, cut_start=CutStart.NOTHING))
    world.forget()
    world.start(container, deadline=2)
    world.run(20)
    world.start(container)
    world.run(20)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 journal: start accepted, postStart armed
          0.0 c1 StartContainer
          2.0 c1 start → DEADLINE_EXCEEDED
         20.0 c1 → start
         20.0 c1 StartContainer
         23.0 c1 runs
         23.0 journal: start forwarded, postStart delivering
         23.0 c1 postStart handler, attempt 1
         24.0 journal: postStart delivered, start done
         24.0 c1 start → OK
        """,
    )


def test_a_refused_start_is_void(world: World) -> None:
    """Containerd's own error is the answer, and the container can be started again."""
    container = world.create(Script("succeed", 1), behaviour=Behaviour(start_trouble=Trouble.REFUSED))
    world.forget()
    world.start(container)
    world.run(5)
    container.behaviour = Behaviour()
    world.start(container)
    world.run(5)
    tells(
        world,
        """
          0.0 c1 → start
          0.0 journal: start accepted, postStart armed
          0.0 journal: postStart void, start done
          0.0 c1 start → FAILED_PRECONDITION
          5.0 c1 → start
          5.0 journal: start accepted, postStart armed
          5.0 c1 StartContainer
          5.1 c1 runs
          5.1 journal: start forwarded, postStart delivering
          5.1 c1 postStart handler, attempt 1
          6.1 journal: postStart delivered, start done
          6.1 c1 start → OK
        """,
    )
