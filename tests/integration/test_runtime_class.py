"""A RuntimeClass is a handler of containerd's, named in RunPodSandbox: hookshim hands it on, and hooks run as ever."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest

from tests.conftest import MakeHookshim
from tests.differential.ways import Outcome
from tests.support.containerd import SECOND_HANDLER, PrivateContainerd
from tests.support.cri import CRIClient, Reply
from tests.support.signals import SignalLog, logging_container, logging_hook
from tests.support.stage import KEY, exec_hook
from tests.support.ways import Ways
from tests.wire import cri_pb2 as cri

UNKNOWN = "no-such-handler"


def pod_config(name: str) -> cri.PodSandboxConfig:
    """What a caller says of a pod besides its handler."""
    context = cri.LinuxSandboxSecurityContext(namespace_options=cri.NamespaceOption(pid=cri.NamespaceMode.CONTAINER))
    return cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=name, uid=name, namespace="default"),
        hostname=name[:63],
        linux=cri.LinuxPodSandboxConfig(security_context=context),
    )


def run_pod(client: CRIClient, name: str, handler: str) -> Reply:
    """RunPodSandbox with this handler."""
    request = cri.RunPodSandboxRequest(config=pod_config(name), runtime_handler=handler)
    return client.call("RunPodSandbox", request.SerializeToString())


def ran(reply: Reply) -> str:
    """The id of the pod that ran."""
    assert (reply.code, reply.message) == (grpc.StatusCode.OK, "")
    return cri.RunPodSandboxResponse.FromString(reply.response).pod_sandbox_id


def run_by(containerd: PrivateContainerd, handler: str) -> set[str]:
    """The ids of the containers, sandboxes' too, that runc runs for this handler."""
    return {path.name for path in (containerd.runc_root(handler) / "k8s.io").glob("*")}


@pytest.fixture
def ways(any_containerd: PrivateContainerd, hookshim: MakeHookshim) -> Ways:
    """Directly and through a daemon, on every containerd of the run."""
    return Ways(any_containerd.cri, hookshim(any_containerd))


def test_a_pod_of_a_runtime_class_runs_with_its_hooks(
    ways: Ways, any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path
) -> None:
    """Its handler runs the sandbox and the container, and both hooks are delivered around the container's life."""
    log = SignalLog(tmp_path)
    client = ways.through
    pod = ran(run_pod(client, pod_name, SECOND_HANDLER))
    assert client.pod_status(pod).runtime_handler == SECOND_HANDLER
    hooks = {hook: exec_hook(logging_hook(hook)) for hook in ("postStart", "preStop")}
    request = client.container_request(
        pod, "c", logging_container(), annotations={KEY: json.dumps(hooks)}, mounts=log.mounts
    )
    request.sandbox_config.CopyFrom(pod_config(pod_name))
    container = client.ask("CreateContainer", request, cri.CreateContainerResponse).container_id
    client.start(container)
    log.wait_for("started")
    assert {pod, container} <= run_by(any_containerd, SECOND_HANDLER)
    assert not {pod, container} & run_by(any_containerd, "runc")
    client.stop(container, grace=20)
    words = log.words()
    assert set(words[:3]) == {"started", "postStart begins", "postStart ends"}
    assert words[3:] == ["preStop begins", "preStop ends", "TERM", "finished"]
    assert [(each["hook"], each["state"]) for each in ways.daemon.deliveries()] == [
        ("postStart", "delivered"),
        ("preStop", "delivered"),
    ]


def test_a_pod_without_a_runtime_class_is_the_default_handlers(
    ways: Ways, any_containerd: PrivateContainerd, pod_name: str
) -> None:
    """What a caller has not asked for is not chosen for it."""
    pod = ran(run_pod(ways.through, pod_name, ""))
    assert ways.through.pod_status(pod).runtime_handler == ""
    assert pod in run_by(any_containerd, "runc")
    assert pod not in run_by(any_containerd, SECOND_HANDLER)


def test_pods_of_a_runtime_class_are_listed_the_same(ways: Ways, pod_name: str) -> None:
    """The handler of each pod is in the list, whoever asks for it."""
    ran(run_pod(ways.through, f"{pod_name}-through", SECOND_HANDLER))
    ran(run_pod(ways.direct, f"{pod_name}-direct", SECOND_HANDLER))
    direct, through = ways.direct.list_pods(), ways.through.list_pods()
    assert sorted(pod.runtime_handler for pod in through) == [SECOND_HANDLER] * 2
    assert sorted(direct, key=lambda pod: pod.id) == sorted(through, key=lambda pod: pod.id)


def test_an_unknown_handler_fails_as_it_does_directly(
    ways: Ways, any_containerd: PrivateContainerd, pod_name: str
) -> None:
    """With containerd's code and its text, which names the handler; nothing is left of the attempt."""

    def everything() -> set[str]:
        """What a pod could leave in containerd, in runc and on its network."""
        traces = any_containerd.traces()
        return {
            *(f"pod {pod.id}" for pod in ways.direct.list_pods()),
            *(f"container {name}" for name in any_containerd.ctr("containers", "list", "--quiet").split()),
            *(f"snapshot {line}" for line in any_containerd.ctr("snapshots", "list").splitlines()),
            *(
                f"runc's {name}"
                for handler in ("runc", SECOND_HANDLER, UNKNOWN)
                for name in run_by(any_containerd, handler)
            ),
            *(f"address {path.name}" for path in (any_containerd.directory / "addresses").rglob("10.*")),
            *(f"task {name}" for name in traces.ids),
            *(f"socket {path}" for path in traces.sockets),
        }

    before = everything()
    direct = run_pod(ways.direct, pod_name, UNKNOWN)
    through = run_pod(ways.through, pod_name, UNKNOWN)
    # but for the id that containerd 2 has made up for each
    assert Outcome.of(through) == Outcome.of(direct)
    assert through.code is grpc.StatusCode.UNKNOWN
    assert f'no runtime for "{UNKNOWN}" is configured' in through.message
    assert everything() - before == set()
    assert ways.daemon.deliveries() == []
    assert ways.daemon.events() == []
    # the pod's name is free: the same pod runs with a handler that is there
    pod = ran(run_pod(ways.through, pod_name, SECOND_HANDLER))
    kinds = {line.split()[0] for line in everything() - before if pod in line or line.startswith(("address", "socket"))}
    assert kinds == {"pod", "container", "snapshot", "runc's", "address", "task", "socket"}
