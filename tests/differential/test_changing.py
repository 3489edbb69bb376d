"""Every call that changes something does through hookshim what it does at containerd: a pod each way, compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.differential.ways import Outcome, Ways, field, image_service, unlike
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIClient, Reply
from tests.support.image import BUSYBOX
from tests.support.waiting import until
from tests.wire import cri_pb2 as cri

#: What a container makes once TERM ends it: before that, it would be ignored.
_READY = "/ready"

#: A life of one pod: takes the way to call, gives back every reply.
Life = Callable[[CRIClient], dict[str, Reply]]


def compared(ways: Ways, life: Life) -> dict[str, dict[str, Outcome]]:
    """What a life that is led all ways came to, where it was not the same."""
    lives = {way: life(client) for way, client in ways.all.items()}
    assert len({tuple(replies) for replies in lives.values()}) == 1
    found = {
        name: unlike({way: Outcome.of(replies[name]) for way, replies in lives.items()}) for name in lives["direct"]
    }
    return {name: outcomes for name, outcomes in found.items() if outcomes}


def led(pod_name: str, directory: Path, *, command: list[str], ending: list[tuple[str, str, int]]) -> Life:
    """A pod with a container that is started, seen, and ended by calls of (method, "pod" or "container", timeout)."""

    def life(cri_client: CRIClient) -> dict[str, Reply]:
        replies = {}

        def call(name: str, method: str, request: bytes) -> Reply:
            replies[name] = cri_client.call(method, request)
            return replies[name]

        # The pod itself is the client's, which keeps its config for CreateContainer.
        pod = cri_client.run_pod(pod_name, labels={"a": "1"}, log_directory=directory)
        request = cri_client.container_request(pod, "main", command, annotations={"b": "2"})
        created = call("create", "CreateContainer", request.SerializeToString())
        container = cri.CreateContainerResponse.FromString(created.response).container_id
        call("status when created", "ContainerStatus", field(1, container))
        call("create again", "CreateContainer", request.SerializeToString())
        if call("start", "StartContainer", field(1, container)).code is grpc.StatusCode.OK:
            until(lambda: cri_client.exec_sync(container, ["test", "-e", _READY]).exit_code == 0, "it listens for TERM")
        call("status when started", "ContainerStatus", field(1, container))
        call("resources", "UpdateContainerResources", field(1, container) + field(2, field(3, 512)))
        call("log", "ReopenContainerLog", field(1, container))
        call("start again", "StartContainer", field(1, container))
        for number, (method, whose, timeout) in enumerate(ending):
            subject = {"pod": pod, "container": container}[whose]
            call(f"{number}: {method}", method, field(1, subject) + (field(2, timeout) if timeout else b""))
            call(f"{number}: container status", "ContainerStatus", field(1, container))
            call(f"{number}: pod status", "PodSandboxStatus", field(1, pod))
            call(f"{number}: containers", "ListContainers", field(1, field(3, pod)))
        call("remove", "RemovePodSandbox", field(1, pod))
        return replies

    return life


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param([("StopContainer", "container", 10), ("RemoveContainer", "container", 0)], id="stop-remove"),
        pytest.param([("StopContainer", "container", 0), ("StopContainer", "container", 0)], id="kill-twice"),
        pytest.param([("RemoveContainer", "container", 0)], id="remove-running"),
        pytest.param([("StopPodSandbox", "pod", 0), ("StartContainer", "container", 0)], id="stop-pod-start"),
        pytest.param([("StopPodSandbox", "pod", 0), ("StopPodSandbox", "pod", 0)], id="stop-pod-twice"),
        pytest.param([("RemovePodSandbox", "pod", 0), ("StopContainer", "container", 10)], id="remove-pod-stop"),
    ],
)
def test_a_container_lives_the_same(
    ways: Ways, pod_name: str, tmp_path: Path, ending: list[tuple[str, str, int]]
) -> None:
    """From its creation to its end, however it is ended, a container without hooks goes through the same states."""
    trapping = ["sh", "-c", f"trap 'exit 7' TERM; touch {_READY}; while :; do sleep 0.1; done"]
    assert compared(ways, led(pod_name, tmp_path, command=trapping, ending=ending)) == {}


def test_a_start_that_fails_fails_the_same(ways: Ways, pod_name: str, tmp_path: Path) -> None:
    """A program that is not there: the error of StartContainer is containerd's own, and so is the state after it."""
    ending = [("StopContainer", "container", 1), ("RemoveContainer", "container", 0)]
    assert compared(ways, led(pod_name, tmp_path, command=["no-such-program"], ending=ending)) == {}


def test_pods_run_the_same(ways: Ways, pod_name: str) -> None:
    """RunPodSandbox: the answer, the pod that it makes, and a second one with the same name."""

    def life(client: CRIClient) -> dict[str, Reply]:
        metadata = cri.PodSandboxMetadata(name=pod_name, uid=pod_name, namespace="default")
        config = cri.PodSandboxConfig(metadata=metadata, hostname="odd", annotations={"x": "y"})
        request = cri.RunPodSandboxRequest(config=config).SerializeToString()
        run = client.call("RunPodSandbox", request)
        pod = cri.RunPodSandboxResponse.FromString(run.response).pod_sandbox_id
        return {
            "run": run,
            "status": client.call("PodSandboxStatus", field(1, pod)),
            "run again": client.call("RunPodSandbox", request),
            "stop": client.call("StopPodSandbox", field(1, pod)),
            "status when stopped": client.call("PodSandboxStatus", field(1, pod)),
            "remove": client.call("RemovePodSandbox", field(1, pod)),
            "status when removed": client.call("PodSandboxStatus", field(1, pod)),
        }

    assert compared(ways, life) == {}


def test_images_are_removed_the_same(ways: Ways, any_containerd: PrivateContainerd) -> None:
    """RemoveImage of a second name for an image: its answer, and what is left."""
    name = "localhost/second-name:1"

    def life(client: CRIClient) -> dict[str, Reply]:
        any_containerd.ctr("images", "tag", BUSYBOX, name)
        until(lambda: name in client.images(), "the second name is known to the CRI")
        spec = field(1, field(1, name))
        removed = client.call(image_service("RemoveImage"), spec)
        any_containerd.import_image()
        return {"remove": removed, "status": client.call(image_service("ImageStatus"), spec)}

    assert compared(ways, life) == {}
    for client in ways.through.values():
        assert client.call("Version").code is grpc.StatusCode.OK
