"""What can happen to a node: a history is a list of these, each after so many seconds (``tests.engine.drawing``)."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from enum import Enum

from shim.errors import DeclarationError
from shim.failpoints import Failpoint
from shim.ledger import PATIENCE
from shim.lifecycle import KEY
from shim.records import ContainerState, Hook
from tests.engine.sim_containerd import Behaviour, SimContainer, Trouble
from tests.engine.sim_ports import ReadFault, Script
from tests.engine.simulation import MALFORMED, World


@dataclass(frozen=True, slots=True)
class Create:
    """CreateContainer, and StartContainer if ``start``, by a caller with a ``deadline`` in seconds.

    At most three containers: what meets, meets in one.
    """

    post_start: Script | None
    pre_stop: Script | None
    behaviour: Behaviour
    start: bool = False
    deadline: float | None = None
    post_stop: Script | None = None

    def happen(self, world: World) -> None:
        """In the world."""
        if len(world.all) < 3:
            container = world.create(self.post_start, self.pre_stop, self.behaviour, post_stop=self.post_stop)
            if self.start:
                world.start(container, deadline=self.deadline)
                world.run(0.3)


@dataclass(frozen=True, slots=True)
class Adopt:
    """A container that was started past hookshim, as before its time: what it declares may be malformed."""

    pre_stop: Script | None
    behaviour: Behaviour
    malformed: bool = False

    def happen(self, world: World) -> None:
        """In the world, if containerd is there to start it."""
        if len(world.all) < 3 and world.containerd.up.is_set():
            # whoever starts past hookshim has done so before anybody stops
            behaviour = replace(self.behaviour, start_takes=0.0, start_trouble=None)
            container = world.create(None, self.pre_stop, behaviour, malformed=self.malformed)
            # A call that ends its pod may have looked already, and knows of no start to wait for.
            container.cut = True
            world.spawn(world.containerd.start(container.ref.id))
            world.run(0.001)


@dataclass(frozen=True, slots=True)
class Rules:
    """From now on these are the node's own hooks, in this order."""

    hooks: tuple[tuple[Hook, Script], ...]

    def happen(self, world: World) -> None:
        """In the world."""
        world.rules.replace(self.hooks)


@dataclass(frozen=True, slots=True)
class CreateMalformed:
    """CreateContainer with a malformed declaration: nothing is created."""

    def happen(self, world: World) -> None:
        """In the world, if hookshim serves."""
        if world.daemon.serving:
            try:
                world.daemon.engine.check("main", {KEY: MALFORMED}, {})
            except DeclarationError:
                world.count("answer", "create", "INVALID_ARGUMENT")
            else:
                world.errors.append("a malformed declaration was accepted")


@dataclass(frozen=True, slots=True)
class OnContainer:
    """Something about the container at this place of those that were created."""

    index: int

    def happen(self, world: World) -> None:
        """In the world, if there is a container."""
        if world.all:
            self.to(world, world.all[self.index % len(world.all)])

    def to(self, world: World, container: SimContainer) -> None:
        """To this one."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Start(OnContainer):
    """StartContainer, by a caller that leaves or has a deadline, in seconds."""

    leave: float | None
    deadline: float | None

    def to(self, world: World, container: SimContainer) -> None:
        """To this one."""
        world.start(container, self.leave, self.deadline)


@dataclass(frozen=True, slots=True)
class Stop(OnContainer):
    """StopContainer, by a caller that leaves after so many seconds."""

    timeout: int
    leave: float | None

    def to(self, world: World, container: SimContainer) -> None:
        """To this one."""
        world.stop(container, self.timeout, self.leave)


@dataclass(frozen=True, slots=True)
class StopPod(OnContainer):
    """StopPodSandbox of its pod, by a caller that leaves after so many seconds."""

    leave: float | None

    def to(self, world: World, container: SimContainer) -> None:
        """To this one's pod."""
        world.stop_pod(container, self.leave)


@dataclass(frozen=True, slots=True)
class Remove(OnContainer):
    """RemoveContainer, by a caller that leaves after so many seconds."""

    leave: float | None

    def to(self, world: World, container: SimContainer) -> None:
        """To this one."""
        world.remove(container, self.leave)


@dataclass(frozen=True, slots=True)
class RemovePod(OnContainer):
    """RemovePodSandbox of its pod, by a caller that leaves after so many seconds."""

    leave: float | None

    def to(self, world: World, container: SimContainer) -> None:
        """To this one's pod."""
        world.remove_pod(container, self.leave)


@dataclass(frozen=True, slots=True)
class Exit(OnContainer):
    """The container ends by itself."""

    def to(self, world: World, container: SimContainer) -> None:
        """To this one."""
        world.containerd.exit(container)


