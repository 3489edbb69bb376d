"""containerd is killed and started again at every step that hookshim takes, and while hooks run.

What was accepted is finished when it is back, nothing is delivered for a container that never started, and a caller
is told UNAVAILABLE, or what is true. Every step is met behind both front doors; where a step has many cases, each two
of their properties meet with each front door, but not all three.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, Literal

import pytest

from server.admin.client import AdminClient
from shim.failpoints import Failpoint
from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.fronts import FRONTS
from tests.support.holds import Hold, SlowRunc
from tests.support.journal import open_operations
from tests.support.later import later
from tests.support.receiver import Behaviour, Receiver
from tests.support.signals import logging_hook
from tests.support.stage import Kind, Stage, exec_hook, http_hook
from tests.support.waiting import until

#: Before and after StartContainer is with containerd.
UNFORWARDED_START = (Failpoint.START_ACCEPT, Failpoint.START_ACCEPTED)
ANSWERED_START = (
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
RECOVERY = (
    Failpoint.RECOVERY_RECONCILE,
    Failpoint.RECOVERY_RECONCILED,
    Failpoint.RECOVERY_SEND,
    Failpoint.RECOVERY_SENT,
)

RETRY = (Failpoint.HOOK_POSTPONED, Failpoint.HOOK_SENT)

OWNER = (Failpoint.OWNER_ACCEPT, Failpoint.OWNER_ACCEPTED)

#: Whether containerd is back before hookshim takes its next step, or hookshim takes it without containerd.
Back = Literal["at once", "later"]
BACK: tuple[Back, ...] = ("at once", "later")

#: Each two of: when containerd is back, the handler, the front door.
MIXED: list[tuple[Back, Kind, str]] = [
    ("at once", "exec", "relay"),
    ("at once", "httpGet", "grpc"),
    ("later", "exec", "grpc"),
    ("later", "httpGet", "relay"),
]


class Node:
    """A stage on a containerd of the module's own, which may be killed."""

    def __init__(self, stage: Stage, containerd: PrivateContainerd, runc: SlowRunc) -> None:
        self.stage = stage
        self.containerd = containerd
        self.runc = runc

    def fall(self, hold: Hold, back: Back, call: Future[None]) -> None:
        """SIGKILL containerd, start it again, and let hookshim go on before or in between."""
        self.containerd.kill()
        if back == "at once":
            self.containerd.launch()
            hold.release()
            return
        hold.release()
        # Some steps need no containerd and are answered, others fail, others wait for it.
        wait([call], timeout=0.5)
        self.containerd.launch()

    def state(self, container: str) -> str | None:
        """What containerd itself says, None if the container is gone."""
        try:
            return self.containerd.cri.state(container)
        except CRIError as error:
            assert error.code.name == "NOT_FOUND"  # noqa: PT017 - any other error is a failure of the test
            return None

    def settled(self) -> list[dict[str, Any]]:
        """The deliveries once no operation is open."""
        until(lambda: not open_operations(self.stage.daemon), "no operation is open", 60)
        return self.stage.daemon.deliveries()


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PrivateContainerd, SlowRunc]]:
    """The module's containerd."""
    runc = SlowRunc(tmp_path_factory.mktemp("runc"))
    with PrivateContainerd.start(runc.directory) as made:
        yield made, runc


@pytest.fixture
def node(
    breakable: tuple[PrivateContainerd, SlowRunc],
    hookshim: MakeHookshim,
    pod_name: str,
    tmp_path: Path,
    receiver: Receiver,
) -> Iterator[Node]:
    """A pod on it."""
    containerd, runc = breakable
    yield Node(Stage(hookshim(containerd), pod_name, tmp_path / "stage", receiver), containerd, runc)
    containerd.clear()


def told(call: Future[None]) -> str:
    """The code that the caller got."""
    error = call.exception(60)
    assert error is None or isinstance(error, CRIError)
    return "OK" if error is None else error.code.name


def test_every_failpoint_is_here() -> None:
    """A step that is added without a test of containerd's death is found here."""
    assert {*UNFORWARDED_START, *ANSWERED_START, *STOP, *RECOVERY, *RETRY, *OWNER} == set(Failpoint)


