"""The node is restarted with work open: no container that the journal knows runs any more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shim.failpoints import Failpoint
from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.holds import Hold
from tests.support.hookshimd import COMMAND
from tests.support.journal import open_operations
from tests.support.later import later
from tests.support.reboot import in_another_boot, reboot
from tests.support.receiver import Receiver
from tests.support.stage import KEY, Stage
from tests.support.waiting import until


@pytest.fixture
def containerd(new_containerd: Callable[[], PrivateContainerd]) -> PrivateContainerd:
    """One of the test's own."""
    return new_containerd()


@pytest.fixture
def stage(
    hookshim: MakeHookshim, containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Stage:
    """A pod behind a daemon."""
    return Stage(hookshim(containerd), pod_name, tmp_path / "stage", receiver)


@pytest.fixture
def anew(stage: Stage, tmp_path: Path) -> Callable[[], None]:
    """Makes the daemons that are started from then on find another boot id."""
    return lambda: setattr(stage.daemon, "program", [in_another_boot(COMMAND, tmp_path)])


def left_open(stage: Stage, tmp_path: Path) -> dict[str, str]:
    """Three containers with open work when hookshim is killed: starting, in PostStart, in PreStop; by name."""
    post_start, pre_stop = ({hook: stage.hook(hook, "httpGet")} for hook in ("postStart", "preStop"))
    containers = {
        "armed": stage.container(post_start, name="armed"),
        "hooked": stage.container(post_start, name="hooked"),
        "stopping": stage.container(pre_stop, name="stopping"),
    }
    for hook in ("/postStart", "/preStop"):
        stage.receiver.hang(hook)
    stage.cri.start(containers["stopping"])
    calls = [later(stage.cri.start, containers["hooked"]), later(stage.cri.stop, containers["stopping"], 600)]
    for hook in ("/postStart", "/preStop"):
        stage.receiver.wait_for(hook)
    with Hold(Failpoint.START_ACCEPTED, tmp_path) as hold:
        stage.daemon.restart(hold.env)
        # Both are sent again.
        for hook in ("/postStart", "/preStop"):
            stage.receiver.wait_for(hook, count=2)
        calls.append(later(stage.cri.start, containers["armed"]))
        hold.wait()
        stage.daemon.kill()
    for call in calls:
        assert isinstance(call.exception(30), CRIError)
    return containers


def test_everything_open_is_missed_after_a_reboot(
    stage: Stage, containerd: PrivateContainerd, anew: Callable[[], None], tmp_path: Path
) -> None:
    """Each delivery that was accepted is settled and announced, nothing is sent, and nothing stays open."""
    containers = left_open(stage, tmp_path)
    sent = len(stage.receiver.requests)
    reboot(containerd)
    anew()
    stage.daemon.start()
    assert open_operations(stage.daemon) == []
    assert {(each["container_id"], each["hook"], each["state"]) for each in stage.daemon.deliveries()} == {
        (containers["armed"], "postStart", "missed"),
        (containers["hooked"], "postStart", "missed"),
        (containers["stopping"], "preStop", "missed"),
    }
    events = stage.daemon.events()
    assert {(event["container"], event["reason"]) for event in events} == {
        ("armed", "MissedPostStartHook"),
        ("hooked", "MissedPostStartHook"),
        ("stopping", "MissedPreStopHook"),
    }
    assert all("the node was restarted" in event["message"] for event in events)
    assert stage.daemon.terminate() == 0
    assert len(stage.receiver.requests) == sent


def test_nothing_is_sent_to_a_container_that_has_the_same_name(
    stage: Stage, containerd: PrivateContainerd, anew: Callable[[], None], tmp_path: Path
) -> None:
    """Pod, namespace, uid and names are as before the reboot, the containers new: they get their own hooks only."""
    old = left_open(stage, tmp_path)
    uid = stage.daemon.deliveries()[0]["uid"]
    sent = len(stage.receiver.requests)
    reboot(containerd)
    containerd.clear()
    pod = containerd.cri.run_pod(stage.pod_name, uid=uid)
    new = {}
    for name in old:
        declared = {KEY: json.dumps({"preStop": stage.hook("preStop", "httpGet")})}
        new[name] = containerd.cri.create(pod, name, ["sleep", "3600"], annotations=declared)
        containerd.cri.start(new[name])
    anew()
    stage.daemon.start()
    assert {each["state"] for each in stage.daemon.deliveries()} == {"missed"}
    assert {each["container_id"] for each in stage.daemon.deliveries()} == set(old.values())
    assert {containerd.cri.state(container) for container in new.values()} == {"CONTAINER_RUNNING"}
    assert stage.daemon.terminate() == 0
    assert len(stage.receiver.requests) == sent
    assert {containerd.cri.state(container) for container in new.values()} == {"CONTAINER_RUNNING"}


def test_the_same_boot_is_no_reboot(stage: Stage, containerd: PrivateContainerd, tmp_path: Path) -> None:
    """Without another boot id, what a killed hookshim left open is taken up again: the tests above prove something."""
    containers = left_open(stage, tmp_path)
    sent = len(stage.receiver.requests)
    stage.daemon.start()
    stage.receiver.wait_for("/postStart", count=3)
    stage.receiver.wait_for("/preStop", count=3)
    assert len(stage.receiver.requests) == sent + 2
    assert len(open_operations(stage.daemon)) == 3
    containerd.cri.stop_pod(stage.pod)
    until(lambda: len(open_operations(stage.daemon)) == 1, "what was interrupted by the kill has ended")
    states = {each["container_id"]: each["state"] for each in stage.daemon.deliveries() if each["hook"] == "postStart"}
    assert states == {containers["armed"]: "armed", containers["hooked"]: "exited"}
