"""Kubernetes' own exec preStop behind ``kubelet_prestop = "ensure"``: the tests say what a kubelet says.

A kubelet runs the hook by an ExecSync without a timeout, then sends StopContainer with what is left of the grace, at
least 2 s (kubelet ``kuberuntime_container.go``: killContainer). When it has forgotten the hook it sends the stop alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIClient, CRIError
from tests.support.journal import ask
from tests.support.later import later
from tests.support.receiver import Receiver
from tests.support.signals import logging_container, logging_hook, now
from tests.support.stage import Stage, exec_hook, held_hook, kubelets_container, let_go
from tests.support.waiting import until
from tests.wire import cri_pb2 as cri

ENSURE = {"HOOKSHIM_KUBELET_PRESTOP": "ensure"}

#: What a kubelet sends when its hook took long or was forgotten (kubelet ``minimumGracePeriodInSeconds``).
MINIMUM = 2

#: Seconds that no call here takes.
SOON = 60

#: What a stop writes of a hook that it left to the kubelet.
LEFT_OUT = [("preStop", "skipped", "kubelet")]
RAN_HERE = [("preStop", "delivered", "kubelet")]

#: The ways to end a container, as CRIClient calls them.
WAYS = ("stop", "remove", "stop_pod", "remove_pod")


@pytest.fixture
def stage(
    hookshim: MakeHookshim, containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Stage:
    """A pod behind a daemon that sees to the kubelet's hooks."""
    return Stage(hookshim(containerd, env=ENSURE), pod_name, tmp_path / "stage", receiver)


