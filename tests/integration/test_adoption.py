"""hookshim is put in front of a containerd that has pods, and taken away again: nobody notices but for the hooks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shim.plan import GRACE_KEY
from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.later import later
from tests.support.receiver import Receiver
from tests.support.signals import SignalLog, logging_container, logging_hook
from tests.support.stage import KEY, exec_hook, http_hook


class Found:
    """A pod that was made at containerd's own socket, before there was a hookshim, and its container's log."""

    def __init__(self, containerd: PrivateContainerd, name: str, log: SignalLog) -> None:
        self.cri = containerd.cri
        self.log = log
        self._name = name
        self.pod = ""

    def run(self, for_all: dict[str, Any] | None = None) -> None:
        """Run the pod; its annotation declares ``for_all`` for all of its containers."""
        declared = {KEY: json.dumps({"*": for_all})} if for_all else {}
        self.pod = self.cri.run_pod(self._name, annotations=declared)

    def create(self, declaration: str | None = None, name: str = "c") -> str:
        """A container that was only created; its annotation says ``declaration``."""
        declared = {KEY: declaration} if declaration else {}
        return self.cri.create(self.pod, name, logging_container(), annotations=declared, mounts=self.log.mounts)

    def start(self, declaration: str | None = None, name: str = "c") -> str:
        """A container that runs."""
        container = self.create(declaration, name)
        self.cri.start(container)
        self.log.wait_for("started")
        return container


@pytest.fixture
def found(any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path) -> Found:
    """A place for a pod, on every containerd of the run."""
    return Found(any_containerd, pod_name, SignalLog(tmp_path))


def hooks(**handlers: dict[str, Any]) -> str:
    """A container's declaration."""
    return json.dumps(handlers)


PRE_STOP = exec_hook(logging_hook("preStop"))
POST_START = exec_hook(logging_hook("postStart"))


@pytest.mark.parametrize("where", ["the container", "the pod"])
def test_the_hooks_of_a_running_container_are_honoured(
    found: Found, any_containerd: PrivateContainerd, hookshim: MakeHookshim, where: str
) -> None:
    """Declared in an annotation that containerd kept: PreStop runs at the stop; PostStart's time is over."""
    lifecycle = {"preStop": PRE_STOP, "postStart": POST_START}
    found.run(lifecycle if where == "the pod" else None)
    container = found.start(json.dumps(lifecycle) if where == "the container" else None)
    daemon = hookshim(any_containerd)
    daemon.cri.stop(container, 20)
    assert found.log.words() == ["started", "preStop begins", "preStop ends", "TERM", "finished"]
    assert [(each["hook"], each["state"]) for each in daemon.deliveries()] == [("preStop", "delivered")]


@pytest.mark.parametrize("way", ["stop_pod", "remove_pod"])
def test_the_hooks_of_a_pod_that_was_found_are_honoured(
    found: Found, any_containerd: PrivateContainerd, hookshim: MakeHookshim, way: str
) -> None:
    """A pod call that comes to hookshim as the first thing."""
    found.run()
    found.start(hooks(preStop=PRE_STOP))
    daemon = hookshim(any_containerd)
    getattr(daemon.cri, way)(found.pod)
    assert found.log.words() == ["started", "preStop begins", "preStop ends"]


def test_a_container_that_was_only_created_gets_its_post_start(
    found: Found, any_containerd: PrivateContainerd, hookshim: MakeHookshim
) -> None:
    """Created before hookshim, started through it."""
    found.run()
    container = found.create(hooks(postStart=POST_START))
    daemon = hookshim(any_containerd)
    daemon.cri.start(container)
    assert "postStart ends" in found.log.words()
    assert [(each["hook"], each["state"]) for each in daemon.deliveries()] == [("postStart", "delivered")]


def test_a_malformed_declaration_that_was_found_does_not_keep_its_container_alive(
    found: Found, any_containerd: PrivateContainerd, hookshim: MakeHookshim
) -> None:
    """Nobody refused it at its creation: at the stop it is a failed delivery with an event, and the stop goes on."""
    found.run()
    container = found.start('{"preStop": {"exec": {"command": "not a list"}}}')
    daemon = hookshim(any_containerd)
    daemon.cri.stop(container, 20)
    assert found.log.words() == ["started", "TERM", "finished"]
    [delivery] = daemon.deliveries()
    assert (delivery["hook"], delivery["state"], delivery["attempts"]) == ("preStop", "failed", 0)
    assert "$.preStop.exec.command" in delivery["error"]
    assert [event["reason"] for event in daemon.events()] == ["FailedPreStopHook"]


