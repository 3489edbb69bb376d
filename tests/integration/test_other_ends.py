"""The ways to end a container besides StopContainer: containerd kills inside them, so PreStop has to come first."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.later import later
from tests.support.receiver import Receiver
from tests.support.signals import logging_hook
from tests.support.stage import Stage, exec_hook, http_hook
from tests.support.waiting import until


@pytest.fixture
def stage(
    hookshim: MakeHookshim, any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Stage:
    """A pod behind a daemon, on every containerd of the run."""
    return Stage(hookshim(any_containerd), pod_name, tmp_path, receiver)


@pytest.mark.parametrize("call", ["stop_pod", "remove", "remove_pod"])
def test_pre_stop_runs_before_the_kill_and_no_term_is_added(stage: Stage, call: str) -> None:
    """The hook ends first; then the container is killed without a TERM, as containerd does; then the call goes on."""
    container = stage.container({"preStop": exec_hook(logging_hook("preStop", seconds=0.3))})
    stage.cri.start(container)
    stage.log.wait_for("started")
    getattr(stage.cri, call)(container if call == "remove" else stage.pod)
    assert stage.log.words() == ["started", "preStop begins", "preStop ends"]
    assert stage.deliveries() == [("preStop", "delivered")]
    left = [found.id for found in stage.cri.list(stage.pod)]
    assert left == ([container] if call == "stop_pod" else [])


def test_all_containers_of_a_pod_get_their_hooks_at_once(stage: Stage) -> None:
    """Three hooks that hang together: none waits for another, and the pod is stopped when the last has ended."""
    containers = []
    for name in ("a", "b", "c"):
        hook = {"preStop": http_hook(stage.receiver, f"/{name}")}
        containers.append(stage.container(hook, ["sleep", "3600"], name=name))
        stage.cri.start(containers[-1])
    releases = [stage.receiver.hang(f"/{name}") for name in ("a", "b", "c")]
    stop = later(stage.cri.stop_pod, stage.pod)
    for name in ("a", "b", "c"):
        stage.receiver.wait_for(f"/{name}")
    assert stage.cri.pod_status(stage.pod).state == 0
    for release in releases:
        release.set()
    stop.result(30)
    assert {stage.cri.state(container) for container in containers} == {"CONTAINER_EXITED"}
    assert stage.cri.pod_status(stage.pod).state == 1


def test_a_pod_whose_caller_leaves_still_gets_its_hooks(stage: Stage) -> None:
    """As crictl gives up after 2 s: the hook goes on to its end, and the container is killed after it."""
    container = stage.container({"preStop": exec_hook(logging_hook("preStop", seconds=2))})
    stage.cri.start(container)
    stage.log.wait_for("started")
    with pytest.raises(CRIError) as left:
        stage.cri.stop_pod(stage.pod, timeout=0.5)
    assert left.value.code.name == "DEADLINE_EXCEEDED"
    until(lambda: stage.cri.state(container) == "CONTAINER_EXITED", "the container is killed")
    assert stage.log.words() == ["started", "preStop begins", "preStop ends"]
    stage.cri.stop_pod(stage.pod)
    assert stage.deliveries() == [("preStop", "delivered")]


def test_nothing_is_started_in_a_pod_that_is_being_stopped(stage: Stage) -> None:
    """A StartContainer that comes while the pod's hooks run is refused: the pod's stop would not see it."""
    running = stage.container({"preStop": http_hook(stage.receiver, "/stop")}, ["sleep", "3600"], name="running")
    late = stage.container({}, ["sleep", "3600"], name="late")
    stage.cri.start(running)
    release = stage.receiver.hang("/stop")
    stop = later(stage.cri.stop_pod, stage.pod)
    stage.receiver.wait_for("/stop")
    with pytest.raises(CRIError) as refused:
        stage.cri.start(late)
    assert refused.value.code.name == "FAILED_PRECONDITION"
    assert "is being stopped" in refused.value.message
    release.set()
    stop.result(30)
    assert stage.cri.state(late) == "CONTAINER_CREATED"


def test_a_pod_call_joins_a_stop(stage: Stage) -> None:
    """StopContainer and then StopPodSandbox: one hook, both answered."""
    container = stage.container({"preStop": http_hook(stage.receiver, "/stop")})
    stage.cri.start(container)
    stage.log.wait_for("started")
    release = stage.receiver.hang("/stop")
    stop = later(stage.cri.stop, container, 60)
    stage.receiver.wait_for("/stop")
    stop_pod = later(stage.cri.stop_pod, stage.pod)
    time.sleep(0.3)
    release.set()
    stop.result(30)
    stop_pod.result(30)
    assert len(stage.receiver.seen("/stop")) == 1
    assert stage.deliveries() == [("preStop", "delivered")]


def test_containers_that_have_ended_have_no_pre_stop(stage: Stage) -> None:
    """A pod whose containers ended, or never started, is stopped and removed without a hook."""
    ended = stage.container({"preStop": stage.hook("preStop", "httpGet")}, ["true"], name="ended")
    stage.container({"preStop": stage.hook("preStop", "httpGet")}, ["true"], name="created")
    stage.cri.start(ended)
    until(lambda: stage.deliveries() == [("preStop", "skipped")], "it has ended by itself")
    stage.cri.stop_pod(stage.pod)
    stage.cri.remove_pod(stage.pod)
    assert stage.calls("preStop") == 0
    assert stage.deliveries() == [("preStop", "skipped")]


def test_a_pod_stop_that_was_accepted_survives_a_crash(stage: Stage) -> None:
    """SIGKILL while a pod's hook runs: the next daemon sends it again and kills the container."""
    container = stage.container({"preStop": http_hook(stage.receiver, "/stop")})
    stage.cri.start(container)
    stage.log.wait_for("started")
    release = stage.receiver.hang("/stop")
    stop = later(stage.cri.stop_pod, stage.pod)
    stage.receiver.wait_for("/stop")
    stage.daemon.kill()
    assert isinstance(stop.exception(30), CRIError)
    stage.daemon.start()
    stage.receiver.wait_for("/stop", count=2)
    release.set()
    until(lambda: stage.cri.state(container) == "CONTAINER_EXITED", "the container is killed")
    assert stage.log.words() == ["started"]
    stage.cri.stop_pod(stage.pod)
    assert stage.deliveries() == [("preStop", "delivered")]
