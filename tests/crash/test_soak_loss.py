"""An end that containerd does not know hangs every stop of its container: the soak tells it from a hang of hookshim's.

How containerd comes to that by itself is a matter of less than a millisecond of its recovery (``soak.loss``). Here its
runc refuses to delete what has ended, which keeps CRI from taking the end in, until another containerd asks.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.later import later
from tests.support.soak.calls import Calls
from tests.support.soak.insist import Insistence
from tests.support.soak.keeper import Keeper
from tests.support.soak.loss import lost_ends
from tests.support.waiting import until

#: Refuses to delete anything while the process runs whose pid is in this file.
_RUNC = """#!/bin/sh
if [ -e {refuse} ] && kill -0 "$(cat {refuse})"; then
    for word; do [ "$word" != delete ] || exit 1; done
fi
exec {runc} "$@"
"""


class Losing:
    """A containerd, and what has it lose ends."""

    def __init__(self, directory: Path) -> None:
        runc = shutil.which("runc", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        assert runc is not None
        programs = directory / "usr/bin"
        programs.mkdir(parents=True)
        self._refuse = directory / "refuse"
        script = programs / "runc"
        script.write_text(_RUNC.format(refuse=self._refuse, runc=runc))
        script.chmod(0o755)
        self.containerd = PrivateContainerd.start(directory)

    def lose(self) -> str:
        """Have it lose the end of a container, for as long as this daemon runs; the container's id."""
        cri = self.containerd.cri
        pod = cri.run_pod("lost", host_network=True)
        other, container = (cri.create(pod, name, ["sleep", "3600"]) for name in ("other", "lost"))
        cri.start(other)
        cri.start(container)
        self._refuse.write_text(str(self.containerd.pid))
        self.containerd.ctr("tasks", "kill", "--signal", "SIGKILL", container)
        until(lambda: self._status(container) == "STOPPED", "its task has ended")
        return container

    def _status(self, container: str) -> str:
        rows = [line.split() for line in self.containerd.ctr("tasks", "ls").splitlines()]
        return next((row[-1] for row in rows if row[0] == container), "")


@pytest.fixture
def losing(tmp_path: Path) -> Iterator[Losing]:
    """A containerd of the test's own."""
    made = Losing(tmp_path / "losing")
    yield made
    made.containerd.end()


def test_an_end_that_containerd_does_not_know_is_found(losing: Losing) -> None:
    """Its task is STOPPED and CRI says RUNNING; neither is so of a container that runs, nor after a restart."""
    assert lost_ends(losing.containerd) == set()
    container = losing.lose()
    assert losing.containerd.cri.state(container) == "CONTAINER_RUNNING"
    assert lost_ends(losing.containerd) == {container}
    losing.containerd.restart()
    assert lost_ends(losing.containerd) == set()
    assert losing.containerd.cri.state(container) != "CONTAINER_RUNNING"


@pytest.mark.parametrize("front", ["relay"])
def test_calls_that_wait_for_a_lost_end_are_no_hang_of_hookshims(losing: Losing, hookshim: MakeHookshim) -> None:
    """A stop hangs: containerd is started again, and knows the end then: the stop is OK, and nothing is told."""
    containerd = losing.containerd
    container = losing.lose()
    calls = Calls(lambda _: "EVIDENCE", hung=2.0)
    daemon = hookshim(containerd, start=False)
    daemon.cri.around = calls.through(lambda: "hookshim's socket")
    keeper = Keeper(daemon, containerd, calls, seed=1)
    keeper.start()
    calls.start()
    over = threading.Event()
    try:
        # its caller repeats it, as the restart cuts it off
        stop = later(Insistence(over).accomplish, lambda: daemon.cri.stop(container, 0))
        until(lambda: keeper.mended, "containerd is started again")
        assert stop.result(30) is None
    finally:
        over.set()
        keeper.finish()
        calls.finish()
    assert keeper.mended == {container}
    assert containerd.cri.state(container) == "CONTAINER_EXITED"
    assert keeper.problems == []
    assert calls.problems == []
    assert calls.hung == 0
