"""The end of every history: all that is open gets its time, its crash, and the end of its container."""

from __future__ import annotations

from shim.records import ContainerState
from tests.engine.promises import check_end, check_settled
from tests.engine.simulation import World

#: Seconds: more than any grace, any script and any pause between two tries here.
ENOUGH = 400.0


def settle(world: World) -> None:
    """Let everything come to its end, crash once more, end every container: nothing is lost."""
    world.steps_left = world.more_steps = None
    world.disk_full = False
    world.sync = 0.001
    if not world.containerd.up.is_set():
        world.containerd.back()
    world.run(ENOUGH)
    check_settled(world)
    world.kill()
    world.run(ENOUGH)
    check_settled(world)
    for container in world.all:
        world.containerd.exit(container)
        if container.state is ContainerState.CREATED:
            world.containerd.remove(container)
    world.run(60)
    check_end(world)
