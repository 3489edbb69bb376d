"""What stands beside a handler, kept on real parts: timeout, retries, failures that are ignored, several in a row."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.later import later
from tests.support.receiver import Behaviour, Receiver
from tests.support.signals import logging_container, logging_hook, now
from tests.support.stage import Stage, exec_hook, http_hook, let_end, put_rule, waiting
from tests.support.waiting import until

DOWN = Behaviour(status=503)
FOREVER = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait"]


@pytest.fixture
def stage(
    hookshim: MakeHookshim, any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Stage:
    """A pod behind a daemon, on every containerd of the run."""
    return Stage(hookshim(any_containerd), pod_name, tmp_path, receiver)


def strict(receiver: Receiver, path: str, **policy: object) -> dict[str, Any]:
    """An ``httpGet`` hook that a status of 503 fails."""
    hook = http_hook(receiver, path)
    hook["httpGet"]["expectStatus"] = "2xx"
    return hook | policy


def rule(stage: Stage, hook: str, handler: str) -> None:
    """A rule of the node that the daemon has taken over."""
    put_rule(stage.daemon, "rule", [hook], handler)
    until(lambda: "are taken over" in stage.daemon.log.read_text(), "the rule is taken over")


def asking(receiver: Receiver, path: str) -> str:
    """A rule's handler that a status of 503 fails."""
    return f'httpGet = {{ url = "http://{receiver.host}:{receiver.port}{path}", expectStatus = "2xx" }}'


def numbers(receiver: Receiver, path: str) -> list[str | None]:
    """The number of each attempt, as the receiver saw them."""
    return [request.header("Hookshim-Attempt") for request in receiver.seen(path)]


def begun(stage: Stage, command: list[str] | None = None, **hooks: dict[str, Any]) -> str:
    """A container with these hooks that is started and, if it logs, has said so."""
    container = stage.container(hooks, command)
    stage.cri.start(container)
    if command is None:
        stage.log.wait_for("started")
    return container


def refused(stage: Stage, container: str) -> CRIError:
    """What a StartContainer that fails is answered."""
    with pytest.raises(CRIError) as error:
        stage.cri.start(container)
    return error.value


def test_the_timeout_ends_a_post_start_that_hangs_and_its_container(stage: Stage) -> None:
    """It has ended when StartContainer fails, which says why."""
    stage.receiver.hang("/hook")
    container = stage.container({"postStart": http_hook(stage.receiver, "/hook") | {"timeoutSeconds": 1}}, FOREVER)
    began = now()
    error = refused(stage, container)
    assert now() - began >= 1
    assert error.code.name == "FAILED_PRECONDITION"
    assert "failed - error: timed out after " in error.message
    assert stage.cri.state(container) == "CONTAINER_EXITED"
    assert stage.deliveries() == [("postStart", "failed")]


def test_the_timeout_of_a_pre_stop_leaves_the_rest_of_the_grace(stage: Stage) -> None:
    """Of 12 s the hook may have one, so a process that needs 5 ends by itself; without it, it would have two."""
    stage.receiver.hang("/hook")
    hook = http_hook(stage.receiver, "/hook") | {"timeoutSeconds": 1}
    container = begun(stage, None, preStop=hook)
    stage.cri.remove(container)
    container = stage.container({"preStop": hook}, logging_container(finish_seconds=5))
    stage.cri.start(container)
    until(lambda: stage.log.words()[-1:] == ["started"] and stage.log.words().count("started") == 2, "it has begun")
    began = now()
    stage.cri.stop(container, 12)
    assert stage.log.words()[-2:] == ["TERM", "finished"]
    assert 1 <= stage.log.wait_for("TERM").at + 0.01 - began < 5
    assert stage.cri.status(container).exit_code == 0
    assert stage.deliveries()[-1] == ("preStop", "failed")
    assert "failed - error: timed out after " in stage.daemon.events()[-1]["message"]


def test_the_attempt_that_succeeds_is_the_outcome(stage: Stage) -> None:
    """The third of three, as the command itself counts them: delivered, StartContainer is OK, and no event is made."""
    command = ["sh", "-c", '[ "$HOOKSHIM_ATTEMPT" = 3 ]']
    retry = {"attempts": 3, "backoffSeconds": 0.1}
    container = begun(stage, FOREVER, postStart=exec_hook(command) | {"retry": retry})
    assert stage.cri.state(container) == "CONTAINER_RUNNING"
    [delivery] = stage.daemon.deliveries()
    assert (delivery["state"], delivery["attempts"], delivery["error"]) == ("delivered", 3, "")
    assert stage.daemon.events() == []