def test_a_malformed_declaration_that_was_found_is_not_started(
    found: Found, any_containerd: PrivateContainerd, hookshim: MakeHookshim
) -> None:
    """StartContainer says what is wrong with it, as CreateContainer would have."""
    found.run()
    container = found.create('{"postStart": {"exec": {"command": "not a list"}}}')
    daemon = hookshim(any_containerd)
    with pytest.raises(CRIError) as refused:
        daemon.cri.start(container)
    assert refused.value.code.name == "INVALID_ARGUMENT"
    assert "$.postStart.exec.command" in refused.value.message
    assert any_containerd.cri.state(container) == "CONTAINER_CREATED"
    assert daemon.deliveries() == []


def inventory(containerd: PrivateContainerd) -> dict[str, list[str]]:
    """All that containerd's native API lists in the namespace of the CRI, but for what changes by itself."""
    return {
        what: sorted(containerd.ctr(*arguments).split("\n"))
        for what, arguments in {
            "containers": ("containers", "list"),
            "tasks": ("tasks", "list"),
            "snapshots": ("snapshots", "list"),
            "leases": ("leases", "list", "--quiet"),
            "images": ("images", "list", "--quiet"),
            "content": ("content", "list", "--quiet"),
        }.items()
    }


def processes(containerd: PrivateContainerd) -> dict[str, int]:
    """How many processes each task has, its execs among them."""
    tasks = containerd.ctr("tasks", "list", "--quiet").split()
    return {task: len(containerd.ctr("tasks", "ps", task).splitlines()) - 1 for task in tasks}


def test_nothing_is_left_behind_in_containerd(
    any_containerd: PrivateContainerd, hookshim: MakeHookshim, pod_name: str
) -> None:
    """Hooks ran that left processes behind; taken away, hookshim leaves containerd as if it had never been there."""
    cri = any_containerd.cri
    pod = cri.run_pod(pod_name)
    stays = cri.create(pod, "stays", ["sleep", "3600"], annotations={KEY: hooks(preStop=exec_hook(["true"]))})
    cri.start(stays)
    before = inventory(any_containerd)
    daemon = hookshim(any_containerd)
    leaving = {status: exec_hook(["sh", "-c", f"sleep 600 >/dev/null 2>&1 & exit {status}"]) for status in (0, 3)}
    for status, post_start in leaving.items():
        declared = {GRACE_KEY: "1", KEY: hooks(postStart=post_start, preStop=leaving[0])}
        goes = cri.create(pod, f"goes{status}", ["sleep", "3600"], annotations=declared)
        if status:
            with pytest.raises(CRIError):
                daemon.cri.start(goes)
        else:
            daemon.cri.start(goes)
            daemon.cri.stop(goes, 2)
        daemon.cri.remove(goes)
    assert [each["state"] for each in daemon.deliveries()] == ["delivered", "delivered", "failed", "delivered"]
    assert daemon.terminate() == 0
    assert inventory(any_containerd) == before
    assert processes(any_containerd) == {pod: 1, stays: 1}


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_containerds_own_socket_serves_what_hookshim_has_left(
    found: Found, any_containerd: PrivateContainerd, hookshim: MakeHookshim, receiver: Receiver, end: str
) -> None:
    """Taken away amid a PreStop: the container runs as before, and a stop at containerd is containerd's own."""
    found.run()
    container = found.start(hooks(preStop=http_hook(receiver, "/preStop")))
    daemon = hookshim(any_containerd, options=["--drain-seconds", "0.2"])
    receiver.hang("/preStop")
    stop = later(daemon.cri.stop, container, 600)
    receiver.wait_for("/preStop")
    getattr(daemon, end)()
    assert isinstance(stop.exception(30), CRIError)
    assert any_containerd.cri.state(container) == "CONTAINER_RUNNING"
    assert found.log.words() == ["started"]
    any_containerd.cri.stop(container, 20)
    assert found.log.words() == ["started", "TERM", "finished"]
    any_containerd.cri.remove(container)
    assert list(any_containerd.cri.list(found.pod)) == []
    assert len(receiver.requests) == 1


def test_hooks_are_honoured_by_the_next_hookshim(
    found: Found, any_containerd: PrivateContainerd, hookshim: MakeHookshim
) -> None:
    """Put in front again with an empty journal, as after a reinstallation: what is running is adopted."""
    found.run()
    first = hookshim(any_containerd)
    container = found.create(hooks(postStart=POST_START, preStop=PRE_STOP))
    first.cri.start(container)
    found.log.wait_for("started")
    assert first.terminate() == 0
    second = hookshim(any_containerd)
    second.cri.stop(container, 20)
    words = found.log.words()
    assert words.count("postStart begins") == 1
    assert words[-4:] == ["preStop begins", "preStop ends", "TERM", "finished"]
    assert [(each["hook"], each["state"]) for each in second.deliveries()] == [("preStop", "delivered")]