@pytest.fixture
def any_stage(
    hookshim: MakeHookshim, any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Stage:
    """The same, on every containerd of the run."""
    return Stage(hookshim(any_containerd, env=ENSURE), pod_name, tmp_path / "stage", receiver)


def running(stage: Stage, hook: list[str], *, grace: int = 60, **options: Any) -> str:
    """A running container with this exec preStop, in a pod with that termination grace."""
    container = kubelets_container(stage, exec_hook(hook), grace=grace, **options)
    stage.cri.start(container)
    stage.log.wait_for("started")
    return container


def deliveries(stage: Stage) -> list[tuple[str, str, str]]:
    """(hook, state, who declared it) of every delivery, oldest first."""
    return ask(stage.daemon, "SELECT hook, state, source FROM delivery ORDER BY rowid")


def executions(stage: Stage) -> list[tuple[str, str]]:
    """(state, error) of every ExecSync that was taken for the kubelet's hook, oldest first."""
    return ask(stage.daemon, "SELECT state, error FROM operation WHERE kind = 'exec' ORDER BY rowid")


def test_a_hook_that_the_kubelet_ran_is_not_run_again(any_stage: Stage) -> None:
    """ExecSync, then StopContainer: one hook, then TERM; the stop's record says who ran it."""
    hook = logging_hook("preStop", seconds=0.5)
    container = running(any_stage, hook)
    assert any_stage.cri.exec_sync(container, hook).exit_code == 0
    assert any_stage.log.words() == ["started", "preStop begins", "preStop ends"]
    any_stage.cri.stop(container, 28)
    assert any_stage.log.words() == ["started", "preStop begins", "preStop ends", "TERM", "finished"]
    assert deliveries(any_stage) == LEFT_OUT
    assert any_stage.daemon.deliveries()[0]["error"] == "the kubelet has run it"
    assert executions(any_stage) == [("done", "")]


@pytest.mark.parametrize("grace", [MINIMUM, 30])
def test_a_stop_without_the_kubelets_hook_runs_it_first(any_stage: Stage, grace: int) -> None:
    """StopContainer alone, as after a deletion while the kubelet was down: the hook has the pod's grace, then TERM."""
    container = running(any_stage, logging_hook("preStop", seconds=3))
    any_stage.cri.stop(container, grace)
    assert any_stage.log.words() == ["started", "preStop begins", "preStop ends", "TERM", "finished"]
    assert any_stage.cri.status(container).exit_code == 0
    assert deliveries(any_stage) == RAN_HERE
    assert executions(any_stage) == []


@pytest.mark.parametrize("status", [0, 3])
def test_the_kubelet_gets_containerds_own_answer(stage: Stage, status: int) -> None:
    """Byte for byte, with both outputs as they are; a hook that fails has been run, and nobody is warned of it."""
    says = "head -c 300000 /bin/busybox; printf '\\377\\0' >&2"
    hook = ["sh", "-c", f"{says}; {logging_hook('preStop', exit_status=status)[2]}"]
    container = running(stage, hook)
    request = cri.ExecSyncRequest(container_id=container, cmd=hook).SerializeToString()
    with_hookshim = stage.cri.call("ExecSync", request)
    stage.cri.stop(container, 28)
    assert stage.log.words() == ["started", "preStop begins", "preStop ends", "TERM", "finished"]
    assert deliveries(stage) == LEFT_OUT
    assert stage.daemon.events() == []
    direct = direct_answer(stage, hook)
    assert with_hookshim.response == direct
    answer = cri.ExecSyncResponse.FromString(direct)
    assert (len(answer.stdout), answer.stderr, answer.exit_code) == (300000, b"\xff\0", status)


def direct_answer(stage: Stage, hook: list[str]) -> bytes:
    """What containerd itself answers to the hook, in another container."""
    container = stage.container({}, name="direct")
    stage.cri.start(container)
    with CRIClient(stage.daemon.containerd) as runtime:
        request = cri.ExecSyncRequest(container_id=container, cmd=hook).SerializeToString()
        return runtime.call("ExecSync", request).response


def test_the_hooks_budget_is_the_pods_grace_and_the_process_still_gets_its_own(stage: Stage) -> None:
    """A hook that hangs is ended after the pod's 4 s, not StopContainer's 2; then TERM, and KILL 2 s later."""
    command = logging_container(ignores_term=True)
    container = running(stage, logging_hook("preStop", seconds=60), grace=4, command=command)
    began = now()
    stage.cri.stop(container, MINIMUM)
    term = stage.log.wait_for("TERM").at
    assert term - began >= 3.9
    assert now() - term >= 1.9
    assert stage.cri.status(container).exit_code == 137
    [delivery] = stage.daemon.deliveries()
    assert delivery["state"] == "failed"
    assert "timed out after" in delivery["error"]
    assert [event["reason"] for event in stage.daemon.events()] == ["FailedPreStopHook"]


def test_the_hooks_budget_ends_with_the_callers_deadline(stage: Stage) -> None:
    """A caller that waits 4 s gets TERM sent by then, whatever the pod's grace."""
    container = running(stage, logging_hook("preStop", seconds=60), grace=600)
    began = now()
    with pytest.raises(CRIError) as late:
        stage.cri.stop(container, MINIMUM, timeout=4)
    assert late.value.code.name == "DEADLINE_EXCEEDED"
    assert stage.log.wait_for("TERM").at - began >= 3.5
    assert now() - began < SOON
    stage.log.wait_for("finished")


def test_a_hook_in_flight_is_waited_for_and_not_doubled(any_stage: Stage) -> None:
    """A stop that comes during the ExecSync sends no TERM before its answer, and runs no hook of its own."""
    hook = held_hook("preStop")
    container = running(any_stage, hook)
    exec_sync = later(any_stage.cri.exec_sync, container, hook)
    any_stage.log.wait_for("preStop begins")
    stop = later(any_stage.cri.stop, container, 30)
    until(lambda: deliveries(any_stage), "the stop is accepted")
    assert deliveries(any_stage) == [("preStop", "pending", "kubelet")]
    assert any_stage.log.words() == ["started", "preStop begins"]
    let_go(any_stage)
    assert exec_sync.result(SOON).exit_code == 0
    stop.result(SOON)
    assert any_stage.log.words() == ["started", "preStop begins", "preStop ends", "TERM", "finished"]
    assert deliveries(any_stage) == LEFT_OUT


def test_what_only_looks_like_the_hook_is_passed_and_does_not_count(stage: Stage) -> None:
    """Another command, and the hook's own as a probe runs it, leave no record; the stop runs the hook."""
    hook = logging_hook("preStop")
    container = running(stage, hook)
    stage.cri.exec_sync(container, logging_hook("other"))
    stage.cri.exec_sync(container, [*hook, "more"])
    stage.cri.exec_sync(container, hook, limit=10)
    assert executions(stage) == []
    before = stage.calls("preStop")
    stage.cri.stop(container, 28)
    assert stage.calls("preStop") == before + 1
    assert deliveries(stage) == RAN_HERE


def test_a_post_start_with_the_same_command_counts_within_the_grace(stage: Stage) -> None:
    """It looks the same to everybody but the kubelet, so a stop within the grace leaves the hook out."""
    hook = logging_hook("same")
    container = running(stage, hook)
    stage.cri.exec_sync(container, hook)
    stage.cri.stop(container, 28)
    assert stage.calls("same") == 1
    assert deliveries(stage) == LEFT_OUT


def test_a_run_longer_ago_than_the_grace_does_not_count(stage: Stage) -> None:
    """With a grace of 1 s, what ran more than 3 s before the stop (2 s are the kubelet's timers) is not its hook."""
    hook = logging_hook("preStop")
    container = running(stage, hook, grace=1)
    stage.cri.exec_sync(container, hook)
    answered = now()
    until(lambda: now() > answered + 3.1, "the grace is over")
    stage.cri.stop(container, 30)
    assert stage.calls("preStop") == 2
    assert deliveries(stage) == RAN_HERE


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("ran", [False, True])
def test_the_other_ends_run_the_hook_unless_the_kubelet_has(stage: Stage, way: str, ran: bool) -> None:  # noqa: FBT001
    """StopPodSandbox, RemovePodSandbox and RemoveContainer kill without TERM; the hook runs once, before that."""
    hook = logging_hook("preStop")
    container = running(stage, hook)
    if ran:
        stage.cri.exec_sync(container, hook)
    getattr(stage.cri, way)(stage.pod if way.endswith("_pod") else container)
    assert stage.log.words() == ["started", "preStop begins", "preStop ends"]
    assert deliveries(stage) == (LEFT_OUT if ran else RAN_HERE)


def test_off_it_is_as_if_hookshim_knew_nothing_of_it(
    hookshim: MakeHookshim, containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> None:
    """The default: the kubelet's hook is the kubelet's, and neither its run nor the stop leaves a record."""
    stage = Stage(hookshim(containerd), pod_name, tmp_path, receiver)
    hook = logging_hook("preStop")
    container = running(stage, hook)
    stage.cri.exec_sync(container, hook)
    stage.cri.stop(container, 28)
    assert stage.log.words() == ["started", "preStop begins", "preStop ends", "TERM", "finished"]
    assert ask(stage.daemon, "SELECT * FROM operation") == []


@pytest.mark.parametrize(
    "handler",
    [
        {"httpGet": {"path": "/", "port": 1, "scheme": "HTTP"}},
        {"sleep": {"seconds": 60}},
        {"tcpSocket": {"port": 1}},
        {"exec": {}},
        {"exec": {"command": "sync"}},
        {},
        "null",
        "{",
        "",
    ],
    ids=json.dumps,
)
def test_what_is_no_exec_hook_is_left_to_the_kubelet(stage: Stage, handler: dict[str, Any] | str) -> None:
    """Those that do not pass here, and what cannot be read: TERM comes at once, and nothing is recorded."""
    container = kubelets_container(stage, handler)
    stage.cri.start(container)
    stage.log.wait_for("started")
    stage.cri.stop(container, 28)
    assert stage.log.words() == ["started", "TERM", "finished"]
    assert ask(stage.daemon, "SELECT * FROM operation") == []


@pytest.mark.parametrize("kubelet", ["forgot", "ran", "runs"])
def test_it_comes_before_the_rules_and_the_pods_own_hook(
    hookshim: MakeHookshim,
    containerd: PrivateContainerd,
    pod_name: str,
    tmp_path: Path,
    receiver: Receiver,
    kubelet: str,
) -> None:
    """Kubelet's, rules', own: one after another, whoever runs the first, and also while it is still running."""
    rules = tmp_path / "hooks.d"
    rules.mkdir(mode=0o755)
    command = json.dumps(logging_hook("rule"))
    (rules / "a.toml").write_text(f'when = ["preStop"]\n[[handlers]]\nexec = {{ command = {command} }}\n')
    (rules / "a.toml").chmod(0o644)
    daemon = hookshim(containerd, env=ENSURE, options=["--hooks-dir", str(rules)])
    stage = Stage(daemon, pod_name, tmp_path / "stage", receiver)
    hook = held_hook("kubelet")
    container = running(stage, hook, lifecycle={"preStop": exec_hook(logging_hook("own"))})
    if kubelet != "runs":
        let_go(stage)
    if kubelet != "forgot":
        exec_sync = later(stage.cri.exec_sync, container, hook)
        stage.log.wait_for("kubelet begins" if kubelet == "runs" else "kubelet ends")
        if kubelet == "ran":
            exec_sync.result(SOON)
    stop = later(stage.cri.stop, container, 30)
    until(lambda: deliveries(stage), "the stop is accepted")
    if kubelet == "runs":
        assert stage.log.words() == ["started", "kubelet begins"]
        let_go(stage)
    stop.result(SOON)
    words = [f"{name} {does}" for name in ("kubelet", "rule", "own") for does in ("begins", "ends")]
    assert stage.log.words() == ["started", *words, "TERM", "finished"]
    state = "delivered" if kubelet == "forgot" else "skipped"
    assert deliveries(stage) == [
        ("preStop", state, "kubelet"),
        ("preStop", "delivered", "rule a"),
        ("preStop", "delivered", "container"),
    ]


def test_stops_that_join_share_one_hook(stage: Stage) -> None:
    """Two callers, neither of which has run it: it runs once, and both are answered after it."""
    container = running(stage, held_hook("preStop"))
    first = later(stage.cri.stop, container, 30)
    stage.log.wait_for("preStop begins")
    second = later(stage.cri.stop, container, 30)
    let_go(stage)
    first.result(SOON)
    second.result(SOON)
    assert stage.log.words() == ["started", "preStop begins", "preStop ends", "TERM", "finished"]
    assert deliveries(stage) == RAN_HERE
