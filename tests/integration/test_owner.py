"""What the node's owner asks of single deliveries, as the receiver, the container and the caller see it."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.admin.client import AdminClient, AdminError
from server.backend import unix_target
from shim.failpoints import Failpoint
from shim.plan import KUBELET_KEY
from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIClient
from tests.support.hookshimd import Hookshim
from tests.support.journal import ask, open_operations
from tests.support.later import later
from tests.support.receiver import Behaviour, Receiver
from tests.support.stage import Stage, exec_hook, held_hook, http_hook, put_rule
from tests.support.waiting import until

_OPTIONS = (("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1))

#: It fails at its first attempt, for good.
ONCE: dict[str, Any] = {"retry": {"attempts": 1}}


@pytest.fixture
def stage(
    hookshim: MakeHookshim, containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Stage:
    """A pod behind a daemon."""
    return Stage(hookshim(containerd), pod_name, tmp_path, receiver)


def delivery(daemon: Hookshim, hook: str) -> dict[str, Any]:
    """The one of this hook."""
    [found] = [one for one in daemon.deliveries() if one["hook"] == hook]
    return found


def wait_for(daemon: Hookshim, hook: str, state: str) -> dict[str, Any]:
    """The delivery of this hook once it has this state."""
    until(lambda: any((one["hook"], one["state"]) == (hook, state) for one in daemon.deliveries()), f"{hook} {state}")
    return delivery(daemon, hook)


def killed_during(daemon: Hookshim, point: Failpoint, hook: str, ask: str, *arguments: str) -> None:
    """Ask a daemon that dies at ``point``; the next one runs afterwards."""
    with AdminClient(daemon.admin) as admin, pytest.raises(AdminError) as broken:
        getattr(admin, ask)(delivery(daemon, hook)["id"], *arguments)
    assert broken.value.code == "UNAVAILABLE"
    assert daemon.wait() == -signal.SIGKILL
    daemon.start()


def test_a_skipped_command_is_killed_and_its_container_stopped(stage: Stage) -> None:
    """TERM follows at once; the reason is kept with the delivery."""
    container = stage.container({"preStop": exec_hook(held_hook("preStop"))})
    stage.cri.start(container)
    stage.log.wait_for("started")
    stop = later(lambda: stage.cri.stop(container, 60))
    stage.log.wait_for("preStop begins")
    with AdminClient(stage.daemon.admin) as admin:
        done = admin.skip(delivery(stage.daemon, "preStop")["id"][:8], "it hangs")
    stop.result(30)
    found = delivery(stage.daemon, "preStop")
    assert (found["id"], found["state"], found["attempts"]) == (done.delivery_id, "skipped", 1)
    assert found["error"] == "skipped by the owner: it hangs"
    assert done.message.endswith("is skipped")
    assert "preStop ends" not in stage.log.words()
    assert stage.log.words().count("TERM") == 1
    assert stage.daemon.events() == []


def test_a_skipped_post_start_lets_its_container_run(stage: Stage, receiver: Receiver) -> None:
    """StartContainer is answered OK, with the hook's receiver still hanging."""
    receiver.hang("/warm-up")
    container = stage.container({"postStart": http_hook(receiver, "/warm-up")})
    start = later(lambda: stage.cri.start(container))
    receiver.wait_for("/warm-up")
    with AdminClient(stage.daemon.admin) as admin:
        admin.skip(delivery(stage.daemon, "postStart")["id"], "not today")
    start.result(30)
    assert stage.cri.state(container) == "CONTAINER_RUNNING"


@pytest.mark.parametrize("point", [Failpoint.OWNER_ACCEPT, Failpoint.OWNER_ACCEPTED])
def test_a_skip_that_is_on_disk_holds_whatever_dies(stage: Stage, receiver: Receiver, point: Failpoint) -> None:
    """Killed before it is written, hookshim sends the hook again; killed after that, never."""
    release = receiver.hang("/drain")
    container = stage.container({"preStop": http_hook(receiver, "/drain")})
    stage.cri.start(container)
    stage.daemon.restart({"HOOKSHIM_FAILPOINTS": f"{point}=kill"})
    stop = later(lambda: stage.cri.stop(container, 60))
    receiver.wait_for("/drain")
    killed_during(stage.daemon, point, "preStop", "skip", "it hangs")
    assert stop.exception(30) is not None
    if point is Failpoint.OWNER_ACCEPT:
        receiver.wait_for("/drain", 2)
        release.set()
    with CRIClient(stage.daemon.containerd) as runtime:
        until(lambda: runtime.state(container) == "CONTAINER_EXITED", "the stop is finished")
    accepted = point is Failpoint.OWNER_ACCEPTED
    wait_for(stage.daemon, "preStop", "skipped" if accepted else "delivered")
    assert len(receiver.seen("/drain")) == (1 if accepted else 2)


