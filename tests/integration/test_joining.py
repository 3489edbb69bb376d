"""Calls for one container that come while others are under way: who joins whom, and what that changes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path

import pytest

from shim.failpoints import Failpoint
from shim.plan import GRACE_KEY
from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.holds import Hold, SlowRunc
from tests.support.journal import open_operations
from tests.support.later import later
from tests.support.receiver import Behaviour, Receiver
from tests.support.signals import logging_container, now
from tests.support.stage import KEY, Stage
from tests.support.waiting import until

#: Seconds of grace that no test waits for; and seconds that are far from it, on whatever machine.
LONG, SOON = 600, 120

#: The ways to end a container, as CRIClient calls them.
WAYS = ("stop", "remove", "stop_pod", "remove_pod")


@pytest.fixture
def stage(
    hookshim: MakeHookshim, containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Stage:
    """A pod behind a daemon."""
    return Stage(hookshim(containerd), pod_name, tmp_path, receiver)


def running(stage: Stage, *, ignores_term: bool = False, grace: int | None = None) -> str:
    """A running container whose PreStop is an http hook for ``/preStop``, in a pod with that termination grace."""
    annotations = {KEY: json.dumps({"preStop": stage.hook("preStop", "httpGet")})}
    if grace is not None:
        annotations[GRACE_KEY] = str(grace)
    command = logging_container(ignores_term=ignores_term)
    container = stage.cri.create(stage.pod, "c", command, annotations=annotations, mounts=stage.log.mounts)
    stage.cri.start(container)
    stage.log.wait_for("started")
    return container


def end(stage: Stage, way: str, container: str) -> None:
    """End the container in that way."""
    if way == "stop":
        stage.cri.stop(container, LONG)
    else:
        getattr(stage.cri, way)(stage.pod if way.endswith("_pod") else container)


def stopping(stage: Stage, container: str, grace: int = LONG) -> Future[None]:
    """A StopContainer whose hook has begun."""
    first = later(stage.cri.stop, container, grace)
    stage.receiver.wait_for("/preStop")
    return first


def both(first: Future[None], second: Future[None]) -> None:
    """Both callers are answered OK."""
    for caller in (first, second):
        caller.result(SOON)


def delivery(stage: Stage) -> tuple[str, int, str]:
    """State, attempts and error of the only delivery."""
    [only] = stage.daemon.deliveries()
    return only["state"], only["attempts"], only["error"]


def test_a_shorter_timeout_shortens_the_hook_that_runs(stage: Stage) -> None:
    """A hook that had ten minutes is ended two seconds after a second stop that gives so many; TERM follows."""
    container = running(stage)
    stage.receiver.hang("/preStop")
    first = stopping(stage, container)
    joined = now()
    both(first, later(stage.cri.stop, container, 2))
    assert 1.9 <= stage.log.wait_for("TERM").at - joined < SOON
    assert stage.log.words() == ["started", "TERM", "finished"]
    state, attempts, error = delivery(stage)
    assert (state, attempts) == ("failed", 1)
    assert "timed out after" in error
    assert len(stage.receiver.seen("/preStop")) == 1


def test_a_shorter_timeout_shortens_a_stop_that_was_forwarded(stage: Stage) -> None:
    """A process that ignores TERM for the first caller's ten minutes is killed after the second one's two seconds."""
    container = running(stage, ignores_term=True)
    first = later(stage.cri.stop, container, LONG)
    stage.log.wait_for("TERM")
    joined = now()
    both(first, later(stage.cri.stop, container, 2))
    assert 1.9 <= now() - joined < SOON
    assert stage.log.words() == ["started", "TERM"]
    assert stage.cri.status(container).exit_code == 137
    assert delivery(stage)[:2] == ("delivered", 1)


def test_a_longer_timeout_changes_nothing_for_the_hook_that_runs(stage: Stage) -> None:
    """The first caller's three seconds stand: neither more for the hook, nor less."""
    container = running(stage)
    stage.receiver.hang("/preStop")
    began = now()
    first = stopping(stage, container, 3)
    both(first, later(stage.cri.stop, container, LONG))
    assert 2.9 <= stage.log.wait_for("TERM").at - began < SOON
    assert delivery(stage)[:2] == ("failed", 1)


def test_a_longer_timeout_changes_nothing_for_a_stop_that_was_forwarded(stage: Stage) -> None:
    """The process is killed when the first caller's three seconds are over."""
    container = running(stage, ignores_term=True)
    began = now()
    first = later(stage.cri.stop, container, 3)
    stage.log.wait_for("TERM")
    both(first, later(stage.cri.stop, container, LONG))
    assert 2.9 <= now() - began < SOON
    assert stage.log.words() == ["started", "TERM"]
    assert stage.cri.status(container).exit_code == 137


