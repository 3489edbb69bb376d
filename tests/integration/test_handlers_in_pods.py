"""The handlers through the daemon, in pods with a network of their own: what they reach there, and what they don't."""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.hookshimd import Hookshim
from tests.support.receiver import Behaviour, Receiver
from tests.support.stage import KEY
from tests.support.waiting import until

#: Where the containers serve /etc, on every address of their pod.
PORT = 7070
WAIT = "trap 'exit 0' TERM; sleep 600 & wait"
SERVE = ["sh", "-c", f"httpd -p {PORT} -h /etc; {WAIT}"]
#: The kubelet's annotation, with that port's name.
PORTS = {
    "io.kubernetes.container.ports": json.dumps([{"name": "web", "containerPort": PORT, "protocol": "TCP"}]),
}


def container(daemon: Hookshim, pod: str, lifecycle: dict[str, Any], command: list[str] | None = None) -> str:
    """A started container that declares this and serves /etc, once it does."""
    made = daemon.cri.create(pod, "c", command or SERVE, annotations={KEY: json.dumps(lifecycle), **PORTS})
    daemon.cri.start(made)
    address = daemon.cri.pod_ip(pod)
    if command is None:
        until(lambda: _answers(address), f"{address}:{PORT} is served")
    return made


def _answers(address: str) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex((address, PORT)) == 0


@contextmanager
def shut(address: str) -> Iterator[socket.socket]:
    """A listener that nobody may come to: it accepts none, and knows whether somebody waits."""
    with socket.socket() as made:
        made.bind((address, 0))
        made.listen()
        made.settimeout(0)
        yield made
        with pytest.raises(BlockingIOError):
            made.accept()


def stopped(daemon: Hookshim, made: str) -> dict[str, Any]:
    """The one delivery of a container that is stopped now."""
    daemon.cri.stop(made, grace=10)
    [delivery] = daemon.deliveries()
    return delivery


@pytest.mark.parametrize(
    "handler",
    [
        {"httpGet": {"port": PORT, "path": "/passwd"}},
        {"httpGet": {"port": "web", "path": "/passwd", "expectStatus": "2xx"}},
        {"tcpSocket": {"port": PORT}},
        {"tcpSocket": {"port": "web"}},
        {"sleep": {"seconds": 1}},
    ],
)
def test_a_pods_own_port_is_reached(
    handler: dict[str, Any], hookshim: MakeHookshim, any_containerd: PrivateContainerd, pod_name: str
) -> None:
    """At the pod's address as the runtime says it, by number and by the kubelet's name for it."""
    daemon = hookshim(any_containerd)
    made = container(daemon, daemon.cri.run_pod(pod_name), {"preStop": handler})
    delivery = stopped(daemon, made)
    assert (delivery["hook"], delivery["state"], delivery["error"]) == ("preStop", "delivered", "")


def test_a_status_that_is_not_expected_is_a_failure(
    hookshim: MakeHookshim, any_containerd: PrivateContainerd, pod_name: str
) -> None:
    """For a hook that asks; the stop goes on."""
    daemon = hookshim(any_containerd)
    handler = {"httpGet": {"port": PORT, "path": "/none", "expectStatus": ["2xx", 409]}}
    made = container(daemon, daemon.cri.run_pod(pod_name), {"preStop": handler})
    delivery = stopped(daemon, made)
    assert delivery["state"] == "failed"
    assert delivery["error"].endswith("error: HTTP status 404, expected 2xx, 409")
    assert daemon.cri.state(made) == "CONTAINER_EXITED"


@pytest.mark.parametrize("kind", ["httpGet", "tcpSocket"])
@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f000001"])
def test_a_pod_does_not_reach_the_nodes_loopback(
    kind: str, host: str, hookshim: MakeHookshim, any_containerd: PrivateContainerd, pod_name: str
) -> None:
    """Even where the configuration allows everything: the hook has failed, and nobody has come."""
    env = {"HOOKSHIM_REACH_CIDRS": "0.0.0.0/0,::/0", "HOOKSHIM_REACH_HOSTS": "*"}
    daemon = hookshim(any_containerd, env=env)
    with shut("127.0.0.1") as closed:
        handler = {kind: {"port": closed.getsockname()[1], "host": host}}
        delivery = stopped(daemon, container(daemon, daemon.cri.run_pod(pod_name), {"preStop": handler}))
    assert delivery["state"] == "failed"
    assert f"error: host {host} is 127.0.0.1, which is loopback, and never reached" in delivery["error"]


