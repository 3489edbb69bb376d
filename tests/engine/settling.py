"""The end of every history: all that is open gets its time, its crash, and the end of its container."""

from __future__ import annotations

from dataclasses import replace

from shim.records import ContainerState
from tests.engine.promises import check_end, check_settled
from tests.engine.simulation import World

#: Seconds: more than any grace, any script and any pause between two tries here.
ENOUGH = 800.0


def settle(world: World) -> None:
    """Let everything come to its end, crash once more, end every container: nothing is lost."""
    world.steps_left = world.more_steps = None
    world.kill_at.clear()
    world.disk_full = world.disk_gone = False
    world.sync = 0.001
    world.faults.to_come = []
    for container in world.all:
        container.troubles.clear()
        container.behaviour = replace(container.behaviour, start_trouble=None)
    if world.containerd.hanging:
        world.containerd.away()
        world.run(1)
    if not world.containerd.up.is_set():
        world.containerd.back()
    if world.refused:
        # The next start of the daemon is the one that moves what this one has left.
        world.kill()
    world.run(ENOUGH)
    check_settled(world)
    world.kill()
    world.run(ENOUGH)
    check_settled(world)
    for container in world.all:
        world.containerd.exit(container)
        if container.state is ContainerState.CREATED:
            world.containerd.remove(container)
    # One that was removed without ever having run is missed by the next look of a daemon alone.
    world.run(60)
    world.kill()
    world.run(ENOUGH)
    check_end(world)