@pytest.mark.parametrize("point", [None, Failpoint.OWNER_ACCEPT, Failpoint.OWNER_ACCEPTED])
def test_a_post_stop_that_has_failed_is_told_again(stage: Stage, receiver: Receiver, point: Failpoint | None) -> None:
    """Of a container that is long gone, by the same id and the next attempt; also if hookshim dies over it."""
    receiver.behave("/told", Behaviour(503))
    container = stage.container({"postStop": http_hook(receiver, "/told") | ONCE | {"timeoutSeconds": 1}})
    stage.cri.start(container)
    stage.cri.stop(container, 0)
    stage.cri.remove(container)
    tries = wait_for(stage.daemon, "postStop", "failed")["attempts"]
    receiver.behave("/told", Behaviour(200))
    if point is not None:
        stage.daemon.restart({"HOOKSHIM_FAILPOINTS": f"{point}=kill"})
        killed_during(stage.daemon, point, "postStop", "retry")
    if point is not Failpoint.OWNER_ACCEPTED:
        with AdminClient(stage.daemon.admin) as admin:
            admin.retry(delivery(stage.daemon, "postStop")["id"])
    found = wait_for(stage.daemon, "postStop", "delivered")
    *_, last = receiver.seen("/told")
    assert found["attempts"] == tries + 1 == len(receiver.seen("/told"))
    assert last.header("Hookshim-Delivery") == found["id"]
    assert last.header("Hookshim-Attempt") == str(tries + 1)
    until(lambda: open_operations(stage.daemon) == [], "nothing is open")


def test_a_post_stop_that_waits_is_told_at_once(stage: Stage, receiver: Receiver) -> None:
    """Its receiver is back, and need not wait for the end of the pause."""
    receiver.behave("/told", Behaviour(503))
    policy = {"retry": {"backoffSeconds": 300, "maxBackoffSeconds": 300}}
    container = stage.container({"postStop": http_hook(receiver, "/told") | policy})
    stage.cri.start(container)
    stage.cri.stop(container, 0)
    waits = wait_for(stage.daemon, "postStop", "pending")
    receiver.behave("/told", Behaviour(200))
    with AdminClient(stage.daemon.admin) as admin:
        assert admin.retry(waits["id"]).message.endswith("is sent now")
        found = wait_for(stage.daemon, "postStop", "delivered")
        assert found["attempts"] == len(receiver.seen("/told")) == 2
        with pytest.raises(AdminError, match="it has been delivered") as refused:
            admin.retry(waits["id"])
        assert refused.value.code == "FAILED_PRECONDITION"


def test_a_post_start_that_is_sent_again_and_fails_ends_nobody(stage: Stage, receiver: Receiver) -> None:
    """It failed and was ignored; asked for again, it is told of once more, and its container runs on."""
    receiver.behave("/warm-up", Behaviour(500))
    hook = {"httpGet": http_hook(receiver, "/warm-up")["httpGet"] | {"expectStatus": "2xx"}, "onFailure": "ignore"}
    container = stage.container({"postStart": hook, "preStop": stage.hook("preStop", "httpGet")})
    stage.cri.start(container)
    found = wait_for(stage.daemon, "postStart", "failed")
    with AdminClient(stage.daemon.admin) as admin:
        admin.retry(found["id"])
        receiver.wait_for("/warm-up", 2)
        until(lambda: len(stage.daemon.events()) == 2, "a second event")
        assert stage.cri.state(container) == "CONTAINER_RUNNING"
        receiver.behave("/warm-up", Behaviour(200))
        admin.retry(found["id"])
        wait_for(stage.daemon, "postStart", "delivered")
        stage.cri.stop(container, 5)
        with pytest.raises(AdminError, match="delivered already"):
            admin.skip(delivery(stage.daemon, "preStop")["id"], "too late")