@pytest.mark.parametrize(("back", "kind", "front"), MIXED)
@pytest.mark.parametrize("point", UNFORWARDED_START)
def test_a_start_that_containerd_never_saw_is_no_start(
    node: Node, tmp_path: Path, point: Failpoint, back: Back, kind: Kind
) -> None:
    """OK if it was started and its hook ran; UNAVAILABLE, no hook and CREATED if not: the next start has it all."""
    stage = node.stage
    container = stage.container({"postStart": stage.hook("postStart", kind)})
    with Hold(point, tmp_path) as hold:
        stage.daemon.restart(hold.env)
        start = later(stage.cri.start, container)
        hold.wait()
        node.fall(hold, back, start)
        answer = told(start)
    if back == "later":
        assert answer == "UNAVAILABLE"
    if answer == "UNAVAILABLE":
        assert node.state(container) == "CONTAINER_CREATED"
        assert stage.calls("postStart") == 0
        assert stage.deliveries() == [("postStart", "armed")]
        stage.daemon.wait_until_serving()
        until(lambda: started(stage, container), "it can be started")
    else:
        assert answer == "OK"
    assert node.state(container) == "CONTAINER_RUNNING"
    assert [(each["hook"], each["state"]) for each in node.settled()] == [("postStart", "delivered")]
    assert stage.calls("postStart") == 1


def started(stage: Stage, container: str) -> bool:
    """Start it as a kubelet does, which tries again: hookshim's connection comes back a moment after containerd."""
    try:
        stage.cri.start(container)
    except CRIError as error:
        assert error.code.name == "UNAVAILABLE"  # noqa: PT017 - any other error is a failure of the test
        return False
    return True


@pytest.mark.parametrize(("back", "kind", "front"), MIXED)
@pytest.mark.parametrize("point", ANSWERED_START)
def test_a_start_that_containerd_answered_gets_its_hook(
    node: Node, tmp_path: Path, point: Failpoint, back: Back, kind: Kind
) -> None:
    """The container runs on without containerd: the hook is delivered, and the caller told OK."""
    stage = node.stage
    container = stage.container({"postStart": stage.hook("postStart", kind)})
    with Hold(point, tmp_path) as hold:
        stage.daemon.restart(hold.env)
        start = later(stage.cri.start, container)
        hold.wait()
        node.fall(hold, back, start)
        assert told(start) == "OK"
    assert node.state(container) == "CONTAINER_RUNNING"
    assert [(each["hook"], each["state"]) for each in node.settled()] == [("postStart", "delivered")]
    assert stage.calls("postStart") == 1


@pytest.mark.parametrize("point", STOP)
@pytest.mark.parametrize(
    ("way", "back", "kind", "front"),
    [
        *(("stop", *each) for each in MIXED),
        # The others forward a call after the stop, which fails if containerd is not there.
        ("stop_pod", "later", "exec", "relay"),
        ("remove", "later", "httpGet", "grpc"),
        ("remove_pod", "later", "httpGet", "relay"),
    ],
)
def test_an_accepted_stop_is_finished(
    node: Node, tmp_path: Path, point: Failpoint, back: Back, way: str, kind: Kind
) -> None:
    """Whatever the caller was told: the hook runs before TERM, the container ends without another call."""
    stage = node.stage
    container = stage.container({"preStop": stage.hook("preStop", kind)})
    stage.cri.start(container)
    stage.log.wait_for("started")
    with Hold(point, tmp_path) as hold:
        stage.daemon.restart(hold.env)
        stop = later(end, stage, way, container)
        hold.wait()
        node.fall(hold, back, stop)
        answer = told(stop)
        if answer == "OK":
            assert node.state(container) == (None if way.startswith("remove") else "CONTAINER_EXITED")
        assert answer in ("OK", "UNAVAILABLE")
        until(lambda: node.state(container) in ("CONTAINER_EXITED", None), "the accepted stop is finished", 60)
        [delivery] = node.settled()
    assert (delivery["hook"], delivery["state"]) == ("preStop", "delivered")
    assert stage.calls("preStop") == 1
    words = stage.log.words()
    assert ("TERM" in words) == (way == "stop")
    if way == "stop" and kind == "exec":
        assert words.index("preStop ends") < words.index("TERM")
    until(lambda: ended(stage, way, container), "the call is answered when it is made again")
    assert len(stage.daemon.deliveries()) == 1


@pytest.mark.parametrize("back", BACK)
@pytest.mark.parametrize("point", OWNER)
def test_what_the_owner_skips_is_skipped_while_containerd_is_away(
    node: Node, tmp_path: Path, point: Failpoint, back: Back, receiver: Receiver
) -> None:
    """It is the journal's to know, and the stop goes on as soon as there is somebody to stop."""
    stage = node.stage
    receiver.hang("/drain")
    container = stage.container({"preStop": http_hook(receiver, "/drain")})
    stage.cri.start(container)
    stage.log.wait_for("started")
    with Hold(point, tmp_path) as hold:
        stage.daemon.restart(hold.env)
        stop = later(stage.cri.stop, container, 60)
        receiver.wait_for("/drain")
        with AdminClient(stage.daemon.admin) as admin:
            skip = later(admin.skip, stage.daemon.deliveries()[0]["id"], "it hangs")
            hold.wait()
            node.fall(hold, back, stop)
            skip.result(60)
        assert told(stop) in ("OK", "UNAVAILABLE")
        until(lambda: node.state(container) == "CONTAINER_EXITED", "the accepted stop is finished", 60)
        [delivery] = node.settled()
    assert (delivery["state"], delivery["error"]) == ("skipped", "skipped by the owner: it hangs")
    assert stage.log.words().count("TERM") == 1


