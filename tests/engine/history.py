"""What can happen to a node, drawn: a history is a list of these, and is replayed exactly."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from shim.ledger import PATIENCE
from shim.records import ContainerState
from tests.engine.sim_containerd import Behaviour, CutStart, SimContainer, Trouble
from tests.engine.sim_ports import Script
from tests.engine.simulation import World


@dataclass(frozen=True, slots=True)
class Create:
    """CreateContainer, and StartContainer if ``start``, by a caller with a ``deadline`` in seconds.

    At most three containers: what meets, meets in one.
    """

    post_start: Script | None
    pre_stop: Script | None
    behaviour: Behaviour
    start: bool
    deadline: float | None

    def happen(self, world: World) -> None:
        """In the world."""
        if len(world.all) < 3:
            container = world.create(self.post_start, self.pre_stop, self.behaviour)
            if self.start:
                world.start(container, deadline=self.deadline)
                world.run(0.3)


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
class Remove(OnContainer):
    """RemoveContainer of one that is not running; containerd refuses it while a task is left of it."""

    def to(self, world: World, container: SimContainer) -> None:
        """To this one."""
        there = container.ref.id in world.containerd.containers
        if there and not container.state.stoppable and not container.leftover:
            world.containerd.remove(container)


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
    """The journal's disk fills, or has room again."""

    full: bool

    def happen(self, world: World) -> None:
        """In the world."""
        world.disk_full = self.full
        world.disk_was_bad = world.disk_was_bad or self.full


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


Happening = Create | OnContainer | Containerd | Disk | Pace | Kill | Crash | Terminate | Reboot

#: What has happened, each after so many seconds.
History = list[tuple[float, Happening]]

#: Seconds between two happenings: most often so few that what they set going meets.
_gaps = st.sampled_from([0.0, 0.001, 0.002, 0.003, 0.004, 0.006, 0.05, 0.1, 0.2, 0.4, 1.0, 2.0, 5.0, 31.0, 130.0])
_patience = st.none() | st.sampled_from([0.003, 0.05, 0.5, 1.0, 2.0, 5.0])
_index = st.sampled_from([0, 0, 0, 1, 2])
_scripts = st.none() | st.builds(
    Script,
    st.sampled_from(["succeed", "fail", "hang", "raise", "exit"]),
    st.sampled_from([0.0, 0.5, 3.0, 40.0]),
    st.sampled_from(["exec", "http"]),
)
_behaviours = st.builds(
    Behaviour,
    start_takes=st.sampled_from([0.05, 0.0, 3.0]),
    starts=st.sampled_from([True, True, True, False]),
    cut_start=st.sampled_from(CutStart),
    start_trouble=st.sampled_from([None, None, None, *Trouble]),
    term_takes=st.sampled_from([1.0, 0.0, 10.0, None]),
    lives=st.sampled_from([None, None, None, 0.0, 0.5, 7.0]),
    stop_troubles=st.lists(st.sampled_from(Trouble), max_size=2).map(tuple),
)
_creates = st.builds(Create, _scripts, _scripts, _behaviours, st.booleans(), st.sampled_from([None, None, 0.01, 2.0]))
_stops = st.builds(Stop, _index, st.sampled_from([30, 0, 1, 2, 10, -1]), _patience)
_starts = st.builds(Start, _index, _patience, _patience)
_crashes = st.builds(Crash, st.integers(0, 25), st.sampled_from([0.1, 0.0, 3.0, 40.0]))
_paces = st.builds(Pace, st.sampled_from([0.2, 0.001]), st.sampled_from([0.002, 0.1]))
_happenings: st.SearchStrategy[Happening] = st.one_of(
    _stops,
    _starts,
    _stops,
    _crashes,
    _creates,
    _paces,
    st.builds(Kill, st.sampled_from([0.1, 0.0, 3.0, 40.0])),
    st.builds(Exit, _index),
    st.builds(Containerd, st.booleans()),
    st.builds(StopPod, _index, _patience),
    st.builds(Terminate, st.sampled_from([0.0, 2.0, 10.0])),
    st.builds(Unknown, _index) | st.builds(Remove, _index) | st.builds(Reboot),
)
_disks = st.builds(Disk, st.booleans()) | st.builds(Pace, st.sampled_from([8.0, 1.0]), st.just(0.002))


def _beginning_with_a_container(happenings: st.SearchStrategy[Happening]) -> st.SearchStrategy[History]:
    rest = st.lists(st.tuples(_gaps, happenings), min_size=4, max_size=16)
    return st.builds(lambda first, rest: [(0.0, first), *rest], _creates, rest)


histories = _beginning_with_a_container(_happenings)
histories_on_a_bad_disk = _beginning_with_a_container(_disks | _happenings)
