"""The kubelet's own preStop when somebody dies in the middle of it, or the disk is full: at least once all the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from tests.conftest import MakeHookshim
from tests.integration.test_disk import SmallDisk
from tests.integration.test_kubelet_prestop import ENSURE, LEFT_OUT, RAN_HERE, SOON, deliveries, executions, running
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIClient, CRIError
from tests.support.holds import SlowRunc
from tests.support.journal import open_operations
from tests.support.later import later
from tests.support.process import Process
from tests.support.receiver import Receiver
from tests.support.signals import logging_hook
from tests.support.stage import Stage, exec_hook, held_hook, kubelets_container, let_go
from tests.support.waiting import until

HOOK = held_hook("preStop")
ONCE = ["started", "preStop begins", "preStop ends", "TERM", "finished"]

#: A kubelet, as far as this goes: argv is a socket, a container, a command.
KUBELET = """
import sys
from pathlib import Path
from tests.support.cri import CRIClient
CRIClient(Path(sys.argv[1])).exec_sync(sys.argv[2], sys.argv[3:], timeout=None)
"""


@pytest.fixture
def stage(
    hookshim: MakeHookshim, containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Stage:
    """A pod behind a daemon that sees to the kubelet's hooks."""
    return Stage(hookshim(containerd, env=ENSURE), pod_name, tmp_path / "stage", receiver)