def end(stage: Stage, way: str, container: str) -> None:
    """End the container in that way."""
    if way == "stop":
        stage.cri.stop(container, 30)
    else:
        getattr(stage.cri, way)(stage.pod if way.endswith("_pod") else container)


def ended(stage: Stage, way: str, container: str) -> bool:
    """The call made again; containerd may still be finding its feet."""
    with contextlib.suppress(CRIError):
        end(stage, way, container)
        return True
    return False


@pytest.mark.parametrize("back", BACK)
@pytest.mark.parametrize("point", RETRY)
def test_a_retry_does_not_need_containerd(node: Node, tmp_path: Path, point: Failpoint, back: Back) -> None:
    """Containerd dies between two attempts: the second is made, and the stop is finished when it is back."""
    stage = node.stage
    stage.receiver.behave("/preStop", Behaviour(status=503))
    hook = http_hook(stage.receiver, "/preStop")
    hook["httpGet"]["expectStatus"] = "2xx"
    container = stage.container({"preStop": hook | {"retry": {"attempts": 3, "backoffSeconds": 0.2}}})
    stage.cri.start(container)
    stage.log.wait_for("started")
    with Hold(point, tmp_path) as hold:
        stage.daemon.restart(hold.env)
        stop = later(stage.cri.stop, container, 60)
        hold.wait()
        stage.receiver.behave("/preStop", Behaviour(status=200))
        node.fall(hold, back, stop)
        assert told(stop) in ("OK", "UNAVAILABLE")
        until(lambda: node.state(container) == "CONTAINER_EXITED", "the accepted stop is finished", 60)
        [delivery] = node.settled()
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 2)
    assert len(stage.receiver.seen("/preStop")) == 2
    assert stage.log.words() == ["started", "TERM", "finished"]


@pytest.mark.parametrize("hook", ["postStart", "preStop"])
@pytest.mark.parametrize("point", RECOVERY)
def test_recovery_survives_containerds_death(node: Node, tmp_path: Path, point: Failpoint, hook: str) -> None:
    """SIGKILL of hookshim during a hook, and of containerd while the next hookshim recovers: the hook is delivered."""
    stage = node.stage
    container = stage.container({hook: stage.hook(hook, "httpGet")})
    if hook == "preStop":
        stage.cri.start(container)
        stage.log.wait_for("started")
    release = stage.receiver.hang(f"/{hook}")
    call = later(stage.cri.stop, container, 60) if hook == "preStop" else later(stage.cri.start, container)
    stage.receiver.wait_for(f"/{hook}")
    stage.daemon.kill()
    assert told(call) == "UNAVAILABLE"
    release.set()
    with Hold(point, tmp_path) as hold:
        stage.daemon.start(hold.env, wait=False)
        hold.wait()
        node.containerd.kill()
        node.containerd.launch()
        hold.release()
        stage.daemon.wait_until_serving()
        wanted = "CONTAINER_EXITED" if hook == "preStop" else "CONTAINER_RUNNING"
        until(lambda: node.state(container) == wanted, f"the container is {wanted}", 60)
        [delivery] = node.settled()
    assert (delivery["hook"], delivery["state"]) == (hook, "delivered")
    assert stage.calls(hook) == delivery["attempts"] == 2


@pytest.mark.parametrize("back", BACK)
@pytest.mark.parametrize("hook", ["postStart", "preStop"])
def test_an_http_hook_that_runs_does_not_notice(node: Node, hook: str, back: Back) -> None:
    """Containerd dies while the receiver has the request: one request, one outcome, and the operation goes on."""
    stage = node.stage
    container = stage.container({hook: stage.hook(hook, "httpGet")})
    if hook == "preStop":
        stage.cri.start(container)
    release = stage.receiver.hang(f"/{hook}")
    call = later(stage.cri.stop, container, 60) if hook == "preStop" else later(stage.cri.start, container)
    stage.receiver.wait_for(f"/{hook}")
    stage.log.wait_for("started")
    node.containerd.kill()
    if back == "at once":
        node.containerd.launch()
    release.set()
    answer = told(call)
    if back == "later":
        node.containerd.launch()
    wanted = "CONTAINER_EXITED" if hook == "preStop" else "CONTAINER_RUNNING"
    until(lambda: node.state(container) == wanted, f"the container is {wanted}", 60)
    if hook == "postStart":
        assert answer == "OK"
    else:
        assert answer == "UNAVAILABLE" or back == "at once"
    assert [(each["hook"], each["state"]) for each in node.settled()] == [(hook, "delivered")]
    assert len(stage.receiver.seen(f"/{hook}")) == 1