def test_the_hooks_of_a_container_are_told_with_where_they_come_from(stage: Stage, receiver: Receiver) -> None:
    """In their order; a rule's before the container's own, and no header's value."""
    hook = http_hook(receiver, "/drain")
    hook["httpGet"]["httpHeaders"] = [{"name": "Authorization", "value": "s3cret"}]
    policy = {"timeoutSeconds": 20, "retry": {"attempts": 5, "backoffSeconds": 2, "maxBackoffSeconds": 10}}
    put_rule(stage.daemon, "all", ["preStop", "postStart"], 'run = { command = ["/bin/true"] }', containers="c")
    container = stage.container({"preStop": hook | policy})
    other = stage.container({}, name="other")
    annotations = {KUBELET_KEY: json.dumps(exec_hook(["true"]))}
    kubelets = stage.cri.create(stage.pod, "kubelets", ["true"], annotations=annotations)
    with AdminClient(stage.daemon.admin) as admin:
        until(lambda: len(admin.hooks(container).hooks) == 3, "the rule is in force")
        found = admin.hooks(container[:12])
        assert (found.id, found.name, found.state, found.problem) == (container, "c", "CONTAINER_CREATED", "")
        assert [(one.hook, one.source) for one in found.hooks] == [
            ("postStart", "rule all"),
            ("preStop", "rule all"),
            ("preStop", "container"),
        ]
        own = found.hooks[-1]
        assert own.handler == f"httpGet http://{receiver.host}:{receiver.port}/drain"
        assert (own.timeout, own.attempts, own.backoff, own.max_backoff) == (20.0, 5, 2.0, 10.0)
        none = admin.hooks(other)
        assert none.hooks == ()
        assert none.none_because == (
            "neither it nor its pod has the annotation hookshim.dev/lifecycle, "
            "and none of the node's rules (1) matches it"
        )
        left = admin.hooks(kubelets)
        assert 'since kubelet_prestop is not "ensure"' in left.none_because
        with pytest.raises(AdminError, match="the runtime has no container nobody") as unknown:
            admin.hooks("nobody")
        assert unknown.value.code == "NOT_FOUND"


def test_a_stop_says_when_it_was_sent_to_the_runtime(stage: Stage) -> None:
    """After the hook, before the container's end: null until then."""
    container = stage.container({"preStop": exec_hook(held_hook("preStop"))})
    stage.cri.start(container)
    stage.log.wait_for("started")
    stop = later(lambda: stage.cri.stop(container, 60))
    stage.log.wait_for("preStop begins")
    sent = "SELECT forwarded_at, created_at, finished_at FROM operation WHERE kind = 'stop'"
    assert ask(stage.daemon, sent)[0][0] is None
    with AdminClient(stage.daemon.admin) as admin:
        admin.skip(delivery(stage.daemon, "preStop")["id"], "enough")
    stop.result(30)
    until(lambda: ask(stage.daemon, sent)[0][2], "the stop is done")
    [(forwarded, created, finished)] = ask(stage.daemon, sent)
    assert created < forwarded <= finished


def test_the_daemon_is_healthy_while_it_serves(stage: Stage) -> None:
    """For the standard health check, and in its own words."""
    daemon = stage.daemon
    container = stage.container({"preStop": exec_hook(held_hook("preStop"))})
    stage.cri.start(container)
    stop = later(lambda: stage.cri.stop(container, 60))
    stage.log.wait_for("preStop begins")
    with AdminClient(daemon.admin) as admin, grpc.insecure_channel(unix_target(daemon.admin), _OPTIONS) as channel:
        status = admin.status()
        assert (status.serving, status.reason, status.open_operations) == (True, "", 1)
        assert (status.containerd_reachable, status.containerd_reason, status.journal_ok) == (True, "", True)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="hookshim"))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        admin.skip(delivery(daemon, "preStop")["id"], "enough")
        stop.result(30)
        until(lambda: admin.status().open_operations == 0, "nothing is open")
        end = later(daemon.terminate)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert end.result(30) == 0
