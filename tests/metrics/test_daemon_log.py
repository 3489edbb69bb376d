"""The daemon's log at its most talkative: whom every line is about, and what no line has."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conftest import MakeHookshim
from tests.differential.ways import field as wire
from tests.differential.ways import image_service
from tests.metrics import OBEDIENT
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError, unique
from tests.support.hookshimd import Hookshim
from tests.support.receiver import Behaviour, Receiver
from tests.support.stage import KEY, exec_hook, http_hook, put_rule


def say(secret: str) -> str:
    """Shell that prints the secret without having it: as a kubelet's, the text of a failure has the command."""
    return f"printf %s%s {secret[:6]} {secret[6:]}"


def lines(daemon: Hookshim) -> list[dict[str, Any]]:
    """The log, line by line."""
    return [json.loads(line) for line in daemon.log.read_text().splitlines()]


@dataclass
class Secrets:
    """Words that nothing else has, by where they are put."""

    made: dict[str, str] = field(default_factory=dict)

    def new(self, where: str) -> str:
        """A word for this place."""
        return self.made.setdefault(where, unique("s3cr3t"))


@pytest.fixture
def daemon(hookshim: MakeHookshim, containerd: PrivateContainerd) -> Hookshim:
    """A daemon that logs all it can, not yet started."""
    return hookshim(containerd, options=["--log-level", "debug"], start=False)


def test_what_is_said_while_a_hook_runs_names_its_container_pod_delivery_and_attempt(
    daemon: Hookshim, pod_name: str
) -> None:
    """Of a command that is killed at each of two attempts, the lines are told apart as the journal tells them."""
    daemon.start()
    hook = exec_hook(["sleep", "3600"]) | {"timeoutSeconds": 1}
    pod = daemon.cri.run_pod(pod_name)
    containers = {
        name: daemon.cri.create(pod, name, OBEDIENT, annotations={KEY: json.dumps({"preStop": hook})})
        for name in ("one", "two")
    }
    for container in containers.values():
        daemon.cri.start(container)
        daemon.cri.stop(container, 10)
    said = [line for line in lines(daemon) if line["event"] == "killed a hook"]
    names = ("container", "container_name", "pod", "hook", "attempt", "delivery")
    deliveries = {delivery["container_id"]: delivery["id"] for delivery in daemon.deliveries()}
    assert [tuple(line[name] for name in names) for line in said] == [
        (container, name, pod_name, "preStop", 1, deliveries[container]) for name, container in containers.items()
    ]
    # Every line that has one of them has all that there are.
    for line in lines(daemon):
        if "delivery" in line:
            assert {"container", "container_name", "pod", "namespace"} <= line.keys(), line
    left = [line for line in lines(daemon) if line["event"] in ("listening", "serving")]
    assert [line for line in left if "container" in line] == []


def test_no_line_has_what_a_handler_said_or_a_credential(
    daemon: Hookshim, pod_name: str, receiver: Receiver, containerd: PrivateContainerd
) -> None:
    """Level debug, hooks that work and that fail in every way: each secret has gone where it belongs, and not there."""
    secrets = Secrets()
    receiver.behave("/refuses", Behaviour(500, secrets.new("answer").encode()))
    put_rule(
        daemon,
        "told",
        ["preStop"],
        f'httpGet = {{ url = "http://{receiver.host}:{receiver.port}/rule?token={secrets.new("query of a rule")}" }}',
        f'run = {{ command = ["/bin/sh", "-c", "{say(secrets.new("output of a run"))}; exit 3"] }}',
    )
    daemon.start()
    headers = {"httpHeaders": [{"name": "Authorization", "value": f"Bearer {secrets.new('header')}"}]}
    refused = http_hook(receiver, "/refuses")
    refused["httpGet"] |= {"expectStatus": "2xx"} | headers
    unheard = {"httpGet": {"host": receiver.host, "port": 1, "path": "/"} | headers}
    out, err = (say(secrets.new(name)) for name in ("standard output", "standard error"))
    loud = exec_hook(["sh", "-c", f"{out}; {err} >&2; exit 4"])
    pod = daemon.cri.run_pod(pod_name)
    environment = {"TOKEN": secrets.new("environment")}
    for number, lifecycle in enumerate(({"preStop": refused}, {"preStop": unheard}, {"postStart": loud})):
        container = daemon.cri.create(
            pod, f"c{number}", OBEDIENT, annotations={KEY: json.dumps(lifecycle)}, envs=environment
        )
        try:
            daemon.cri.start(container)
        except CRIError as error:
            assert error.code.name == "FAILED_PRECONDITION"  # noqa: PT017 - the failed postStart; the others start
        else:
            daemon.cri.exec_sync(container, ["sh", "-c", f"echo {secrets.new('a probe')}"])
        daemon.cri.stop(container, 5)
    auth = b"".join(wire(number, secrets.new(f"auth {number}")) for number in range(1, 7))
    reply = daemon.cri.call(
        image_service("PullImage"),
        wire(1, wire(1, f"127.0.0.1:1/{secrets.new('the name of an image')}@none")) + wire(2, auth),
    )
    assert reply.code.name != "OK"
    told = [str(request.headers) + request.path for request in receiver.requests]
    assert [word for word in told if secrets.made["header"] in word] != []
    assert [word for word in told if secrets.made["query of a rule"] in word] != []
    journal = b"".join(file.read_bytes() for file in daemon.state_dir.glob("journal.db*"))
    said = ("answer", "output of a run", "standard output", "standard error")
    assert [where for where in said if secrets.made[where].encode() not in journal] == []
    kept = json.dumps(daemon.deliveries())
    assert "exited with 4" in kept
    assert "HTTP status 500" in kept
    log = daemon.log.read_text()
    assert "FailedPostStartHook" in log
    assert {where for where, word in secrets.made.items() if word in log} == set()