@pytest.mark.parametrize("hook", ["postStart", "preStop"])
def test_an_exec_hook_that_runs_is_waited_for(node: Node, hook: str) -> None:
    """It outlives containerd, which knows it again when it is back: it is run once, and its exit status is told."""
    stage = node.stage
    container = stage.container({hook: exec_hook(logging_hook(hook, seconds=0.5))})
    if hook == "preStop":
        stage.cri.start(container)
    call = later(stage.cri.stop, container, 60) if hook == "preStop" else later(stage.cri.start, container)
    stage.log.wait_for(f"{hook} begins")
    node.containerd.restart()
    assert told(call) in ("OK", "UNAVAILABLE")
    wanted = "CONTAINER_EXITED" if hook == "preStop" else "CONTAINER_RUNNING"
    until(lambda: node.state(container) == wanted, f"the container is {wanted}", 60)
    [delivery] = node.settled()
    assert (delivery["hook"], delivery["state"], delivery["exit_status"]) == (hook, "delivered", 0)
    assert (stage.calls(hook), delivery["attempts"]) == (1, 1)


@pytest.mark.parametrize("hook", ["postStart", "preStop"])
def test_a_container_that_ends_while_containerd_is_away_has_exited(node: Node, hook: str) -> None:
    """It is noticed when containerd is back: the hook that hangs is ended as ``exited``, and its caller told OK."""
    stage = node.stage
    container = stage.container({hook: stage.hook(hook, "httpGet")})
    if hook == "preStop":
        stage.cri.start(container)
    stage.receiver.hang(f"/{hook}")
    call = later(stage.cri.stop, container, 600) if hook == "preStop" else later(stage.cri.start, container)
    stage.receiver.wait_for(f"/{hook}")
    stage.log.wait_for("started")
    [pid] = [int(line.split()[1]) for line in node.containerd.ctr("tasks", "list").splitlines() if container in line]
    node.containerd.kill()
    os.kill(pid, signal.SIGKILL)
    node.containerd.launch()
    assert told(call) == "OK"
    assert node.state(container) == "CONTAINER_EXITED"
    assert [(each["hook"], each["state"]) for each in node.settled()] == [(hook, "exited")]
    assert stage.daemon.events() == []


@pytest.mark.parametrize("ran", [False, True], ids=["before its process", "after its process"])
def test_a_start_that_is_cut_off_inside_runc_is_settled_by_what_containerd_says(node: Node, *, ran: bool) -> None:
    """The caller is told UNAVAILABLE, and no hook is sent while nobody knows; what runs in the end has had one."""
    container = node.stage.container({"postStart": node.stage.hook("postStart", "httpGet")})
    with node.runc.held(after=ran):
        start = later(node.stage.cri.start, container)
        node.runc.wait()
        node.containerd.kill()
        assert told(start) == "UNAVAILABLE"
    assert node.stage.calls("postStart") == 0
    assert node.stage.deliveries() == [("postStart", "armed")]
    node.containerd.launch()
    assert_settled_by_containerd(node, container)


@pytest.mark.parametrize(("delay_ms", "front"), list(zip(range(0, 80, 10), itertools.cycle(FRONTS), strict=False)))
def test_a_start_that_is_cut_off_anywhere_is_settled_by_what_containerd_says(node: Node, delay_ms: int) -> None:
    """SIGKILL of containerd at some moment of a start: delivered if it ran, no call if not, and OK only if it did."""
    stage = node.stage
    container = stage.container({"postStart": stage.hook("postStart", "httpGet")})
    start = later(stage.cri.start, container)
    time.sleep(delay_ms / 1000)
    node.containerd.restart()
    answer = told(start)
    assert answer in ("OK", "UNAVAILABLE")
    if answer == "OK":
        assert stage.calls("postStart") == 1
    assert_settled_by_containerd(node, container)


def assert_settled_by_containerd(node: Node, container: str) -> None:
    """One hook if containerd has ever shown the container started, none if not; and its pod can be removed."""
    stage = node.stage
    stage.daemon.wait_until_serving()
    until(lambda: decided(node, container), "the start is settled", 60)
    deliveries = node.settled()
    ran = node.containerd.cri.status(container).started_at > 0
    assert deliveries[-1]["state"] == ("delivered" if ran else "void")
    assert stage.calls("postStart") == (1 if ran else 0)
    stage.cri.stop_pod(stage.pod)
    stage.cri.remove_pod(stage.pod)


def decided(node: Node, container: str) -> bool:
    """Whether nothing is open; a container that is CREATED is started again, as a kubelet does."""
    if node.state(container) == "CONTAINER_CREATED":
        with contextlib.suppress(CRIError):
            node.stage.cri.start(container)
        return False
    return not open_operations(node.stage.daemon)