@pytest.mark.parametrize("way", ["stop with 0", "stop_pod", "remove"])
def test_a_kill_that_joins_follows_the_hook_at_once(stage: Stage, way: str) -> None:
    """Timeout 0 or a pod call joins one of ten minutes: the hook keeps running; two seconds after it comes KILL."""
    container = running(stage, ignores_term=True)
    release = stage.receiver.hang("/preStop")
    first = stopping(stage, container)
    second = later(stage.cri.stop, container, 0) if way == "stop with 0" else later(end, stage, way, container)
    until(lambda: deadline_left(stage) < SOON, "the second caller has joined")
    assert not first.done()
    release.set()
    both(first, second)
    # One caller's grace is not zero, so TERM comes before KILL.
    assert stage.log.words() == ["started", "TERM"]
    assert delivery(stage)[:2] == ("delivered", 1)


def deadline_left(stage: Stage) -> float:
    """Seconds that the open stop still has by the journal."""
    [(_, _, _, deadline)] = open_operations(stage.daemon)
    assert deadline is not None
    return deadline - now()


def test_a_joining_kill_has_a_budget_of_its_own(stage: Stage) -> None:
    """Timeout 0 joins: a hook that hangs is ended by the pod's grace, three seconds, not after ten minutes."""
    container = running(stage, grace=3)
    stage.receiver.hang("/preStop")
    first = stopping(stage, container)
    joined = now()
    both(first, later(stage.cri.stop, container, 0))
    assert 2.9 <= stage.log.wait_for("TERM").at - joined < SOON
    assert delivery(stage)[:2] == ("failed", 1)


def test_two_kills_send_no_term(stage: Stage) -> None:
    """Only if every caller sent 0 is 0 forwarded."""
    container = running(stage)
    release = stage.receiver.hang("/preStop")
    first = stopping(stage, container, 0)
    second = later(stage.cri.stop, container, 0)
    release.set()
    both(first, second)
    assert stage.log.words() == ["started"]
    assert stage.cri.status(container).exit_code == 137
    assert delivery(stage)[:2] == ("delivered", 1)


def test_a_kill_shortens_a_stop_that_was_forwarded(stage: Stage) -> None:
    """TERM was sent and is ignored: timeout 0 makes two seconds of the ten minutes that are left."""
    container = running(stage, ignores_term=True)
    first = later(stage.cri.stop, container, LONG)
    stage.log.wait_for("TERM")
    joined = now()
    both(first, later(stage.cri.stop, container, 0))
    assert now() - joined < SOON
    assert stage.log.words() == ["started", "TERM"]


def test_a_second_start_gets_containerds_own_answer(stage: Stage, containerd: PrivateContainerd) -> None:
    """While PostStart runs: the second StartContainer is told what containerd tells, and causes no second hook."""
    container = stage.container({"postStart": stage.hook("postStart", "httpGet")})
    release = stage.receiver.hang("/postStart")
    first = later(stage.cri.start, container)
    stage.receiver.wait_for("/postStart")
    second = later(stage.cri.start, container)
    with pytest.raises(CRIError) as own:
        containerd.cri.start(container)
    release.set()
    first.result(SOON)
    error = second.exception(SOON)
    assert isinstance(error, CRIError)
    assert (error.code, error.message) == (own.value.code, own.value.message)
    assert stage.calls("postStart") == 1
    assert stage.deliveries() == [("postStart", "delivered")]
    with pytest.raises(CRIError) as later_on:
        stage.cri.start(container)
    assert later_on.value.message == own.value.message
    assert stage.calls("postStart") == 1


def test_of_two_starts_at_once_one_starts_and_the_hook_runs_once(stage: Stage, tmp_path: Path) -> None:
    """The second one comes while the first is not with containerd yet, and waits: it gets containerd's refusal."""
    container = stage.container({"postStart": stage.hook("postStart", "httpGet")})
    with Hold(Failpoint.START_ACCEPTED, tmp_path) as hold:
        stage.daemon.restart(hold.env)
        first = later(stage.cri.start, container)
        hold.wait()
        second = later(stage.cri.start, container)
        assert wait([second], timeout=0.5).not_done == {second}
        assert stage.cri.state(container) == "CONTAINER_CREATED"
        hold.release()
        assert (told_by(first), told_by(second)) == ("OK", "UNKNOWN")
    assert stage.calls("postStart") == 1
    assert stage.deliveries() == [("postStart", "delivered")]


def told_by(call: Future[None]) -> str:
    """The code that the caller got."""
    error = call.exception(SOON)
    assert error is None or isinstance(error, CRIError)
    return "OK" if error is None else error.code.name


