"""postStop is told of every end of a container that has run, once, whoever ended it, and is in nobody's way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.journal import ask, open_operations
from tests.support.later import later
from tests.support.receiver import Behaviour, Receiver
from tests.support.stage import KEY, Stage, http_hook, let_end, put_rule, waiting
from tests.support.waiting import until

FOREVER = ["sleep", "1000000"]


@pytest.fixture
def stage(
    hookshim: MakeHookshim, any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Stage:
    """A pod behind a daemon, on every containerd of the run."""
    return Stage(hookshim(any_containerd), pod_name, tmp_path, receiver)


def told(receiver: Receiver, path: str = "/postStop") -> list[dict[str, Any]]:
    """What the receiver was told so far."""
    return [json.loads(request.body) for request in receiver.seen(path)]


def post_stop(receiver: Receiver, path: str = "/postStop", **policy: object) -> dict[str, Any]:
    """A declaration of one."""
    return {"postStop": http_hook(receiver, path) | policy}


def settled(stage: Stage, state: str = "delivered") -> None:
    """Wait until all deliveries have this state."""
    until(lambda: all(each["state"] == state for each in stage.daemon.deliveries()), f"everything is {state}")


def crash(stage: Stage, container: str) -> None:
    """It exits by itself with 3."""
    let_end(stage, "exit-3")


def complete(stage: Stage, container: str) -> None:
    """It exits by itself with 0."""
    let_end(stage, "exit-0")


def out_of_memory(stage: Stage, container: str) -> None:
    """Its cgroup is given less than it then takes."""
    cgroups = Path("/sys/fs/cgroup")
    places = (
        cgroups / f"memory/k8s.io/{container}/memory.limit_in_bytes",
        cgroups / f"k8s.io/{container}/memory.max",
    )
    [limit] = [place for place in places if place.exists()]
    limit.write_text(str(16 << 20))
    let_end(stage, "dd")


COMMAND = waiting("end", "true")
COMMAND[2] = """\
trap 'exit 7' TERM
while :; do
    [ ! -e /signals/exit-0 ] || exit 0
    [ ! -e /signals/exit-3 ] || exit 3
    [ ! -e /signals/dd ] || exec dd if=/dev/zero of=/dev/null bs=256M
    sleep 0.05
