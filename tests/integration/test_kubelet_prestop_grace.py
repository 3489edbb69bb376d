"""The kubelet's own preStop and the grace: how long its run is waited for, and who may cut that short."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shim.plan import KUBELET_KEY
from tests.conftest import MakeHookshim
from tests.integration.test_kubelet_prestop import (
    ENSURE,
    LEFT_OUT,
    MINIMUM,
    RAN_HERE,
    SOON,
    deliveries,
    running,
)
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIClient, CRIError
from tests.support.later import later
from tests.support.receiver import Receiver
from tests.support.signals import INSIDE, logging_container, logging_hook, now
from tests.support.stage import KEY, Stage, exec_hook, held_hook, let_go
from tests.support.waiting import until

HOOK = held_hook("preStop")


@pytest.fixture
def stage(
    hookshim: MakeHookshim, containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Stage:
    """A pod behind a daemon that sees to the kubelet's hooks."""
    return Stage(hookshim(containerd, env=ENSURE), pod_name, tmp_path / "stage", receiver)


def test_a_hook_that_hangs_is_left_when_the_kubelet_leaves_it(stage: Stage) -> None:
    """After the grace the kubelet sends StopContainer with 2 s: TERM comes then, not a grace later, and not doubled."""
    grace = 6
    container = running(stage, HOOK, grace=grace)
    began = now()
    exec_sync = later(stage.cri.exec_sync, container, HOOK, timeout=None)
    until(lambda: now() >= began + grace, "the kubelet's timer")
    stopped = now()
    stage.cri.stop(container, MINIMUM)
    assert stage.log.words() == ["started", "preStop begins", "TERM", "finished"]
    assert stage.log.wait_for("TERM").at - stopped < grace - 1
    assert deliveries(stage) == LEFT_OUT
    assert stage.daemon.deliveries()[0]["error"] == "the kubelet runs it, and it has not ended within the grace"
    exec_sync.exception(SOON)


def test_a_caller_with_less_time_than_the_hook_in_flight_gets_its_term(stage: Stage) -> None:
    """Its countdown ends the waiting; the hook is not run a second time with no time at all."""
    container = running(stage, HOOK, grace=600)
    exec_sync = later(stage.cri.exec_sync, container, HOOK, timeout=None)
    stage.log.wait_for("preStop begins")
    began = now()
    with pytest.raises(CRIError):
        stage.cri.stop(container, MINIMUM, timeout=4)
    assert stage.log.wait_for("TERM").at - began >= 3.5
    stage.log.wait_for("finished")
    assert stage.log.words() == ["started", "preStop begins", "TERM", "finished"]
    assert deliveries(stage) == LEFT_OUT
    assert stage.daemon.events() == []
    exec_sync.exception(SOON)


def test_a_second_stop_shortens_the_waiting_for_a_hook_in_flight(stage: Stage) -> None:
    """The first caller would wait for minutes, the second for 4 s: TERM comes then, and both are answered."""
    container = running(stage, HOOK, grace=600)
    exec_sync = later(stage.cri.exec_sync, container, HOOK, timeout=None)
    stage.log.wait_for("preStop begins")
    first = later(stage.cri.stop, container, 600)
    until(lambda: deliveries(stage), "the stop is accepted")
    with pytest.raises(CRIError):
        stage.cri.stop(container, MINIMUM, timeout=4)
    first.result(SOON)
    assert stage.log.words() == ["started", "preStop begins", "TERM", "finished"]
    exec_sync.exception(SOON)


def test_the_next_kubelets_two_seconds_do_not_cut_the_hook(stage: Stage) -> None:
    """A kubelet that is restarted meanwhile sends its StopContainer again: that one gives the hook the grace, too."""
    container = running(stage, HOOK)
    first = later(stage.cri.stop, container, MINIMUM)
    stage.log.wait_for("preStop begins")
    second = later(stage.cri.stop, container, MINIMUM)
    began = now()
    until(lambda: now() > began + MINIMUM + 1.5, "more than 2 s have passed")
    assert stage.log.words() == ["started", "preStop begins"]
    let_go(stage)
    first.result(SOON)
    second.result(SOON)
    assert stage.log.words() == ["started", "preStop begins", "preStop ends", "TERM", "finished"]
    assert deliveries(stage) == RAN_HERE


def test_after_the_kubelets_run_other_hooks_have_what_is_left_of_the_grace(stage: Stage) -> None:
    """The kubelet has used up the rest: its 3 s are the own hook's budget, not another whole grace."""
    hook = logging_hook("preStop")
    container = running(stage, hook, lifecycle={"preStop": exec_hook(logging_hook("own", seconds=600))})
    stage.cri.exec_sync(container, hook)
    began = now()
    stage.cri.stop(container, 3)
    term = stage.log.wait_for("TERM").at
    assert 2.9 <= term - began < 50
    assert deliveries(stage) == [*LEFT_OUT, ("preStop", "failed", "container")]


def test_a_hook_in_flight_is_waited_for_also_after_one_that_counts(stage: Stage) -> None:
    """A kubelet whose stop failed runs its hook again; a stop that comes into that one sends no TERM under it."""
    container = running(stage, HOOK)
    let_go(stage)
    stage.cri.exec_sync(container, HOOK)
    [directory] = [node for node, inside in stage.log.mounts.items() if inside == INSIDE]
    (directory / "go").unlink()
    exec_sync = later(stage.cri.exec_sync, container, HOOK)
    until(lambda: stage.calls("preStop") == 2, "the second run has begun")
    stop = later(stage.cri.stop, container, 30)
    until(lambda: deliveries(stage), "the stop is accepted")
    # It is answered only after TERM, so what follows the acceptance is given time to go wrong.
    until(lambda: [stage.cri.version() for _ in range(50)], "hookshim has gone on")
    assert "TERM" not in stage.log.words()
    let_go(stage)
    assert exec_sync.result(SOON).exit_code == 0
    stop.result(SOON)
    assert stage.log.words()[-3:] == ["preStop ends", "TERM", "finished"]
    assert stage.calls("preStop") == 2


def test_a_malformed_declaration_beside_it_keeps_the_hook_due(stage: Stage) -> None:
    """Found late, on a container that was created without hookshim: it has failed, and the kubelet's hook is run."""
    annotations = {KUBELET_KEY: json.dumps(exec_hook(logging_hook("preStop"))), KEY: "{"}
    with CRIClient(stage.daemon.containerd) as runtime:
        pod = runtime.run_pod(f"{stage.pod_name}-other")
        container = runtime.create(pod, "c", logging_container(), annotations=annotations, mounts=stage.log.mounts)
        runtime.start(container)
    stage.log.wait_for("started")
    stage.cri.stop(container, 30)
    assert stage.log.words() == ["started", "preStop begins", "preStop ends", "TERM", "finished"]
    assert sorted(deliveries(stage)) == sorted([*RAN_HERE, ("preStop", "failed", "container")])