@dataclass(frozen=True, slots=True)
class Unknown(OnContainer):
    """Containerd cannot tell the state of a running container."""

    def to(self, world: World, container: SimContainer) -> None:
        """To this one."""
        if container.state is ContainerState.RUNNING:
            container.state = ContainerState.UNKNOWN


@dataclass(frozen=True, slots=True)
class Vanish(OnContainer):
    """It is removed past hookshim, if it is not running; containerd refuses it while a task is left of it."""

    def to(self, world: World, container: SimContainer) -> None:
        """To this one."""
        there = container.ref.id in world.containerd.containers
        if there and not container.state.stoppable and not container.leftover:
            world.containerd.remove(container)


@dataclass(frozen=True, slots=True)
class StopTrouble(OnContainer):
    """The next stop of it that arrives goes wrong."""

    trouble: Trouble

    def to(self, world: World, container: SimContainer) -> None:
        """To this one."""
        container.troubles.append(self.trouble)


@dataclass(frozen=True, slots=True)
class ReadFaults:
    """Look-ups to come go wrong, or (None) don't."""

    faults: tuple[ReadFault | None, ...]

    def happen(self, world: World) -> None:
        """In the world."""
        world.faults.to_come = list(self.faults)
        world.refused = world.refused or ReadFault.REFUSED in self.faults


@dataclass(frozen=True, slots=True)
class Containerd:
    """Containerd ends, or is there again."""

    up: bool

    def happen(self, world: World) -> None:
        """In the world."""
        if self.up is not world.containerd.up.is_set():
            if self.up:
                world.containerd.back()
            else:
                world.containerd.away()


@dataclass(frozen=True, slots=True)
class Disk:
    """The journal's disk fills, or fails altogether (``gone``), or is well again."""

    full: bool
    gone: bool = False

    def happen(self, world: World) -> None:
        """In the world."""
        world.disk_full, world.disk_gone = self.full, self.full and self.gone
        world.disk_was_bad = world.disk_was_bad or self.full
        world.unread = world.unread or world.disk_gone


@dataclass(frozen=True, slots=True)
class Pace:
    """From now on a commit takes so many seconds, and an answer of containerd's so many."""

    sync: float
    latency: float

    def happen(self, world: World) -> None:
        """In the world."""
        world.sync, world.latency = self.sync, self.latency
        world.disk_was_bad = world.disk_was_bad or self.sync > PATIENCE


@dataclass(frozen=True, slots=True)
class Kill:
    """Hookshim is killed, and stays away for so many seconds."""

    downtime: float

    def happen(self, world: World) -> None:
        """In the world."""
        world.kill(self.downtime)


@dataclass(frozen=True, slots=True)
class Crash:
    """Hookshim will be killed after so many steps, and stay away for so many seconds."""

    steps: int
    downtime: float

    def happen(self, world: World) -> None:
        """In the world."""
        world.downtime = self.downtime
        world.steps_left = self.steps


@dataclass(frozen=True, slots=True)
class CrashTwice:
    """The same, and its successor will be killed after so many ``more`` of its own."""

    steps: int
    more: int
    downtime: float

    def happen(self, world: World) -> None:
        """In the world."""
        world.downtime = self.downtime
        world.steps_left, world.more_steps = self.steps, self.more


@dataclass(frozen=True, slots=True)
class CrashAt:
    """Hookshim will be killed once at each of these failpoints, and stay away for so many seconds."""

    failpoints: tuple[Failpoint, ...]
    downtime: float

    def happen(self, world: World) -> None:
        """In the world."""
        world.downtime = self.downtime
        world.kill_at.update(self.failpoints)


@dataclass(frozen=True, slots=True)
class Terminate:
    """Hookshim is asked to end within so many seconds, and started again."""

    drain: float

    def happen(self, world: World) -> None:
        """In the world."""
        world.terminate(self.drain)


@dataclass(frozen=True, slots=True)
class Reboot:
    """The node is switched off and on."""

    def happen(self, world: World) -> None:
        """In the world."""
        world.reboot()


Happening = (
    Create
    | Adopt
    | Rules
    | CreateMalformed
    | OnContainer
    | ReadFaults
    | Containerd
    | Disk
    | Pace
    | Kill
    | Crash
    | CrashTwice
    | CrashAt
    | Terminate
    | Reboot
)

#: What has happened, each after so many seconds.
History = list[tuple[float, Happening]]


def words(thing: object) -> str:
    """A happening as a person reads it: what is as usual is left out."""
    if isinstance(thing, Enum):
        return thing.name
    if isinstance(thing, tuple):
        return f"({', '.join(map(words, thing))})"
    if not is_dataclass(thing):
        return repr(thing)
    told = []
    for field in fields(thing):
        value = getattr(thing, field.name)
        if value is not None and (field.default is MISSING or value != field.default):
            told.append(f"{field.name}={words(value)}")
    return f"{type(thing).__name__}({', '.join(told)})"
