"""Whatever happens in whatever order, no accepted delivery is lost and no state is left that recovery does not move."""

from __future__ import annotations

import sys

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, precondition, rule

from shim.records import ContainerState
from tests.engine.promises import check_always, check_end, check_settled
from tests.engine.sim_containerd import Behaviour, CutStart, SimContainer, Trouble
from tests.engine.sim_ports import Script
from tests.engine.simulation import World

#: Seconds: more than any grace, any script and any pause between two tries here.
ENOUGH = 400.0

TIMES = st.sampled_from([0.0, 0.001, 0.003, 0.05, 0.5, 1.0, 2.0, 5.0, 31.0, 130.0])

scripts = st.none() | st.builds(
    Script,
    st.sampled_from(["succeed", "fail", "hang", "raise", "exit"]),
    st.sampled_from([0.0, 0.5, 3.0, 40.0]),
    st.sampled_from(["exec", "http"]),
)

behaviours = st.builds(
    Behaviour,
    start_takes=st.sampled_from([0.05, 0.0, 3.0]),
    starts=st.sampled_from([True, True, True, False]),
    cut_start=st.sampled_from(CutStart),
    start_trouble=st.sampled_from([None, None, None, *Trouble]),
    term_takes=st.sampled_from([1.0, 0.0, 10.0, None]),
    lives=st.sampled_from([None, None, 0.0, 0.5, 7.0]),
    stop_troubles=st.lists(st.sampled_from(Trouble), max_size=2).map(tuple),
)


class Histories(RuleBasedStateMachine):
    """A node, its callers, and everything that can happen to them."""

    containers: Bundle[SimContainer] = Bundle("containers")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(target=containers, post_start=scripts, pre_stop=scripts, behaviour=behaviours, start=st.booleans())
    def create(self, post_start: Script | None, pre_stop: Script | None, behaviour: Behaviour, start: bool) -> object:  # noqa: FBT001 - drawn
        """CreateContainer, mostly followed by a start."""
        if len(self.world.all) == 4:
            return multiple()
        container = self.world.create(post_start, pre_stop, behaviour)
        if start:
            self.world.start(container)
            self.world.run(0.2)
        return container

    @rule(container=containers, leave=st.none() | TIMES, deadline=st.none() | TIMES)
    def start(self, container: SimContainer, leave: float | None, deadline: float | None) -> None:
        """StartContainer."""
        self.world.start(container, leave, deadline)

    @rule(container=containers, timeout=st.sampled_from([0, 1, 2, 10, 30, -1]), leave=st.none() | TIMES)
    def stop(self, container: SimContainer, timeout: int, leave: float | None) -> None:
        """StopContainer."""
        self.world.stop(container, timeout, leave)

    @rule(container=containers)
    def exits(self, container: SimContainer) -> None:
        """A container ends by itself."""
        self.world.containerd.exit(container)

    @rule(container=containers)
    def unknown(self, container: SimContainer) -> None:
        """containerd cannot tell a running container's state."""
        if container.state is ContainerState.RUNNING:
            container.state = ContainerState.UNKNOWN

    @rule(container=containers)
    def remove(self, container: SimContainer) -> None:
        """RemoveContainer of one that is not running."""
        if container.ref.id in self.world.containerd.containers and not container.state.stoppable:
            self.world.containerd.remove(container)

    @rule()
    def containerd_away_or_back(self) -> None:
        """Containerd ends, or starts again."""
        if self.world.containerd.up.is_set():
            self.world.containerd.away()
        else:
            self.world.containerd.back()

    @rule(steps=st.integers(0, 25), downtime=st.sampled_from([0.0, 0.1, 3.0, 40.0]))
    def crash(self, steps: int, downtime: float) -> None:
        """Hookshim will be killed, so many steps from now."""
        self.world.downtime = downtime
        self.world.steps_left = steps

    @rule(drain=st.sampled_from([0.0, 2.0, 10.0]))
    def terminate(self, drain: float) -> None:
        """Hookshim is asked to end, and started again."""
        self.world.terminate(drain)

    @rule()
    def reboot(self) -> None:
        """The node is switched off and on."""
        self.world.reboot()

    @rule(seconds=TIMES)
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.world.run(seconds)

    @invariant()
    def keeps_its_promises(self) -> None:
        """What holds at any moment."""
        check_always(self.world)

    def teardown(self) -> None:
        """Let everything settle, crash once more, end every container: nothing is lost."""
        try:
            if sys.exc_info()[0] is None:  # nothing has failed yet, and hypothesis has not given this history up
                self._settle()
        finally:
            self.world.close()

    def _settle(self) -> None:
        world = self.world
        world.steps_left = None
        world.disk_full = False
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


class HistoriesOnAFullDisk(Histories):
    """The same, and the journal cannot always be written."""

    @precondition(lambda self: len(self.world.all) > 0)
    @rule()
    def disk_full_or_not(self) -> None:
        """The disk fills, or has room again."""
        self.world.disk_was_full = True
        self.world.disk_full = not self.world.disk_full


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=int(__import__('os').environ.get('N','300')), stateful_step_count=25, deadline=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck)
)
TestHistoriesOnAFullDisk = HistoriesOnAFullDisk.TestCase
TestHistoriesOnAFullDisk.settings = settings(TestHistories.settings, max_examples=200)