@pytest.mark.parametrize("way", WAYS)
def test_every_end_ends_a_post_start_that_runs(stage: Stage, way: str) -> None:
    """Its delivery fails, StartContainer is ABORTED, PreStop runs, and the container ends."""
    container = stage.container({hook: stage.hook(hook, "httpGet") for hook in ("postStart", "preStop")})
    stage.receiver.hang("/postStart")
    start = later(stage.cri.start, container)
    stage.receiver.wait_for("/postStart")
    stage.log.wait_for("started")
    end(stage, way, container)
    assert told_by(start) == "ABORTED"
    deliveries = {each["hook"]: each for each in stage.daemon.deliveries()}
    assert deliveries["postStart"]["state"] == "failed"
    assert "stopped before it ended" in deliveries["postStart"]["error"]
    assert deliveries["preStop"]["state"] == "delivered"
    assert (stage.calls("postStart"), stage.calls("preStop")) == (1, 1)
    assert stage.log.words() == (["started", "TERM", "finished"] if way == "stop" else ["started"])


@pytest.fixture
def slow(
    containerd_with_slow_runc: tuple[PrivateContainerd, SlowRunc],
    hookshim: MakeHookshim,
    tmp_path: Path,
    receiver: Receiver,
) -> Stage:
    """A pod on a containerd whose StartContainer can be held."""
    return Stage(hookshim(containerd_with_slow_runc[0]), "slow", tmp_path / "slow", receiver)


@pytest.fixture
def containerd_with_slow_runc(tmp_path: Path) -> Iterator[tuple[PrivateContainerd, SlowRunc]]:
    """One of the test's own, and the hand that holds it."""
    runc = SlowRunc(tmp_path / "runc")
    with PrivateContainerd.start(runc.directory) as made:
        yield made, runc


@pytest.fixture
def runc(containerd_with_slow_runc: tuple[PrivateContainerd, SlowRunc]) -> SlowRunc:
    """What holds that containerd's starts."""
    return containerd_with_slow_runc[1]


@pytest.mark.parametrize("way", WAYS)
def test_a_stop_waits_for_a_start_that_containerd_has_not_answered(slow: Stage, runc: SlowRunc, way: str) -> None:
    """Forwarded at once it would be answered OK, and the container would run: it comes after the start."""
    container = slow.container({hook: slow.hook(hook, "httpGet") for hook in ("postStart", "preStop")})
    slow.receiver.hang("/postStart")
    with runc.held():
        start = later(slow.cri.start, container)
        runc.wait()
        stop = later(end, slow, way, container)
        # time enough to be answered, if it were let
        time.sleep(0.5)
        assert slow.calls("preStop") == 0
        assert not stop.done()
        runc.release()
        stop.result(SOON)
    assert told_by(start) == "ABORTED"
    states = {found.id: found.state for found in slow.cri.list()}
    assert states.get(container) == (None if way.startswith("remove") else 2)
    assert slow.calls("preStop") == 1
    assert ("preStop", "delivered") in slow.deliveries()


def test_a_stop_waits_for_a_start_no_longer_than_its_countdown(slow: Stage, runc: SlowRunc) -> None:
    """Two seconds of grace: then it is told to try again, since containerd would say OK and start the container."""
    container = slow.container({hook: slow.hook(hook, "httpGet") for hook in ("postStart", "preStop")})
    with runc.held():
        start = later(slow.cri.start, container)
        runc.wait()
        began = now()
        with pytest.raises(CRIError) as refused:
            slow.cri.stop(container, 2)
        assert 1.9 <= now() - began < SOON
        assert refused.value.code.name == "UNAVAILABLE"
        assert "is not stopped: containerd has not answered its StartContainer" in refused.value.message
        assert slow.cri.state(container) == "CONTAINER_CREATED"
        runc.release()
        start.result(SOON)
    slow.cri.stop(container, 10)
    assert slow.deliveries() == [("postStart", "delivered"), ("preStop", "delivered")]


def test_fifty_containers_have_their_hooks_at_once(stage: Stage) -> None:
    """A pod of fifty: all hooks are under way before the first has ended, and the pod takes as long as its slowest."""
    many, seconds = 50, 2.0
    containers = []
    for number in range(many):
        hook = {"preStop": stage.hook(f"preStop{number}", "httpGet")}
        stage.receiver.behave(f"/preStop{number}", Behaviour(delay=seconds))
        containers.append(stage.container(hook, ["sleep", "3600"], name=f"c{number}"))
        stage.cri.start(containers[-1])
    last = stage.receiver.hang("/preStop0")
    began = now()
    stop = later(stage.cri.stop_pod, stage.pod, SOON)
    for number in range(many):
        stage.receiver.wait_for(f"/preStop{number}")
    until(lambda: ended(stage) >= many - 1, "all but the slowest have ended", SOON)
    assert not stop.done()
    assert stage.cri.pod_status(stage.pod).state == 0
    # One after another they would take this long.
    assert now() - began < many * seconds / 2
    last.set()
    stop.result(SOON)
    assert ended(stage) == many
    assert stage.deliveries() == [("preStop", "delivered")] * many
    assert len(stage.receiver.requests) == many


def ended(stage: Stage) -> int:
    """How many containers have ended."""
    return sum(found.state == 2 for found in stage.cri.list(stage.pod))