def test_each_attempt_is_the_same_delivery_after_a_pause_that_grows(stage: Stage) -> None:
    """The receiver sees one id, the attempts' numbers, and at least 0.5 s, then 1 s, then 1.5 s between them."""
    stage.receiver.behave("/hook", DOWN)
    retry = {"attempts": 4, "backoffSeconds": 0.5, "maxBackoffSeconds": 1.5}
    container = stage.container({"postStart": strict(stage.receiver, "/hook", retry=retry)}, FOREVER)
    error = refused(stage, container)
    assert error.message.endswith("HTTP status 503, expected 2xx")
    assert stage.cri.state(container) == "CONTAINER_EXITED"
    assert numbers(stage.receiver, "/hook") == ["1", "2", "3", "4"]
    [delivery] = stage.daemon.deliveries()
    requests = stage.receiver.seen("/hook")
    assert {request.header("Hookshim-Delivery") for request in requests} == {delivery["id"]}
    pauses = [after.at - before.at for before, after in pairwise(requests)]
    assert [pause >= least for pause, least in zip(pauses, (0.5, 1, 1.5), strict=True)] == [True] * 3
    [event] = stage.daemon.events()
    assert event["reason"] == "FailedPostStartHook"
    assert "(attempt 4, " in event["message"]


@pytest.mark.parametrize("bound", ["the grace", "the timeout"])
def test_no_attempt_begins_after_the_hooks_time(stage: Stage, bound: str) -> None:
    """A hundred attempts are asked for; those that fit are made, the last pause is not waited for."""
    stage.receiver.behave("/hook", DOWN)
    policy: dict[str, object] = {"retry": {"attempts": 100, "backoffSeconds": 0.5, "maxBackoffSeconds": 0.5}}
    if bound == "the timeout":
        policy["timeoutSeconds"] = 3
    container = begun(stage, None, preStop=strict(stage.receiver, "/hook", **policy))
    began = now()
    stage.cri.stop(container, 3 if bound == "the grace" else 600)
    requests = stage.receiver.seen("/hook")
    assert 2 <= len(requests) <= 6
    assert requests[-1].at - requests[0].at <= 3
    assert stage.log.words() == ["started", "TERM", "finished"]
    assert stage.log.wait_for("TERM").at - began <= 3.5
    assert stage.deliveries() == [("preStop", "failed")]


def test_a_failure_that_is_ignored_keeps_the_container(stage: Stage) -> None:
    """StartContainer is OK and it runs on; that it failed is recorded and announced."""
    hook = exec_hook(logging_hook("postStart", exit_status=3)) | {"onFailure": "ignore"}
    container = begun(stage, None, postStart=hook)
    assert stage.cri.state(container) == "CONTAINER_RUNNING"
    assert stage.deliveries() == [("postStart", "failed")]
    [event] = stage.daemon.events()
    assert event["reason"] == "FailedPostStartHook"
    assert "exited with 3" in event["message"]


@pytest.mark.parametrize(("expected", "state"), [(None, "delivered"), ("2xx", "failed"), (503, "delivered")])
def test_a_status_fails_only_a_hook_that_expects_another(stage: Stage, expected: object, state: str) -> None:
    """Any response is a delivery, as for the kubelet, unless the hook says which are."""
    stage.receiver.behave("/hook", DOWN)
    hook = http_hook(stage.receiver, "/hook") | {"onFailure": "ignore"}
    if expected is not None:
        hook["httpGet"]["expectStatus"] = expected
    begun(stage, FOREVER, postStart=hook)
    assert stage.deliveries() == [("postStart", state)]
    assert numbers(stage.receiver, "/hook") == ["1"]


@pytest.mark.parametrize("ignored", ["", 'onFailure = "ignore"'])
def test_a_post_start_of_a_rule_that_fails_ends_it_all_unless_it_is_ignored(stage: Stage, ignored: str) -> None:
    """The pod's own is left out then, with the reason; it runs if the rule does not mind."""
    stage.receiver.behave("/rule", DOWN)
    rule(stage, "postStart", f"{asking(stage.receiver, '/rule')}\n{ignored}")
    container = stage.container({"postStart": http_hook(stage.receiver, "/own")}, FOREVER)
    if ignored:
        stage.cri.start(container)
    else:
        assert refused(stage, container).code.name == "FAILED_PRECONDITION"
    assert len(stage.receiver.seen("/own")) == bool(ignored)
    first, second = stage.daemon.deliveries()
    assert (first["source"], first["state"], second["source"]) == ("rule rule", "failed", "container")
    assert (second["state"], second["error"]) == (
        ("delivered", "") if ignored else ("skipped", "not run: an earlier hook failed, and the container is stopped")
    )
    assert len(stage.daemon.events()) == 1


def test_a_pre_stop_that_fails_keeps_no_other_from_running(stage: Stage) -> None:
    """First the rule's, which fails, then the pod's own, then TERM."""
    stage.receiver.behave("/rule", DOWN)
    rule(stage, "preStop", asking(stage.receiver, "/rule"))
    container = begun(stage, None, preStop=exec_hook(logging_hook("own")))
    stage.cri.stop(container, 20)
    assert stage.log.words() == ["started", "own begins", "own ends", "TERM", "finished"]
    assert [each["state"] for each in stage.daemon.deliveries()] == ["failed", "delivered"]