done"""

ENDS: dict[str, tuple[Callable[[Stage, str], None], int, str]] = {
    "completed": (complete, 0, "Completed"),
    "crashed": (crash, 3, "Error"),
    "stopped": (lambda stage, container: stage.cri.stop(container, 20), 7, "Error"),
    "killed by a stop": (lambda stage, container: stage.cri.stop(container, 0), 137, "Error"),
    "out of memory": (out_of_memory, 137, "OOMKilled"),
    "its pod was stopped": (lambda stage, container: stage.cri.stop_pod(stage.pod), 137, "Error"),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_receiver_is_told_how_it_ended(stage: Stage, how: str) -> None:
    """One POST with exit code, reason and times as containerd has them, and the container's and pod's identity."""
    end, code, reason = ENDS[how]
    container = stage.container(post_stop(stage.receiver), COMMAND)
    stage.cri.start(container)
    assert stage.receiver.requests == []
    end(stage, container)
    stage.receiver.wait_for("/postStop")
    settled(stage)
    [request] = stage.receiver.requests
    [delivery] = stage.daemon.deliveries()
    body = json.loads(request.body)
    status = stage.cri.status(container)
    assert request.method == "POST"
    assert (body["exitCode"], body["reason"]) == (code, reason) == (status.exit_code, status.reason)
    for key, at in (("startedAt", status.started_at), ("finishedAt", status.finished_at)):
        assert abs(datetime.fromisoformat(body[key]).timestamp() - at / 1e9) < 0.001
    assert (body["containerId"], body["sandboxId"]) == (container, stage.pod)
    assert (body["containerName"], body["podName"], body["podNamespace"]) == ("c", stage.pod_name, "default")
    assert (body["hook"], body["delivery"], body["attempt"]) == ("postStop", delivery["id"], 1)
    assert request.header("Hookshim-Delivery") == delivery["id"]
    assert open_operations(stage.daemon) == []


@pytest.mark.parametrize("way", ["killed from outside", "removed while it ran", "removed with its pod"])
def test_an_end_that_no_one_asked_hookshim_for_or_that_leaves_nothing(
    stage: Stage, any_containerd: PrivateContainerd, way: str
) -> None:
    """Told once with the exit code, although the container may be gone before anybody could look at it."""
    container = stage.container(post_stop(stage.receiver), FOREVER)
    stage.cri.start(container)
    if way == "killed from outside":
        any_containerd.ctr("tasks", "kill", "--signal", "SIGKILL", container)
    elif way == "removed while it ran":
        stage.cri.remove(container)
    else:
        stage.cri.remove_pod(stage.pod)
    stage.receiver.wait_for("/postStop")
    settled(stage)
    [body] = told(stage.receiver)
    assert (body["exitCode"], body["reason"]) == (137, "Error")
    assert body["finishedAt"] is not None
    assert (body["containerId"], body["podName"]) == (container, stage.pod_name)


def test_who_and_what_is_on_disk_before_the_container_runs(
    stage: Stage, tmp_path: Path, any_containerd: PrivateContainerd
) -> None:
    """Armed in the commit that accepts the start: killed right after it, and the container never runs, nobody is told.

    Its next start runs it, and that end is told: the record is still there.
    """
    container = stage.container(post_stop(stage.receiver), waiting("go"))
    stage.daemon.restart({"HOOKSHIM_FAILPOINTS": "start.accepted=kill"})
    with pytest.raises(CRIError):
        stage.cri.start(container)
    stage.daemon.wait()
    assert stage.deliveries() == [("postStop", "armed")]
    assert any_containerd.cri.state(container) == "CONTAINER_CREATED"
    stage.daemon.start()
    stage.cri.start(container)
    assert stage.receiver.requests == []
    let_end(stage, "go")
    stage.receiver.wait_for("/postStop")
    settled(stage)
    assert [body["exitCode"] for body in told(stage.receiver)] == [0]


@pytest.mark.parametrize("how", ["its program is missing", "it was removed", "it was removed with its pod"])
def test_a_container_that_never_ran_is_nothing_to_be_told_of(stage: Stage, how: str) -> None:
    """Created and removed, or a start that fails: no request, and nothing stays open."""
    missing = how == "its program is missing"
    container = stage.container(post_stop(stage.receiver), ["/missing"] if missing else FOREVER)
    if missing:
        with pytest.raises(CRIError):
            stage.cri.start(container)
        until(lambda: stage.deliveries() == [("postStop", "void")], "nothing is left to tell")
    if how == "it was removed with its pod":
        stage.cri.remove_pod(stage.pod)
    else:
        stage.cri.remove(container)
    # Another one's end comes after all that could have been told of the first.
    pod = stage.cri.run_pod(stage.pod_name + "-marker")
    declared = {KEY: json.dumps(post_stop(stage.receiver, "/marker"))}
    marker = stage.cri.create(pod, "marker", ["true"], annotations=declared)
    stage.cri.start(marker)
    stage.receiver.wait_for("/marker")
    stage.daemon.restart()
    until(lambda: open_operations(stage.daemon) == [], "nothing is open")
    assert stage.receiver.seen("/postStop") == []
    assert stage.daemon.events() == []


def test_a_container_that_was_there_before_hookshim_is_adopted(
    hookshim: MakeHookshim, any_containerd: PrivateContainerd, pod_name: str, receiver: Receiver
) -> None:
    """Its record is made when it is found running; ended and removed behind hookshim's back, it is told of once."""
    pod = any_containerd.cri.run_pod(pod_name)
    declared = {KEY: json.dumps(post_stop(receiver))}
    container = any_containerd.cri.create(pod, "c", FOREVER, annotations=declared)
    any_containerd.cri.start(container)
    daemon = hookshim(any_containerd)
    until(lambda: [each["state"] for each in daemon.deliveries()] == ["armed"], "it is adopted")
    daemon.kill()
    any_containerd.cri.remove_pod(pod)
    daemon.start()
    receiver.wait_for("/postStop")
    until(lambda: [each["state"] for each in daemon.deliveries()] == ["delivered"], "it is recorded")
    [body] = told(receiver)
    assert (body["exitCode"], body["reason"], body["startedAt"]) == (None, "Unknown", None)
    assert (body["containerId"], body["containerName"], body["podName"]) == (container, "c", pod_name)


