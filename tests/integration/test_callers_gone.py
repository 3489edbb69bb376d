"""Callers that leave, in every phase: what was accepted is finished without them, and nothing is begun for them.

They leave as real ones do: their deadline passes, or their connection is closed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import pytest

from shim.failpoints import Failpoint
from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIClient, CRIError
from tests.support.holds import Hold, SlowRunc
from tests.support.journal import open_operations
from tests.support.later import later
from tests.support.receiver import Receiver
from tests.support.signals import logging_container
from tests.support.stage import Stage
from tests.support.waiting import until

Leaving = Literal["deadline", "cancel"]

LEAVING: tuple[Leaving, ...] = ("deadline", "cancel")

#: The ways to end a container, as CRIClient calls them.
WAYS = ("stop", "remove", "stop_pod", "remove_pod")

#: Seconds that a caller stays whose deadline is to pass: enough to come to the phase that is meant.
PATIENCE = 2.0

#: The phases of a stop after its acceptance, and of a start after containerd has answered it.
ACCEPTED_STOP = (
    Failpoint.STOP_ACCEPTED,
    Failpoint.PRE_STOP_RAN,
    Failpoint.PRE_STOP_COMMITTED,
    Failpoint.STOP_ANSWERED,
    Failpoint.STOP_COMMITTED,
)
ANSWERED_START = (
    Failpoint.START_ANSWERED,
    Failpoint.START_COMMITTED,
    Failpoint.POST_START_RAN,
    Failpoint.POST_START_COMMITTED,
)


T = TypeVar("T")


def leavings(places: Sequence[T], by_deadline: Sequence[T]) -> list[tuple[T, Leaving]]:
    """Each place is left by a cancellation; a deadline takes its time to pass, so it has samples of them."""
    return [*((place, "cancel") for place in places), *((place, "deadline") for place in by_deadline)]


@pytest.fixture
def stage(
    hookshim: MakeHookshim, containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Stage:
    """A pod behind a daemon."""
    return Stage(hookshim(containerd), pod_name, tmp_path / "stage", receiver)


def leave(stage: Stage, how: Leaving, call: Callable[[CRIClient, float], None], phase: Callable[[], object]) -> None:
    """Make ``call`` (of a client, with a timeout), and leave when ``phase`` has returned."""
    with CRIClient(stage.daemon.socket) as client:
        answer = later(call, client, PATIENCE if how == "deadline" else 300.0)
        phase()
        if how == "cancel":
            client.close()
        error = answer.exception(60)
    assert isinstance(error, CRIError)
    assert error.code.name == ("DEADLINE_EXCEEDED" if how == "deadline" else "CANCELLED")


def noticed(stage: Stage) -> None:
    """Let hookshim notice that a caller has left: it does so a moment later than he, and nothing shows it."""
    time.sleep(0.5)
    stage.cri.version()


def started(stage: Stage, *, finish_seconds: float = 0) -> str:
    """A running container whose PreStop is an http hook."""
    hook = {"preStop": stage.hook("preStop", "httpGet")}
    container = stage.container(hook, logging_container(finish_seconds=finish_seconds))
    stage.cri.start(container)
    stage.log.wait_for("started")
    return container


def settled(stage: Stage) -> None:
    """Wait until no operation is open."""
    until(lambda: not open_operations(stage.daemon), "no operation is open")


def ends(stage: Stage, container: str, way: str) -> Callable[[CRIClient, float], None]:
    """The call that ends the container in that way."""

    def call(client: CRIClient, timeout: float) -> None:
        match way:
            case "stop":
                client.stop(container, 60, timeout)
            case "remove":
                client.remove(container, timeout)
            case "stop_pod":
                client.stop_pod(stage.pod, timeout)
            case _:
                client.remove_pod(stage.pod, timeout)

    return call


@pytest.mark.parametrize(("way", "how"), leavings(WAYS, by_deadline=("stop", "stop_pod")))
def test_nothing_is_stopped_for_a_caller_that_left_before_the_intent_was_committed(
    stage: Stage, tmp_path: Path, way: str, how: Leaving
) -> None:
    """Looked up and not yet committed: no hook, no record, no signal, also when hookshim has ended in peace."""
    container = started(stage)
    with Hold(Failpoint.STOP_ACCEPT, tmp_path) as hold:
        stage.daemon.restart(hold.env)
        leave(stage, how, ends(stage, container, way), hold.wait)
        noticed(stage)
        hold.release()
        # It drains: whatever it still had to do is done then.
        assert stage.daemon.terminate() == 0
    assert stage.calls("preStop") == 0
    assert stage.deliveries() == []
    assert open_operations(stage.daemon) == []
    assert stage.log.words() == ["started"]
    with CRIClient(stage.daemon.containerd) as runtime:
        assert runtime.state(container) == "CONTAINER_RUNNING"
    stage.daemon.start()
    stage.cri.stop(container, 20)
    assert stage.deliveries() == [("preStop", "delivered")]


@pytest.mark.parametrize("how", LEAVING)
def test_nothing_is_started_for_a_caller_that_left_before_the_intent_was_committed(
    stage: Stage, tmp_path: Path, how: Leaving
) -> None:
    """The container stays CREATED without a record, and can be started by the next caller."""
    container = stage.container({"postStart": stage.hook("postStart", "httpGet")})
    with Hold(Failpoint.START_ACCEPT, tmp_path) as hold:
        stage.daemon.restart(hold.env)
        leave_start(stage, container, how, hold.wait)
        noticed(stage)
        hold.release()
        assert stage.daemon.terminate() == 0
    assert stage.calls("postStart") == 0
    assert stage.deliveries() == []
    with CRIClient(stage.daemon.containerd) as runtime:
        assert runtime.state(container) == "CONTAINER_CREATED"
    stage.daemon.start()
    stage.cri.start(container)
    assert stage.deliveries() == [("postStart", "delivered")]


@pytest.mark.parametrize(
    ("point", "how"), leavings(ACCEPTED_STOP, by_deadline=(Failpoint.STOP_ACCEPTED, Failpoint.STOP_ANSWERED))
)
def test_an_accepted_stop_is_finished_without_its_caller(
    stage: Stage, tmp_path: Path, point: Failpoint, how: Leaving
) -> None:
    """Whichever step he leaves at: one hook, one TERM, the container ended, and nothing left open."""
    container = started(stage)
    with Hold(point, tmp_path) as hold:
        stage.daemon.restart(hold.env)
        leave(stage, how, ends(stage, container, "stop"), hold.wait)
        noticed(stage)
        hold.release()
        stage.log.wait_for("finished")
        settled(stage)
    assert_stopped_once(stage, container)


@pytest.mark.parametrize("how", LEAVING)
def test_a_stop_whose_caller_leaves_during_its_hook_is_finished(stage: Stage, how: Leaving) -> None:
    """The hook keeps its budget, then TERM is sent."""
    container = started(stage)
    release = stage.receiver.hang("/preStop")
    leave(stage, how, ends(stage, container, "stop"), lambda: stage.receiver.wait_for("/preStop"))
    noticed(stage)
    assert stage.log.words() == ["started"]
    release.set()
    stage.log.wait_for("finished")
    settled(stage)
    assert_stopped_once(stage, container)


@pytest.mark.parametrize("how", LEAVING)
def test_a_stop_whose_caller_leaves_after_term_is_finished(stage: Stage, how: Leaving) -> None:
    """The process takes its time after TERM: it is neither killed early nor left alone."""
    container = started(stage, finish_seconds=PATIENCE + 2)
    leave(stage, how, ends(stage, container, "stop"), lambda: stage.log.wait_for("TERM"))
    stage.log.wait_for("finished")
    settled(stage)
    assert_stopped_once(stage, container)


def assert_stopped_once(stage: Stage, container: str) -> None:
    """One hook, delivered; one TERM; ended by it, as containerd itself says."""
    assert stage.log.words() == ["started", "TERM", "finished"]
    assert stage.calls("preStop") == 1
    assert stage.deliveries() == [("preStop", "delivered")]
    with CRIClient(stage.daemon.containerd) as runtime:
        until(lambda: runtime.state(container) == "CONTAINER_EXITED", "the container has ended")
        assert runtime.status(container).exit_code == 0


@pytest.mark.parametrize("leaves", ["the first", "the second"])
def test_of_two_callers_one_may_leave(stage: Stage, leaves: str) -> None:
    """Whoever stays is answered when the container has ended, by the one hook."""
    container = started(stage)
    release = stage.receiver.hang("/preStop")
    stop = ends(stage, container, "stop")
    with CRIClient(stage.daemon.socket) as first, CRIClient(stage.daemon.socket) as second:
        calls = {"the first": later(stop, first, 300.0)}
        stage.receiver.wait_for("/preStop")
        calls["the second"] = later(stop, second, 300.0)
        # so that it can have joined; if it has not, this is a test of the first one's leaving only
        noticed(stage)
        (first if leaves == "the first" else second).close()
        assert isinstance(calls.pop(leaves).exception(60), CRIError)
        noticed(stage)
        release.set()
        [stays] = calls.values()
        stays.result(60)
    settled(stage)
    assert_stopped_once(stage, container)


@pytest.mark.parametrize(
    ("point", "how"), leavings(ANSWERED_START, by_deadline=(Failpoint.START_ANSWERED, Failpoint.POST_START_RAN))
)
def test_a_start_that_was_answered_is_finished_without_its_caller(
    stage: Stage, tmp_path: Path, point: Failpoint, how: Leaving
) -> None:
    """The container runs, so its PostStart is delivered once, and the container goes on."""
    container = stage.container({"postStart": stage.hook("postStart", "httpGet")})
    with Hold(point, tmp_path) as hold:
        stage.daemon.restart(hold.env)
        leave_start(stage, container, how, hold.wait)
        noticed(stage)
        hold.release()
        settled(stage)
    assert_started_once(stage, container)


@pytest.mark.parametrize("how", LEAVING)
def test_a_start_whose_caller_leaves_during_its_hook_is_finished(stage: Stage, how: Leaving) -> None:
    """The hook goes on to its outcome."""
    container = stage.container({"postStart": stage.hook("postStart", "httpGet")})
    release = stage.receiver.hang("/postStart")
    leave_start(stage, container, how, lambda: stage.receiver.wait_for("/postStart"))
    noticed(stage)
    release.set()
    settled(stage)
    assert_started_once(stage, container)


def leave_start(stage: Stage, container: str, how: Leaving, phase: Callable[[], object]) -> None:
    """Start the container, and leave when ``phase`` has returned."""
    leave(stage, how, lambda client, timeout: client.start(container, timeout), phase)


def assert_started_once(stage: Stage, container: str) -> None:
    """One hook, delivered, and the container runs."""
    assert stage.calls("postStart") == 1
    assert stage.deliveries() == [("postStart", "delivered")]
    assert stage.cri.state(container) == "CONTAINER_RUNNING"


def test_an_accepted_start_is_made_also_if_its_caller_cancels(stage: Stage, tmp_path: Path) -> None:
    """Committed and not yet with containerd: his cancellation is not passed on."""
    container = stage.container({"postStart": stage.hook("postStart", "httpGet")})
    with Hold(Failpoint.START_ACCEPTED, tmp_path) as hold:
        stage.daemon.restart(hold.env)
        leave_start(stage, container, "cancel", hold.wait)
        noticed(stage)
        hold.release()
        settled(stage)
    assert_started_once(stage, container)


def test_a_start_is_not_made_after_its_callers_deadline(stage: Stage, tmp_path: Path) -> None:
    """A kubelet has given up by then, and may make another container: this one starts when it is started again."""
    container = stage.container({"postStart": stage.hook("postStart", "httpGet")})
    with Hold(Failpoint.START_ACCEPTED, tmp_path) as hold:
        stage.daemon.restart(hold.env)
        leave_start(stage, container, "deadline", hold.wait)
        noticed(stage)
        hold.release()
        assert stage.daemon.terminate() == 0
    assert stage.calls("postStart") == 0
    assert stage.deliveries() == [("postStart", "void")]
    with CRIClient(stage.daemon.containerd) as runtime:
        assert runtime.state(container) == "CONTAINER_CREATED"
    stage.daemon.start()
    stage.cri.start(container)
    assert stage.calls("postStart") == 1
    assert stage.deliveries() == [("postStart", "void"), ("postStart", "delivered")]


@pytest.fixture
def slow_runc(tmp_path: Path) -> SlowRunc:
    """What holds the starts inside containerd."""
    return SlowRunc(tmp_path / "runc")


@pytest.fixture
def slow(slow_runc: SlowRunc, hookshim: MakeHookshim, tmp_path: Path, receiver: Receiver) -> Iterator[Stage]:
    """A pod on a containerd whose starts can be held."""
    with PrivateContainerd.start(slow_runc.directory) as containerd:
        yield Stage(hookshim(containerd), "slow", tmp_path / "stage", receiver)


def test_a_caller_that_cancels_while_containerd_starts_takes_nothing_with_it(slow: Stage, slow_runc: SlowRunc) -> None:
    """The start goes on to its end, and its PostStart follows."""
    container = slow.container({"postStart": slow.hook("postStart", "httpGet")})
    with slow_runc.held():
        leave_start(slow, container, "cancel", slow_runc.wait)
        noticed(slow)
        slow_runc.release()
        settled(slow)
    assert_started_once(slow, container)


def test_a_deadline_that_passes_while_containerd_starts_is_settled_by_what_containerd_says(
    slow: Stage, slow_runc: SlowRunc
) -> None:
    """Given up or not: the hook is void for a container that never ran, and delivered for one that did."""
    container = slow.container({"postStart": slow.hook("postStart", "httpGet")})
    with slow_runc.held():
        leave_start(slow, container, "deadline", slow_runc.wait)
        noticed(slow)
        slow_runc.release()
        settled(slow)
    if slow.cri.status(container).started_at:
        assert_started_once(slow, container)
    else:
        assert slow.calls("postStart") == 0
        assert slow.deliveries() == [("postStart", "void")]
    slow.cri.remove_pod(slow.pod)