def test_a_hook_that_uses_up_the_grace_leaves_nothing_for_the_next(stage: Stage) -> None:
    """The next is recorded and announced as not run, and TERM comes with the minimum to react to it."""
    stage.receiver.hang("/rule")
    rule(stage, "preStop", asking(stage.receiver, "/rule"))
    container = begun(stage, None, preStop=exec_hook(logging_hook("own")))
    began = now()
    stage.cri.stop(container, 3)
    assert stage.log.words() == ["started", "TERM", "finished"]
    assert 2.9 <= stage.log.wait_for("TERM").at - began < 5
    first, second = stage.daemon.deliveries()
    assert [first["state"], second["state"]] == ["failed", "failed"]
    assert second["attempts"] == 0
    assert second["error"].endswith("not run: the hooks before it have used up the grace period")
    assert [event["delivery_id"] for event in stage.daemon.events()] == [first["id"], second["id"]]


LONG = {"attempts": 2, "backoffSeconds": 60, "maxBackoffSeconds": 60}


def test_a_stop_ends_a_post_start_that_waits_for_its_next_attempt(stage: Stage) -> None:
    """At once: StartContainer is ABORTED, the container has its TERM, and the second attempt is never made."""
    stage.receiver.behave("/hook", DOWN)
    container = stage.container({"postStart": strict(stage.receiver, "/hook", retry=LONG)})
    start = later(stage.cri.start, container)
    until(lambda: stage.deliveries() == [("postStart", "pending")], "it waits for its next attempt")
    stage.log.wait_for("started")
    stage.cri.stop(container, 20)
    error = start.exception(20)
    assert isinstance(error, CRIError)
    assert error.code.name == "ABORTED"
    assert stage.log.words() == ["started", "TERM", "finished"]
    assert stage.deliveries() == [("postStart", "failed")]
    assert numbers(stage.receiver, "/hook") == ["1"]


def test_a_second_stop_shortens_the_pause_before_the_next_attempt(stage: Stage) -> None:
    """Of the first's ten minutes two seconds are left: the container is stopped then."""
    stage.receiver.behave("/hook", DOWN)
    container = begun(stage, None, preStop=strict(stage.receiver, "/hook", retry=LONG))
    first = later(stage.cri.stop, container, 600)
    until(lambda: stage.deliveries() == [("preStop", "pending")], "it waits for its next attempt")
    began = now()
    stage.cri.stop(container, 2)
    first.result(20)
    assert stage.log.words() == ["started", "TERM", "finished"]
    assert 1.9 <= stage.log.wait_for("TERM").at - began < 10
    assert stage.deliveries() == [("preStop", "failed")]


@pytest.mark.parametrize("hook", ["postStart", "preStop"])
def test_a_container_that_ends_between_two_attempts_has_no_more_hooks(stage: Stage, hook: str) -> None:
    """Neither the second attempt nor the hook after it; the waiting caller gets OK, and nobody hears of a failure."""
    stage.receiver.behave("/rule", DOWN)
    retry = "retry = { attempts = 2, backoffSeconds = 60, maxBackoffSeconds = 60 }"
    rule(stage, hook, f"{asking(stage.receiver, '/rule')}\n{retry}")
    container = stage.container({hook: http_hook(stage.receiver, "/own")}, waiting("go"))
    call = later(stage.cri.start, container)
    if hook == "preStop":
        call.result(20)
        call = later(stage.cri.stop, container, 600)
    until(lambda: (hook, "pending") in stage.deliveries() and stage.receiver.seen("/rule"), "it waits")
    until(lambda: stage.daemon.deliveries()[0]["next_attempt_at"], "its next attempt has a time")
    let_end(stage, "go")
    call.result(20)
    until(lambda: stage.cri.state(container) == "CONTAINER_EXITED", "it has ended")
    until(lambda: stage.deliveries() == [(hook, "skipped")] * 2, "both were not due any more")
    assert {each["error"] for each in stage.daemon.deliveries()} == {"container exited"}
    assert numbers(stage.receiver, "/rule") == ["1"]
    assert stage.receiver.seen("/own") == []
    assert stage.daemon.events() == []


@pytest.mark.parametrize("hook", ["postStart", "preStop"])
def test_a_killed_hookshim_keeps_the_count(stage: Stage, hook: str) -> None:
    """Three attempts are asked for and three are made, in two lives of hookshim: one before, two after the kill."""
    stage.receiver.behave("/hook", DOWN)
    retry = {"attempts": 3, "backoffSeconds": 0.2}
    container = stage.container({hook: strict(stage.receiver, "/hook", retry=retry)}, FOREVER)
    stage.daemon.restart({"HOOKSHIM_FAILPOINTS": "hook.postponed=kill"})
    if hook == "preStop":
        stage.cri.start(container)
        call = later(stage.cri.stop, container, 60)
    else:
        call = later(stage.cri.start, container)
    stage.daemon.wait()
    assert isinstance(call.exception(20), CRIError)
    assert stage.deliveries() == [(hook, "pending")]
    stage.daemon.start()
    until(lambda: stage.cri.state(container) == "CONTAINER_EXITED", "it is ended, by its hook or by the stop")
    until(lambda: stage.deliveries() == [(hook, "failed")], "the last one is the outcome")
    assert numbers(stage.receiver, "/hook") == ["1", "2", "3"]
    assert len(stage.daemon.events()) == 1
