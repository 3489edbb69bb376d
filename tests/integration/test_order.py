"""What happens in which order, seen by the container itself: its log of signals, into which its hooks write too."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.later import later
from tests.support.receiver import Receiver
from tests.support.signals import logging_container, logging_hook, now
from tests.support.stage import KEY, Stage, exec_hook, http_hook


@pytest.fixture
def stage(
    hookshim: MakeHookshim, any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Stage:
    """A pod behind a daemon, on every containerd of the run."""
    return Stage(hookshim(any_containerd), pod_name, tmp_path, receiver)


def test_post_start_ends_before_start_container_returns(stage: Stage) -> None:
    """StartContainer is answered after the hook has ended, and the container is RUNNING meanwhile."""
    container = stage.container({"postStart": exec_hook(logging_hook("postStart", seconds=0.5))})
    stage.cri.start(container)
    answered = now()
    words = stage.log.words()
    assert "postStart ends" in words
    assert stage.log.wait_for("postStart ends").at <= answered
    assert stage.cri.state(container) == "CONTAINER_RUNNING"
    [delivery] = stage.daemon.deliveries()
    assert (delivery["hook"], delivery["state"], delivery["attempts"]) == ("postStart", "delivered", 1)


def test_pre_stop_ends_before_term_is_sent(stage: Stage) -> None:
    """The process gets its TERM only after the hook has ended, and the rest of the grace after that."""
    container = stage.container({"preStop": exec_hook(logging_hook("preStop", seconds=0.5))})
    stage.cri.start(container)
    stage.log.wait_for("started")
    stage.cri.stop(container, grace=10)
    assert stage.log.words() == ["started", "preStop begins", "preStop ends", "TERM", "finished"]
    assert stage.cri.status(container).exit_code == 0
    [delivery] = stage.daemon.deliveries()
    assert (delivery["hook"], delivery["state"], delivery["attempts"]) == ("preStop", "delivered", 1)


def test_the_countdown_begins_before_the_hook(stage: Stage) -> None:
    """Of 12 s the hook takes 9, so a process that needs 5 is killed at 12 (the kubelet's 60/55/10, scaled down)."""
    container = stage.container(
        {"preStop": exec_hook(logging_hook("preStop", seconds=9))}, logging_container(finish_seconds=5)
    )
    stage.cri.start(container)
    stage.log.wait_for("started")
    began = now()
    stage.cri.stop(container, grace=12)
    ended = now()
    assert stage.log.words() == ["started", "preStop begins", "preStop ends", "TERM"]
    assert stage.log.wait_for("TERM").at - began >= 9
    # Killed: when its grace was over, and not before.
    assert stage.cri.status(container).exit_code == 137
    assert ended - began >= 11.9


def test_a_hook_that_uses_up_the_grace_leaves_two_seconds(stage: Stage) -> None:
    """A hook that hangs is cancelled at the end of the grace; TERM follows, with the minimum to react to it."""
    container = stage.container({"preStop": exec_hook(logging_hook("preStop", seconds=60))})
    stage.cri.start(container)
    stage.log.wait_for("started")
    began = now()
    stage.cri.stop(container, grace=3)
    assert stage.log.words() == ["started", "preStop begins", "TERM", "finished"]
    assert stage.log.wait_for("TERM").at - began >= 2.9
    [delivery] = stage.daemon.deliveries()
    assert delivery["state"] == "failed"
    assert "timed out after" in delivery["error"]
    [event] = stage.daemon.events()
    assert event["reason"] == "FailedPreStopHook"


def test_a_failed_pre_stop_does_not_keep_the_container_alive(stage: Stage) -> None:
    """The hook's exit status is recorded and announced, and TERM is sent all the same."""
    container = stage.container({"preStop": exec_hook(logging_hook("preStop", exit_status=3))})
    stage.cri.start(container)
    stage.log.wait_for("started")
    stage.cri.stop(container, grace=10)
    assert stage.log.words() == ["started", "preStop begins", "preStop ends", "TERM", "finished"]
    [delivery] = stage.daemon.deliveries()
    assert delivery["state"] == "failed"
    assert delivery["error"].endswith("exited with 3")
    [event] = stage.daemon.events()
    assert event["reason"] == "FailedPreStopHook"
    assert event["message"].startswith(delivery["error"])


def test_a_failed_post_start_runs_pre_stop_and_kills(stage: Stage) -> None:
    """The caller gets FAILED_PRECONDITION with the kubelet's text, after the container has ended by its hooks."""
    container = stage.container(
        {
            "postStart": exec_hook(logging_hook("postStart", exit_status=7)),
            "preStop": exec_hook(logging_hook("preStop")),
        }
    )
    with pytest.raises(CRIError) as refused:
        stage.cri.start(container)
    assert refused.value.code.name == "FAILED_PRECONDITION"
    assert refused.value.message.startswith("PostStart handler: Exec lifecycle hook ([sh -c ")
    assert f'for Container "c" in Pod "{stage.pod_name}_default(' in refused.value.message
    assert refused.value.message.endswith("exited with 7")
    assert stage.cri.state(container) == "CONTAINER_EXITED"
    words = [word for word in stage.log.words() if word not in ("started", "finished")]
    assert words == ["postStart begins", "postStart ends", "preStop begins", "preStop ends", "TERM"]
    assert [(d["hook"], d["state"]) for d in stage.daemon.deliveries()] == [
        ("postStart", "failed"),
        ("preStop", "delivered"),
    ]
    [event] = stage.daemon.events()
    assert event["reason"] == "FailedPostStartHook"


def test_timeout_zero_runs_the_hook_and_then_kills(stage: Stage) -> None:
    """``crictl stop`` sends 0: the hook gets a budget of its own, and no TERM follows."""
    container = stage.container({"preStop": exec_hook(logging_hook("preStop", seconds=0.3))})
    stage.cri.start(container)
    stage.log.wait_for("started")
    stage.cri.stop(container, grace=0)
    assert stage.log.words() == ["started", "preStop begins", "preStop ends"]
    assert stage.cri.status(container).exit_code == 137


def test_http_hooks_reach_their_receiver_before_the_answer_and_before_term(stage: Stage, receiver: Receiver) -> None:
    """Both hooks over HTTP, with the identity of the delivery that the journal shows."""
    container = stage.container(
        {"postStart": http_hook(receiver, "/start?a=b"), "preStop": http_hook(receiver, "/stop")}
    )
    stage.cri.start(container)
    [started] = receiver.seen("/start")
    stage.log.wait_for("started")
    release = receiver.hang("/stop")
    stop = later(stage.cri.stop, container, 20)
    receiver.wait_for("/stop")
    assert "TERM" not in stage.log.words()
    release.set()
    stop.result(30)
    assert "TERM" in stage.log.words()
    [stopped] = receiver.seen("/stop")
    deliveries = {delivery["hook"]: delivery for delivery in stage.daemon.deliveries()}
    assert started.header("Hookshim-Delivery") == deliveries["postStart"]["id"]
    assert stopped.header("Hookshim-Delivery") == deliveries["preStop"]["id"]
    assert started.header("Hookshim-Attempt") == "1"


def test_a_caller_that_leaves_takes_no_hook_with_it(stage: Stage) -> None:
    """As crictl does after 2 s: the caller gets DEADLINE_EXCEEDED, the hook goes on and the container is stopped."""
    container = stage.container({"preStop": exec_hook(logging_hook("preStop", seconds=3))})
    stage.cri.start(container)
    stage.log.wait_for("started")
    with pytest.raises(CRIError) as left:
        stage.cri.stop(container, grace=10, timeout=0.5)
    assert left.value.code.name == "DEADLINE_EXCEEDED"
    stage.log.wait_for("finished")
    assert stage.log.words() == ["started", "preStop begins", "preStop ends", "TERM", "finished"]
    deadline = time.monotonic() + 30
    while stage.daemon.deliveries()[0]["state"] != "delivered" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert stage.daemon.deliveries()[0]["state"] == "delivered"


def test_a_second_stop_joins_the_first(stage: Stage, receiver: Receiver) -> None:
    """Two callers, one hook: both are answered when the container has ended."""
    container = stage.container({"preStop": http_hook(receiver, "/stop")})
    stage.cri.start(container)
    stage.log.wait_for("started")
    release = receiver.hang("/stop")
    first = later(stage.cri.stop, container, 30)
    receiver.wait_for("/stop")
    second = later(stage.cri.stop, container, 30)
    time.sleep(0.3)
    release.set()
    first.result(30)
    second.result(30)
    assert len(receiver.seen("/stop")) == 1
    assert stage.cri.state(container) == "CONTAINER_EXITED"
    assert len(stage.daemon.deliveries()) == 1


def test_a_stop_ends_a_post_start_that_hangs(stage: Stage, receiver: Receiver) -> None:
    """The stop is admitted at once; StartContainer is answered with ABORTED, and PreStop still runs."""
    container = stage.container(
        {"postStart": http_hook(receiver, "/start"), "preStop": exec_hook(logging_hook("preStop"))}
    )
    receiver.hang("/start")
    start = later(stage.cri.start, container)
    receiver.wait_for("/start")
    stage.log.wait_for("started")
    stage.cri.stop(container, grace=10)
    with pytest.raises(CRIError) as aborted:
        start.result(30)
    assert aborted.value.code.name == "ABORTED"
    assert stage.log.words() == ["started", "preStop begins", "preStop ends", "TERM", "finished"]
    deliveries = {delivery["hook"]: delivery for delivery in stage.daemon.deliveries()}
    assert deliveries["postStart"]["state"] == "failed"
    assert "stopped before it ended" in deliveries["postStart"]["error"]
    assert deliveries["preStop"]["state"] == "delivered"


def test_a_container_that_ends_during_its_hook_is_no_failure(stage: Stage) -> None:
    """A PreStop that ends its own container is recorded as ``exited``, and announced to nobody."""
    container = stage.container({"preStop": exec_hook(["sh", "-c", "kill -TERM 1; sleep 60"])})
    stage.cri.start(container)
    stage.log.wait_for("started")
    stage.cri.stop(container, grace=60)
    assert stage.log.words() == ["started", "TERM", "finished"]
    [delivery] = stage.daemon.deliveries()
    assert (delivery["state"], delivery["error"]) == ("exited", "container exited")
    assert stage.daemon.events() == []


def test_a_container_without_hooks_leaves_no_record(stage: Stage) -> None:
    """Nothing is declared, so nothing is journaled, and the stop goes straight through."""
    container = stage.container({})
    stage.cri.start(container)
    stage.log.wait_for("started")
    stage.cri.stop(container, grace=5)
    assert stage.log.words() == ["started", "TERM", "finished"]
    assert stage.daemon.deliveries() == []


def test_the_pods_annotation_declares_for_its_containers(stage: Stage) -> None:
    """The pod's entry for the container's name counts, as containerd stored it at RunPodSandbox."""
    lifecycle = {"*": {"preStop": exec_hook(logging_hook("any"))}, "c": {"preStop": exec_hook(logging_hook("named"))}}
    stage.pod = stage.cri.run_pod(stage.pod_name + "-annotated", annotations={KEY: json.dumps(lifecycle)})
    container = stage.container({})
    stage.cri.start(container)
    stage.log.wait_for("started")
    stage.cri.stop(container, grace=5)
    assert stage.log.words() == ["started", "named begins", "named ends", "TERM", "finished"]


def test_a_malformed_declaration_is_refused_and_nothing_is_created(stage: Stage) -> None:
    """CreateContainer says where and what; containerd has no container afterwards."""
    with pytest.raises(CRIError) as refused:
        stage.container({"preStop": {"exec": {"command": "not a list"}}})
    assert refused.value.code.name == "INVALID_ARGUMENT"
    assert KEY in refused.value.message
    assert "$.preStop.exec.command" in refused.value.message
    assert list(stage.cri.list(stage.pod)) == []
