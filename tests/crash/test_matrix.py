"""hookshim is killed at every step that it takes, started again, and nothing that was due is lost.

All of it behind either front door (conftest.py). Each test looks from three sides: the receiver's (or the
container's own log), the record's, and containerd's.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from shim.failpoints import Failpoint
from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIClient, CRIError
from tests.support.fronts import FRONTS
from tests.support.later import later
from tests.support.receiver import Behaviour, Receiver
from tests.support.signals import logging_hook
from tests.support.stage import Kind, Stage, exec_hook, http_hook
from tests.support.waiting import until

KINDS: tuple[Kind, ...] = ("exec", "httpGet")

#: Makes a pod behind a daemon that dies at a failpoint, if it is not None.
MakeStage: TypeAlias = Callable[[Failpoint | None], Stage]

#: The same before a containerd that is given.
MakeStageOn: TypeAlias = Callable[[PrivateContainerd, Failpoint | None], Stage]

START = (
    Failpoint.START_ACCEPT,
    Failpoint.START_ACCEPTED,
    Failpoint.START_ANSWERED,
    Failpoint.START_COMMITTED,
    Failpoint.POST_START_RAN,
    Failpoint.POST_START_COMMITTED,
)
STOP = (
    Failpoint.STOP_ACCEPT,
    Failpoint.STOP_ACCEPTED,
    Failpoint.PRE_STOP_RAN,
    Failpoint.PRE_STOP_COMMITTED,
    Failpoint.STOP_ANSWERED,
    Failpoint.STOP_COMMITTED,
)
FAILED_START = (Failpoint.POST_START_RAN, Failpoint.POST_START_COMMITTED, *STOP[1:])
RECOVERY = (
    Failpoint.RECOVERY_RECONCILE,
    Failpoint.RECOVERY_RECONCILED,
    Failpoint.RECOVERY_SEND,
    Failpoint.RECOVERY_SENT,
)
RETRY = (Failpoint.HOOK_POSTPONED, Failpoint.HOOK_SENT)

#: What the node's owner asks for: tests/integration/test_owner.py dies there.
OWNER = (Failpoint.OWNER_ACCEPT, Failpoint.OWNER_ACCEPTED)

#: A command that has run is found again, and never sent anew.
RECOVERIES = [
    *((point, hook, "httpGet") for point in RECOVERY for hook in ("postStart", "preStop")),
    *((point, hook, "exec") for point in RECOVERY[:2] for hook in ("postStart", "preStop")),
]


def test_every_failpoint_is_in_the_matrix() -> None:
    """A step that is added without a test of its crash is found here."""
    assert {*START, *STOP, *RECOVERY, *RETRY, *OWNER} == set(Failpoint)


def armed(point: Failpoint) -> dict[str, str]:
    """The environment of a daemon that is to be killed at ``point``."""
    return {"HOOKSHIM_FAILPOINTS": f"{point}=kill"}


@pytest.fixture
def stage_on(hookshim: MakeHookshim, pod_name: str, tmp_path: Path, receiver: Receiver) -> MakeStageOn:
    """Pods behind any containerd."""

    def make(containerd: PrivateContainerd, point: Failpoint | None) -> Stage:
        daemon = hookshim(containerd, start=False)
        # Armed from the start: no failpoint is met before the call that the test makes for it.
        daemon.start(None if point is None else armed(point))
        return Stage(daemon, pod_name, tmp_path, receiver)

    return make


@pytest.fixture
def stage_of(stage_on: MakeStageOn, containerd: PrivateContainerd) -> MakeStage:
    """Pods behind containerd 1.6."""
    return lambda point: stage_on(containerd, point)


@pytest.fixture
def stage(stage_of: MakeStage) -> Stage:
    """A pod behind a daemon that lives until it is killed."""
    return stage_of(None)


def settled(stage: Stage) -> list[dict[str, Any]]:
    """The deliveries once none is open."""

    def ended() -> list[dict[str, Any]] | None:
        deliveries = stage.daemon.deliveries()
        return deliveries if all(delivery["finished_at"] for delivery in deliveries) else None

    return until(ended, "every delivery has ended")


def killed_during(stage: Stage, container: str, call: str, *arguments: int) -> None:
    """Make the call that the daemon dies in, and start the next one."""
    with pytest.raises(CRIError) as broken:
        getattr(stage.cri, call)(container, *arguments)
    assert broken.value.code.name == "UNAVAILABLE"
    assert stage.daemon.wait() == -signal.SIGKILL
    stage.daemon.start()


def post_start_survives(stage: Stage, kind: Kind) -> None:
    """Killed at a failpoint of a start: the hook is called, and the record says so."""
    container = stage.container({"postStart": stage.hook("postStart", kind)})
    killed_during(stage, container, "start")
    if stage.cri.state(container) == "CONTAINER_CREATED":
        # Nothing had reached containerd: a kubelet starts it again.
        stage.cri.start(container)
        assert stage.calls("postStart") == 1
    [delivery] = settled(stage)
    assert (delivery["hook"], delivery["state"]) == ("postStart", "delivered")
    assert stage.calls("postStart") >= 1
    assert stage.calls("postStart") <= delivery["attempts"]
    assert stage.cri.state(container) == "CONTAINER_RUNNING"
    stage.cri.stop(container, 5)
    assert len(stage.daemon.deliveries()) == 1


def pre_stop_survives(stage: Stage, point: Failpoint, kind: Kind) -> None:
    """Killed at ``point`` of a stop: the hook is called before TERM, and the container ends without another call."""
    container = stage.container({"preStop": stage.hook("preStop", kind)})
    stage.cri.start(container)
    stage.log.wait_for("started")
    killed_during(stage, container, "stop", 20)
    if point is Failpoint.STOP_ACCEPT:
        # Nothing was accepted: the caller stops it again.
        stage.cri.stop(container, 20)
        assert stage.calls("preStop") == 1
    with CRIClient(stage.daemon.containerd) as runtime:
        until(lambda: runtime.state(container) == "CONTAINER_EXITED", "the stop is finished")
    [delivery] = settled(stage)
    assert (delivery["hook"], delivery["state"]) == ("preStop", "delivered")
    assert 1 <= stage.calls("preStop") <= delivery["attempts"]
    words = stage.log.words()
    assert words.count("TERM") == 1
    if kind == "exec":
        assert words.index("preStop ends") < words.index("TERM")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("point", START)
def test_post_start_is_delivered_whatever_step_is_the_last(stage_of: MakeStage, point: Failpoint, kind: Kind) -> None:
    """SIGKILL at every step of a start."""
    post_start_survives(stage_of(point), kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("point", STOP)
def test_pre_stop_is_delivered_whatever_step_is_the_last(stage_of: MakeStage, point: Failpoint, kind: Kind) -> None:
    """SIGKILL at every step of a stop."""
    pre_stop_survives(stage_of(point), point, kind)


@pytest.mark.parametrize(("point", "front"), [(Failpoint.START_ANSWERED, "relay"), (Failpoint.POST_START_RAN, "grpc")])
def test_post_start_survives_on_every_containerd(
    stage_on: MakeStageOn, any_containerd: PrivateContainerd, point: Failpoint
) -> None:
    """Samples of the matrix on each version."""
    post_start_survives(stage_on(any_containerd, point), "exec")


@pytest.mark.parametrize(
    ("point", "front"), [(Failpoint.STOP_ACCEPTED, "grpc"), (Failpoint.PRE_STOP_COMMITTED, "relay")]
)
def test_pre_stop_survives_on_every_containerd(
    stage_on: MakeStageOn, any_containerd: PrivateContainerd, point: Failpoint
) -> None:
    """Samples of the matrix on each version."""
    pre_stop_survives(stage_on(any_containerd, point), point, "httpGet")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("point", FAILED_START)
def test_the_kill_after_a_failed_post_start_is_finished(stage_of: MakeStage, point: Failpoint, kind: Kind) -> None:
    """SIGKILL at every step after the failure: PreStop is called, and the container ends without another call."""
    stage = stage_of(point)
    failing = exec_hook(logging_hook("postStart", exit_status=7))
    container = stage.container({"postStart": failing, "preStop": stage.hook("preStop", kind)})
    killed_during(stage, container, "start")
    with CRIClient(stage.daemon.containerd) as runtime:
        until(lambda: runtime.state(container) == "CONTAINER_EXITED", "the kill is finished")
    settled(stage)
    assert stage.deliveries() == [("postStart", "failed"), ("preStop", "delivered")]
    assert stage.calls("postStart") >= 1
    assert stage.calls("preStop") >= 1
    [event] = stage.daemon.events()
    assert event["reason"] == "FailedPostStartHook"


@pytest.mark.parametrize(("point", "hook", "kind"), RECOVERIES)
def test_recovery_survives_its_own_death(stage_of: MakeStage, point: Failpoint, hook: str, kind: Kind) -> None:
    """SIGKILL after a hook has run, and again at a step of the recovery: the third daemon delivers."""
    stage = stage_of(Failpoint.PRE_STOP_RAN if hook == "preStop" else Failpoint.POST_START_RAN)
    container = stage.container({hook: stage.hook(hook, kind)})
    if hook == "preStop":
        stage.cri.start(container)
        stage.log.wait_for("started")
    with pytest.raises(CRIError):
        stage.cri.stop(container, 20) if hook == "preStop" else stage.cri.start(container)
    stage.daemon.wait()
    stage.daemon.start(armed(point), wait=False)
    assert stage.daemon.wait() == -signal.SIGKILL
    stage.daemon.start()
    [delivery] = settled(stage)
    assert (delivery["hook"], delivery["state"]) == (hook, "delivered")
    if kind == "exec":
        assert (stage.calls(hook), delivery["attempts"]) == (1, 1)
    else:
        assert 2 <= stage.calls(hook) <= delivery["attempts"]
    wanted = "CONTAINER_EXITED" if hook == "preStop" else "CONTAINER_RUNNING"
    with CRIClient(stage.daemon.containerd) as runtime:
        until(lambda: runtime.state(container) == wanted, f"the container is {wanted}")


@pytest.mark.parametrize("point", RETRY)
def test_a_retry_survives_its_daemon(stage_of: MakeStage, point: Failpoint) -> None:
    """SIGKILL before and after the commit that begins another attempt: it is made, and counted, by the next daemon."""
    stage = stage_of(point)
    stage.receiver.behave("/preStop", Behaviour(status=503))
    hook = http_hook(stage.receiver, "/preStop")
    hook["httpGet"]["expectStatus"] = "2xx"
    container = stage.container({"preStop": hook | {"retry": {"attempts": 3, "backoffSeconds": 0.2}}})
    stage.cri.start(container)
    stage.log.wait_for("started")
    with pytest.raises(CRIError):
        stage.cri.stop(container, 20)
    assert stage.daemon.wait() == -signal.SIGKILL
    assert len(stage.receiver.seen("/preStop")) == 1
    stage.receiver.behave("/preStop", Behaviour(status=200))
    stage.daemon.start()
    stage.log.wait_for("finished")
    [delivery] = settled(stage)
    interrupted = point is Failpoint.HOOK_SENT
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 3 if interrupted else 2)
    attempts = [request.header("Hookshim-Attempt") for request in stage.receiver.seen("/preStop")]
    assert attempts == ["1", "3" if interrupted else "2"]
    assert stage.log.words() == ["started", "TERM", "finished"]


def test_a_hook_that_was_under_way_is_sent_again(stage: Stage) -> None:
    """SIGKILL while the receiver has the request: the next daemon sends it again, as the second attempt."""
    container = stage.container({"preStop": http_hook(stage.receiver, "/preStop")})
    stage.cri.start(container)
    stage.log.wait_for("started")
    release = stage.receiver.hang("/preStop")
    stop = later(stage.cri.stop, container, 60)
    stage.receiver.wait_for("/preStop")
    stage.daemon.kill()
    assert isinstance(stop.exception(30), CRIError)
    stage.daemon.start()
    first, second = stage.receiver.wait_for("/preStop", count=2)
    assert "TERM" not in stage.log.words()
    release.set()
    stage.log.wait_for("TERM")
    assert first.header("Hookshim-Delivery") == second.header("Hookshim-Delivery")
    assert (first.header("Hookshim-Attempt"), second.header("Hookshim-Attempt")) == ("1", "2")


@pytest.mark.parametrize(("hook", "point"), [("postStart", START[4]), ("preStop", STOP[2])])
def test_a_delivery_that_is_interrupted_five_times_is_failed(stage_of: MakeStage, hook: str, point: Failpoint) -> None:
    """A hook that takes hookshim down with it does so five times; then its operation goes on without it."""
    stage = stage_of(point)
    container = stage.container({hook: stage.hook(hook, "httpGet")})
    if hook == "preStop":
        stage.cri.start(container)
        stage.log.wait_for("started")
    with pytest.raises(CRIError):
        stage.cri.stop(container, 20) if hook == "preStop" else stage.cri.start(container)
    for _ in range(4):
        stage.daemon.wait()
        stage.daemon.start(armed(point), wait=False)
    stage.daemon.wait()
    assert stage.calls(hook) == 5
    stage.daemon.start()
    [delivery] = settled(stage)
    assert (delivery["state"], delivery["attempts"]) == ("failed", 5)
    assert "interrupted 5 times" in delivery["error"]
    with CRIClient(stage.daemon.containerd) as runtime:
        until(lambda: runtime.state(container) == "CONTAINER_EXITED", "its operation goes on")
    assert stage.calls(hook) == 5
    [event] = stage.daemon.events()
    assert event["reason"] == ("FailedPreStopHook" if hook == "preStop" else "FailedPostStartHook")


@pytest.mark.parametrize(("delay_ms", "front"), list(zip(range(0, 60, 6), itertools.cycle(FRONTS), strict=False)))
def test_a_start_that_is_cut_off_is_settled_by_what_containerd_says(stage: Stage, delay_ms: int) -> None:
    """SIGKILL while StartContainer may be with containerd: started means delivered, not started means no call."""
    container = stage.container({"postStart": stage.hook("postStart", "httpGet")})
    start = later(stage.cri.start, container)
    time.sleep(delay_ms / 1000)
    stage.daemon.kill()
    start.exception(30)
    stage.daemon.start()
    with CRIClient(stage.daemon.containerd) as runtime:
        deliveries = until(lambda: decided(stage, runtime, container), "the start is settled", 40)
        status = runtime.status(container)
    if deliveries and deliveries[-1]["state"] == "void":
        assert status.started_at == 0
        assert stage.calls("postStart") == 0
    else:
        assert deliveries[-1]["state"] == "delivered"
        assert status.started_at > 0
        assert stage.calls("postStart") >= 1
    stage.cri.stop(container, 1)
    stage.cri.stop_pod(stage.pod)
    stage.cri.remove_pod(stage.pod)


def decided(stage: Stage, runtime: CRIClient, container: str) -> list[dict[str, Any]] | None:
    """The deliveries once the start is settled; a container that stays CREATED is started again, as a kubelet does."""
    if runtime.state(container) == "CONTAINER_CREATED":
        time.sleep(0.5)
        # containerd may still be at the start that was cut off, and says so: the kubelet tries again later.
        with contextlib.suppress(CRIError):
            stage.cri.start(container)
        return None
    deliveries = stage.daemon.deliveries()
    return deliveries if deliveries and deliveries[-1]["finished_at"] else None