def test_a_rule_that_appears_while_it_runs_is_told(stage: Stage, tmp_path: Path) -> None:
    """A ``run`` on the node, with the end as JSON on its stdin and in its environment."""
    container = stage.container({}, waiting("go", "exit 5"))
    stage.cri.start(container)
    stage.cri.stop_pod(stage.cri.run_pod(stage.pod_name + "-other"))
    script = f'cat >{tmp_path}/in && echo "$HOOKSHIM_EXIT_CODE $HOOKSHIM_REASON $HOOKSHIM_CONTAINER_ID" >{tmp_path}/env'
    put_rule(stage.daemon, "new", ["postStop"], f"run = {{ command = {json.dumps(['/bin/sh', '-c', script])} }}")
    until(lambda: stage.deliveries() == [("postStop", "armed")], "it is adopted")
    let_end(stage, "go")
    settled(stage)
    body = json.loads((tmp_path / "in").read_text())
    assert (body["exitCode"], body["reason"], body["containerId"]) == (5, "Error", container)
    assert (tmp_path / "env").read_text().split() == ["5", "Error", container]


def test_a_rule_that_is_gone_when_it_ends_is_told_all_the_same(stage: Stage) -> None:
    """What counts is what was written down when it began; also if hookshim was asked to stop it meanwhile."""
    url = f"http://{stage.receiver.host}:{stage.receiver.port}/postStop"
    handler = f'httpGet = {{ url = "{url}" }}'
    put_rule(stage.daemon, "rule", ["postStop"], handler, containers="c")
    until(lambda: "are taken over" in stage.daemon.log.read_text(), "the rule is there")
    container, other = stage.container({}, COMMAND), stage.container({}, FOREVER, name="other")
    stage.cri.start(container)
    stage.cri.start(other)
    assert stage.deliveries() == [("postStop", "armed")]
    put_rule(stage.daemon, "rule", ["postStop"], handler, containers="other")
    until(lambda: len(stage.deliveries()) == 2, "the rule is another container's, and that is adopted")
    stage.cri.stop(container, 20)
    stage.receiver.wait_for("/postStop")
    assert [(body["containerId"], body["exitCode"]) for body in told(stage.receiver)] == [(container, 7)]


def test_it_delays_no_stop_and_no_removal(stage: Stage) -> None:
    """A receiver that never answers: each call that ends or removes returns while it is still being told."""
    release = stage.receiver.hang("/postStop")
    containers = [stage.container(post_stop(stage.receiver), COMMAND, name=f"c{number}") for number in range(3)]
    for container in containers:
        stage.cri.start(container)
    stage.cri.stop(containers[0], 20)
    stage.receiver.wait_for("/postStop")
    stage.cri.remove(containers[0])
    stage.cri.remove(containers[1])
    stage.cri.stop_pod(stage.pod)
    stage.cri.remove_pod(stage.pod)
    assert list(stage.cri.list(stage.pod)) == []
    stage.receiver.wait_for("/postStop", 3)
    assert {each["state"] for each in stage.daemon.deliveries()} == {"delivering"}
    release.set()
    settled(stage)
    assert len(stage.receiver.requests) == 3