def test_a_pod_on_the_hosts_network_reaches_it(
    hookshim: MakeHookshim, any_containerd: PrivateContainerd, pod_name: str
) -> None:
    """It is its own there; a neighbour's address is not."""
    daemon = hookshim(any_containerd, env={"HOOKSHIM_REACH_CIDRS": ""})
    with Receiver() as own:
        hooks = {"postStart": {"httpGet": {"port": own.port, "path": "/own"}}}
        hooks["preStop"] = {"tcpSocket": {"port": own.port, "host": "10.213.255.254"}}
        pod = daemon.cri.run_pod(pod_name, host_network=True)
        made = daemon.cri.create(pod, "c", ["sh", "-c", WAIT], annotations={KEY: json.dumps(hooks)})
        daemon.cri.start(made)
        assert len(own.seen("/own")) == 1
    daemon.cri.stop(made, grace=10)
    [first, second] = sorted(daemon.deliveries(), key=lambda delivery: str(delivery["hook"]))
    assert (first["hook"], first["state"]) == ("postStart", "delivered")
    assert "which is not the pod's own address, and reach.cidrs does not allow it" in second["error"]


def test_a_rules_command_runs_on_the_node(
    hookshim: MakeHookshim, any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path
) -> None:
    """With the container's identity; and its listener on loopback is reached by the rule's URL."""
    rules = tmp_path / "hooks.d"
    rules.mkdir(mode=0o755)
    told = tmp_path / "told"
    with Receiver() as receiver:
        command = json.dumps(["sh", "-c", f"cat > {shlex.quote(str(told))}"])
        (rules / "10-node.toml").write_text(
            f'when = ["preStop"]\n[[handlers]]\nrun = {{ command = {command} }}\n'
            f'[[handlers]]\nhttpGet = {{ url = "http://127.0.0.1:{receiver.port}/told?x" }}\n'
        )
        (rules / "10-node.toml").chmod(0o644)
        daemon = hookshim(any_containerd, env={"HOOKSHIM_HOOKS_DIR": str(rules)})
        pod = daemon.cri.run_pod(pod_name)
        made = container(daemon, pod, {}, ["sh", "-c", WAIT])
        daemon.cri.stop(made, grace=10)
        assert [request.method for request in receiver.seen("/told")] == ["GET"]
    said = json.loads(told.read_text())
    assert (said["hook"], said["containerId"], said["sandboxId"]) == ("preStop", made, pod)
    assert (said["containerName"], said["podName"]) == ("c", pod_name)
    assert [delivery["state"] for delivery in daemon.deliveries()] == ["delivered", "delivered"]


def test_a_post_stop_is_told_how_its_container_ended(
    hookshim: MakeHookshim, any_containerd: PrivateContainerd, pod_name: str, receiver: Receiver
) -> None:
    """A POST with the exit code of a container that has ended by itself, and is gone; told again after a refusal."""
    daemon = hookshim(any_containerd)
    pod = daemon.cri.run_pod(pod_name)
    receiver.behave("/ended", Behaviour(503))
    hook = {"httpGet": {"host": receiver.host, "port": receiver.port, "path": "/ended"}}
    command = ["sh", "-c", "trap 'exit 3' TERM; sleep 600 & wait"]
    made = daemon.cri.create(pod, "c", command, annotations={KEY: json.dumps({"postStop": hook})})
    daemon.cri.start(made)
    daemon.cri.stop(made, grace=10)
    daemon.cri.remove_pod(pod)
    receiver.wait_for("/ended")
    receiver.behave("/ended", Behaviour(204))
    [delivery] = until(
        lambda: [one for one in daemon.deliveries() if one["state"] == "delivered"], "the postStop is delivered"
    )
    tries = receiver.seen("/ended")
    assert {request.method for request in tries} == {"POST"}
    told = [json.loads(request.body) for request in tries]
    assert [one.pop("attempt") for one in told] == list(range(1, len(tries) + 1))
    assert all(one == told[0] for one in told)
    assert told[0].pop("startedAt") <= told[0].pop("finishedAt")
    assert told[0].pop("podUid")
    assert told[0] == {
        "hook": "postStop",
        "delivery": delivery["id"],
        "containerId": made,
        "containerName": "c",
        "podName": pod_name,
        "podNamespace": "default",
        "sandboxId": pod,
        "exitCode": 3,
        "reason": "Error",
    }
