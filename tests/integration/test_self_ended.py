"""A container with a PreStop that nobody stops: one record says that the hook was not due, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.receiver import Receiver
from tests.support.stage import Stage
from tests.support.waiting import until


@pytest.fixture
def stage(
    hookshim: MakeHookshim, any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Stage:
    """A pod behind a daemon, on every containerd of the run."""
    return Stage(hookshim(any_containerd), pod_name, tmp_path, receiver)


@pytest.mark.parametrize("status", [0, 3])
def test_a_container_that_ends_by_itself_leaves_one_record(stage: Stage, status: int) -> None:
    """Completed or crashed: ``skipped``, with the exit code; no hook is called and no event made, nor at the stop."""
    container = stage.container({"preStop": stage.hook("preStop", "httpGet")}, ["sh", "-c", f"exit {status}"])
    stage.cri.start(container)
    until(lambda: stage.deliveries() == [("preStop", "skipped")], "the record is there")
    [delivery] = stage.daemon.deliveries()
    assert delivery["error"].startswith("ended by itself: ")
    assert delivery["error"].endswith(f"exit code {status}")
    stage.cri.stop(container, 5)
    stage.cri.stop_pod(stage.pod)
    stage.cri.remove_pod(stage.pod)
    assert stage.calls("preStop") == 0
    assert stage.daemon.events() == []
    assert len(stage.daemon.deliveries()) == 1


def test_a_container_that_ended_while_hookshim_was_down_is_found(stage: Stage, tmp_path: Path) -> None:
    """Events are lost meanwhile: the look after the connection finds it, once."""
    until_told = ["sh", "-c", "until [ -e /signals/exit ]; do sleep 0.05; done"]
    container = stage.container({"preStop": stage.hook("preStop", "httpGet")}, until_told)
    stage.cri.start(container)
    stage.daemon.kill()
    (tmp_path / "exit").touch()
    stage.daemon.start()
    until(lambda: stage.deliveries() == [("preStop", "skipped")], "the record is there")
    stage.daemon.restart()
    until(lambda: stage.cri.state(container) == "CONTAINER_EXITED", "it has ended")
    assert stage.deliveries() == [("preStop", "skipped")]


def test_a_stopped_container_is_not_taken_for_one_that_ended_by_itself(stage: Stage) -> None:
    """Its PreStop has its own record, and stays the only one."""
    container = stage.container({"preStop": stage.hook("preStop", "exec")})
    stage.cri.start(container)
    stage.log.wait_for("started")
    stage.cri.stop(container, 10)
    stage.daemon.restart()
    marker = stage.container({"preStop": stage.hook("marker", "httpGet")}, ["true"], name="marker")
    stage.cri.start(marker)
    until(lambda: ("preStop", "skipped") in stage.deliveries(), "the other container's record is there")
    assert stage.deliveries() == [("preStop", "delivered"), ("preStop", "skipped")]