def test_a_receiver_that_is_down_keeps_no_other_from_being_told(stage: Stage) -> None:
    """A rule's and the pod's own: both begin, each is tried for itself, and the one that is up is told at once."""
    stage.receiver.behave("/rule", Behaviour(status=503))
    url = f"http://{stage.receiver.host}:{stage.receiver.port}/rule"
    put_rule(stage.daemon, "all", ["postStop"], f'httpGet = {{ url = "{url}" }}\nretry = {{ backoffSeconds = 0.2 }}')
    until(lambda: "are taken over" in stage.daemon.log.read_text(), "the rule is there")
    container = stage.container(post_stop(stage.receiver), ["true"])
    stage.cri.start(container)
    stage.receiver.wait_for("/rule", 2)
    stage.receiver.wait_for("/postStop")
    stage.receiver.behave("/rule", Behaviour())
    settled(stage)
    assert [(each["hook"], each["source"]) for each in stage.daemon.deliveries()] == [
        ("postStop", "rule all"),
        ("postStop", "container"),
    ]
    assert len(told(stage.receiver)) == 1


def test_fifty_that_end_at_once_are_told_of_once_each(stage: Stage) -> None:
    """More than are told of at the same time; each with its own exit code."""
    containers = {
        stage.container(post_stop(stage.receiver), waiting("all", f"exit {code}"), name=f"c{code}"): code
        for code in range(50)
    }
    for container in containers:
        stage.cri.start(container)
    let_end(stage, "all")
    stage.receiver.wait_for("/postStop", 50, within=60)
    settled(stage)
    assert {body["containerId"]: body["exitCode"] for body in told(stage.receiver)} == containers
    assert len(stage.receiver.requests) == 50


def test_the_pods_own_address_is_told_while_the_pod_is_there(stage: Stage) -> None:
    """Another container of the pod serves: told while the sandbox is ready; then refused for good, and announced."""
    own = {"postStop": {"httpGet": {"port": 7070, "path": "/passwd", "expectStatus": ["2xx", "5xx"]}}}
    server = stage.container({}, ["sh", "-c", "httpd -f -p 7070 -h /etc"], name="server")
    stage.cri.start(server)
    first = stage.container(own, ["true"], name="first")
    stage.cri.start(first)
    until(lambda: stage.deliveries() == [("postStop", "delivered")], "the server in the pod is told")
    second = stage.container(own, FOREVER, name="second")
    stage.cri.start(second)
    stage.cri.stop_pod(stage.pod)
    until(lambda: stage.deliveries()[1:] == [("postStop", "failed")], "the pod is not there any more")
    [event] = stage.daemon.events()
    assert event["reason"] == "FailedPostStopHook"
    assert "the pod is not ready any more" in event["message"]
    # One may have begun while the pod was being stopped.
    assert stage.daemon.deliveries()[1]["attempts"] <= 2


def test_a_start_is_not_held_up_by_the_end_of_another(stage: Stage) -> None:
    """Seventeen that hang, more than are told of at once: the seventeenth's turn comes, and starts go on meanwhile."""
    release = stage.receiver.hang("/postStop")
    for number in range(17):
        stage.cri.start(stage.container(post_stop(stage.receiver), ["true"], name=f"c{number}"))
    stage.receiver.wait_for("/postStop", 16)
    began = time.monotonic()
    last = stage.container(post_stop(stage.receiver, "/last"), COMMAND, name="last")
    stage.cri.start(last)
    later(stage.cri.stop, last, 20).result(20)
    assert time.monotonic() - began < 20
    ended = "SELECT count(*) FROM operation WHERE kind = 'end' AND ending IS NOT NULL"
    until(lambda: ask(stage.daemon, ended) == [(18,)], "how each ended is on disk, told or not")
    release.set()
    stage.receiver.wait_for("/last")
    settled(stage)
    assert len(stage.receiver.requests) == 18