@pytest.fixture
def mortal(
    hookshim: MakeHookshim, own_containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Stage:
    """The same on a containerd that may be killed, each version in turn."""
    return Stage(hookshim(own_containerd, env=ENSURE), pod_name, tmp_path / "stage", receiver)


def left(stage: Stage) -> None:
    """Hookshim has noticed that a caller has left: nothing shows it, so it is given calls to answer meanwhile."""
    for _ in range(20):
        stage.cri.version()


@pytest.mark.parametrize("how", ["deadline", "connection", "process"])
def test_a_hook_whose_kubelet_has_gone_is_finished_and_counts(
    stage: Stage, tmp_path: Path, how: Literal["deadline", "connection", "process"]
) -> None:
    """Its call ends with it, the command does not: the next kubelet's stop waits for it, and runs no second one."""
    container = running(stage, HOOK)
    if how == "process":
        command: list[str | Path] = [sys.executable, "-c", KUBELET, stage.daemon.socket, container, *HOOK]
        kubelet = Process(command, tmp_path / "kubelet.log")
        stage.log.wait_for("preStop begins")
        kubelet.kill()
    else:
        with CRIClient(stage.daemon.socket) as client:
            gone = later(client.exec_sync, container, HOOK, timeout=2 if how == "deadline" else None)
            stage.log.wait_for("preStop begins")
            if how == "connection":
                client.close()
            assert isinstance(gone.exception(SOON), CRIError)
    left(stage)
    assert executions(stage) == [("accepted", "")]
    stop = later(stage.cri.stop, container, 2)
    until(lambda: deliveries(stage), "the stop is accepted")
    assert stage.log.words() == ["started", "preStop begins"]
    let_go(stage)
    stop.result(SOON)
    assert stage.log.words() == ONCE
    assert deliveries(stage) == LEFT_OUT
    until(lambda: executions(stage) == [("done", "")], "its answer is recorded")


def test_a_hook_whose_caller_has_gone_is_finished_without_any_stop(stage: Stage) -> None:
    """What was accepted is finished: its own end is in the container and in the journal."""
    container = running(stage, HOOK)
    with CRIClient(stage.daemon.socket) as client:
        gone = later(client.exec_sync, container, HOOK, timeout=None)
        stage.log.wait_for("preStop begins")
        client.close()
        assert isinstance(gone.exception(SOON), CRIError)
    left(stage)
    let_go(stage)
    stage.log.wait_for("preStop ends")
    until(lambda: executions(stage) == [("done", "")], "its answer is recorded")
    assert stage.log.words() == ["started", "preStop begins", "preStop ends"]


def test_a_hook_that_containerd_did_not_answer_is_due_again(mortal: Stage, own_containerd: PrivateContainerd) -> None:
    """Containerd is killed in the middle of the ExecSync: the kubelet gets UNAVAILABLE, and the stop runs the hook."""
    container = running(mortal, HOOK)
    exec_sync = later(mortal.cri.exec_sync, container, HOOK)
    mortal.log.wait_for("preStop begins")
    own_containerd.kill()
    with pytest.raises(CRIError) as broken:
        exec_sync.result(SOON)
    assert broken.value.code.name == "UNAVAILABLE"
    own_containerd.launch()
    until(lambda: [state for state, _ in executions(mortal)] == ["done"], "its error is recorded")
    [(_, error)] = executions(mortal)
    assert error.startswith("UNAVAILABLE: ")
    stop = later(mortal.cri.stop, container, 30)
    until(lambda: mortal.calls("preStop") == 2, "the hook runs again")
    assert "TERM" not in mortal.log.words()
    let_go(mortal)
    stop.result(SOON)
    assert deliveries(mortal) == RAN_HERE


def test_an_error_of_containerds_own_is_no_run(stage: Stage) -> None:
    """A command that is not there cannot be started: the kubelet gets containerd's words, and the hook stays due."""
    hook = ["/no/such/program"]
    container = running(stage, hook)
    with pytest.raises(CRIError) as hooked:
        stage.cri.exec_sync(container, hook)
    with CRIClient(stage.daemon.containerd) as runtime, pytest.raises(CRIError) as direct:
        runtime.exec_sync(container, hook)
    assert hooked.value.code is direct.value.code
    assert hooked.value.message.partition('exec "')[0] == direct.value.message.partition('exec "')[0]
    stage.cri.stop(container, 30)
    assert stage.log.words() == ["started", "TERM", "finished"]
    assert deliveries(stage) == [("preStop", "failed", "kubelet")]


def test_a_hook_that_hookshim_was_killed_in_is_due_at_the_stop(stage: Stage) -> None:
    """Its answer was lost, so nobody knows: the next daemon closes the record, and the stop runs the hook."""
    container = running(stage, HOOK)
    exec_sync = later(stage.cri.exec_sync, container, HOOK)
    stage.log.wait_for("preStop begins")
    stage.daemon.kill()
    assert isinstance(exec_sync.exception(SOON), CRIError)
    stage.daemon.start()
    assert executions(stage) == [("done", "hookshim ended before the answer")]
    assert open_operations(stage.daemon) == []
    let_go(stage)
    stage.cri.stop(container, 2)
    assert stage.calls("preStop") == 2
    assert stage.log.words()[-2:] == ["TERM", "finished"]
    assert deliveries(stage) == RAN_HERE


def test_a_stop_that_waited_for_a_hook_is_finished_by_the_next_daemon(stage: Stage) -> None:
    """Hookshim is killed with a stop accepted and the ExecSync in flight: the hook runs again, then TERM, unasked."""
    container = running(stage, HOOK)
    exec_sync = later(stage.cri.exec_sync, container, HOOK)
    stage.log.wait_for("preStop begins")
    stop = later(stage.cri.stop, container, 30)
    until(lambda: deliveries(stage), "the stop is accepted")
    stage.daemon.kill()
    assert isinstance(exec_sync.exception(SOON), CRIError)
    assert isinstance(stop.exception(SOON), CRIError)
    let_go(stage)
    stage.daemon.start()
    stage.log.wait_for("finished")
    until(lambda: not open_operations(stage.daemon), "the stop is done")
    assert stage.calls("preStop") == 2
    assert deliveries(stage) == RAN_HERE
    assert stage.cri.state(container) == "CONTAINER_EXITED"


def test_a_run_counts_over_a_restart_of_hookshim(stage: Stage) -> None:
    """It is in the journal: the daemon that the stop comes to need not be the one that made the call."""
    hook = logging_hook("preStop")
    container = running(stage, hook)
    stage.cri.exec_sync(container, hook)
    until(lambda: executions(stage) == [("done", "")], "its answer is recorded")
    stage.daemon.restart()
    stage.cri.stop(container, 28)
    assert stage.log.words() == ONCE
    assert deliveries(stage) == LEFT_OUT


@pytest.fixture
def full(
    hookshim: MakeHookshim, containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Iterator[tuple[Stage, SmallDisk]]:
    """A pod behind a daemon whose disk can be filled."""
    daemon = hookshim(containerd, env=ENSURE, start=False)
    disk = SmallDisk(daemon.state_dir)
    daemon.start()
    yield Stage(daemon, pod_name, tmp_path / "stage", receiver), disk
    daemon.kill()
    disk.close()


@pytest.mark.parametrize("ran", [True, False])
def test_a_full_disk_is_in_nobodys_way(full: tuple[Stage, SmallDisk], ran: bool) -> None:  # noqa: FBT001
    """The kubelet has its answer and its stop, the hook is run once, and all is recorded when there is room."""
    stage, disk = full
    hook = logging_hook("preStop", seconds=0.2)
    container = running(stage, hook)
    disk.fill()
    if ran:
        assert stage.cri.exec_sync(container, hook).exit_code == 0
    stage.cri.stop(container, 28)
    assert stage.log.words() == ONCE
    assert "the journal cannot be written" in stage.daemon.log.read_text()
    disk.empty()
    recorded = LEFT_OUT if ran else RAN_HERE
    until(lambda: deliveries(stage) == recorded and not open_operations(stage.daemon), "the stop is recorded")
    # It is written by itself, when its own turn comes.
    until(lambda: executions(stage) == ([("done", "")] if ran else []), "the run is recorded")


def test_a_stop_that_overtakes_the_start_waits_for_it_and_then_runs_the_hook(
    hookshim: MakeHookshim, tmp_path: Path, pod_name: str, receiver: Receiver
) -> None:
    """A container whose StartContainer is not answered yet: neither the hook nor TERM comes before it runs."""
    runc = SlowRunc(tmp_path / "runc")
    with PrivateContainerd.start(runc.directory) as slow:
        stage = Stage(hookshim(slow, env=ENSURE), pod_name, tmp_path / "stage", receiver)
        container = kubelets_container(stage, exec_hook(logging_hook("preStop")))
        with runc.held():
            start = later(stage.cri.start, container)
            runc.wait()
            stop = later(stage.cri.stop, container, 30)
            left(stage)
            assert not stop.done()
            assert stage.log.words() == []
            runc.release()
            start.result(SOON)
        stop.result(SOON)
        assert stage.calls("preStop") == 1
        assert stage.cri.state(container) == "CONTAINER_EXITED"
        assert deliveries(stage) == RAN_HERE
