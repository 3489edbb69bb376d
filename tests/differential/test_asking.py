"""Every question, and every call that goes wrong, is answered through hookshim as containerd itself answers it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.differential.ways import METHODS, Outcome, Ways, field, image_service, unlike
from tests.support.image import BUSYBOX
from tests.support.waiting import until
from tests.wire import cri_pb2 as cri

#: Nothing answers there.
NO_REGISTRY = "127.0.0.1:1/nothing:1"


@dataclass(frozen=True, slots=True)
class Scene:
    """A pod with a container in every state."""

    pod: str
    running: str
    exited: str
    created: str


@pytest.fixture
def scene(ways: Ways, pod_name: str, tmp_path: Path) -> Scene:
    """Made directly, so that hookshim has nothing to do with it."""
    pod = ways.direct.run_pod(pod_name, labels={"a": "1", "b": "2"}, log_directory=tmp_path)
    running = ways.direct.create(pod, "running", ["sleep", "3600"], labels={"c": "3"}, annotations={"d": "4"})
    exited = ways.direct.create(pod, "exited", ["sh", "-c", "exit 3"])
    created = ways.direct.create(pod, "created", ["true"])
    for container in (running, exited):
        ways.direct.start(container)
    until(lambda: ways.direct.state(exited) == "CONTAINER_EXITED", "the container has exited")
    return Scene(pod, running, exited, created)


def differences(
    ways: Ways, cases: list[tuple[str, bytes]], *, numbers: bool = True
) -> dict[tuple[str, bytes], dict[str, Outcome]]:
    """The calls that did not come to the same all ways, and to what."""
    found = {case: unlike(ways.outcomes(*case, numbers=numbers)) for case in cases}
    return {case: outcomes for case, outcomes in found.items() if outcomes}


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"", id="empty"),
        pytest.param(field(1, "no-such-id"), id="unknown-id"),
        pytest.param(field(1, b"\xff\xfe"), id="no-text"),
        pytest.param(b"\xff\xff", id="no-protobuf"),
        pytest.param(field(536870911, "unknown"), id="unknown-field"),
    ],
)
def test_every_method_fails_the_same(ways: Ways, request_bytes: bytes) -> None:
    """Without a valid argument every method of CRI, in this containerd or not, answers the same."""
    assert differences(ways, [(method, request_bytes) for method in METHODS]) == {}


def test_methods_that_containerd_does_not_have_are_unimplemented(ways: Ways) -> None:
    """What nobody implements is answered by containerd, in its words."""
    for method in ("/runtime.v1.RuntimeService/BottleContainer", "/runtime.v1.BottleService/Bottle"):
        outcomes = ways.outcomes(method, b"")
        assert unlike(outcomes) == {}
        assert outcomes["direct"].code is grpc.StatusCode.UNIMPLEMENTED
        assert b"unknown" in outcomes["direct"].message


def test_questions_about_the_runtime(ways: Ways) -> None:
    """Version, status and configuration, with and without details."""
    cases = [
        ("Version", b""),
        ("Version", field(1, "v1")),
        ("Status", b""),
        ("Status", cri.StatusRequest(verbose=True).SerializeToString()),
        ("RuntimeConfig", b""),
        ("UpdateRuntimeConfig", field(1, field(1, field(1, "10.99.0.0/24")))),
        ("ListMetricDescriptors", b""),
    ]
    assert differences(ways, cases) == {}
    assert {client.version().runtime_name for client in ways.through.values()} == {"containerd"}


def test_questions_about_pods(ways: Ways, scene: Scene) -> None:
    """A pod's status by id and by prefix, with and without details, and lists by every filter."""
    filters = [
        cri.PodSandboxFilter(id=scene.pod),
        cri.PodSandboxFilter(id=scene.pod[:10]),
        cri.PodSandboxFilter(id="nothing"),
        cri.PodSandboxFilter(state=cri.PodSandboxStateValue(state=cri.PodSandboxState.SANDBOX_READY)),
        cri.PodSandboxFilter(state=cri.PodSandboxStateValue(state=cri.PodSandboxState.SANDBOX_NOTREADY)),
        cri.PodSandboxFilter(label_selector={"a": "1"}),
        cri.PodSandboxFilter(label_selector={"a": "2"}),
    ]
    cases = [
        ("PodSandboxStatus", cri.PodSandboxStatusRequest(pod_sandbox_id=pod, verbose=verbose).SerializeToString())
        for pod in (scene.pod, scene.pod[:10], scene.running)
        for verbose in (False, True)
    ]
    cases += [("ListPodSandbox", cri.ListPodSandboxRequest(filter=one).SerializeToString()) for one in filters]
    assert differences(ways, cases) == {}
    for client in ways.through.values():
        assert [pod.id for pod in client.list_pods()] == [scene.pod]


def test_questions_about_containers(ways: Ways, scene: Scene) -> None:
    """Containers in every state by id and by prefix, with and without details, and lists by every filter."""
    containers = (scene.running, scene.exited, scene.created)
    filters = [
        cri.ContainerFilter(id=scene.running),
        cri.ContainerFilter(id=scene.exited[:10]),
        cri.ContainerFilter(pod_sandbox_id=scene.pod),
        cri.ContainerFilter(state=cri.ContainerStateValue(state=cri.ContainerState.CONTAINER_EXITED)),
        cri.ContainerFilter(label_selector={"c": "3"}),
        cri.ContainerFilter(label_selector={"c": "4"}),
    ]
    cases = [
        ("ContainerStatus", field(1, container) + (field(2, 1) if verbose else b""))
        for container in (*containers, scene.running[:10], scene.pod)
        for verbose in (False, True)
    ]
    cases += [("ListContainers", cri.ListContainersRequest(filter=one).SerializeToString()) for one in filters]
    assert differences(ways, cases) == {}
    for client in ways.through.values():
        assert {container.id for container in client.list(scene.pod)} == set(containers)


def test_questions_about_use(ways: Ways, scene: Scene) -> None:
    """Statistics have the same fields, whatever the numbers are at that moment."""
    cases = [
        *[("ContainerStats", field(1, container)) for container in (scene.running, scene.exited, scene.created)],
        ("ListContainerStats", b""),
        ("ListContainerStats", field(1, field(2, scene.pod))),
        ("PodSandboxStats", field(1, scene.pod)),
        ("ListPodSandboxStats", b""),
        ("ListPodSandboxStats", field(1, field(1, scene.pod))),
        ("ListPodSandboxMetrics", b""),
        (image_service("ImageFsInfo"), b""),
    ]
    # The first sample has no rate yet.
    differences(ways, cases, numbers=False)
    assert differences(ways, cases, numbers=False) == {}


def test_questions_about_images(ways: Ways) -> None:
    """Images by name, by id, with and without details; and a pull and a removal that have nothing to do."""
    [image] = [
        image
        for image in ways.direct.ask(
            image_service("ListImages"), cri.ListImagesRequest(), cri.ListImagesResponse
        ).images
        if BUSYBOX in image.repo_tags
    ]
    names = (BUSYBOX, image.id, image.id[:20], NO_REGISTRY, "Not A Name")
    cases = [
        (image_service("ImageStatus"), field(1, field(1, name)) + (field(2, 1) if verbose else b""))
        for name in names
        for verbose in (False, True)
    ]
    cases += [(image_service("ListImages"), field(1, field(1, field(1, name)))) for name in names]
    cases += [(image_service("PullImage"), field(1, field(1, name))) for name in (NO_REGISTRY, "Not A Name")]
    cases += [(image_service("RemoveImage"), field(1, field(1, name))) for name in (NO_REGISTRY, "Not A Name")]
    assert differences(ways, cases) == {}


def test_commands_in_containers(ways: Ways, scene: Scene) -> None:
    """ExecSync: exit status, both outputs, a large one, a time-out, and what cannot be run."""
    big = "head -c 9000000 /dev/zero | tr '\\0' x"
    commands: list[tuple[str, list[str], int]] = [
        (scene.running, ["sh", "-c", "echo out; echo err >&2; exit 3"], 0),
        (scene.running, ["sh", "-c", big], 0),
        (scene.running, ["sleep", "60"], 1),
        (scene.running, ["no-such-program"], 0),
        (scene.running, [], 0),
        (scene.running[:10], ["true"], 0),
        (scene.exited, ["true"], 0),
        (scene.created, ["true"], 0),
    ]
    cases = [
        ("ExecSync", cri.ExecSyncRequest(container_id=c, cmd=command, timeout=limit).SerializeToString())
        for c, command, limit in commands
    ]
    assert differences(ways, cases) == {}
    for client in ways.through.values():
        assert len(client.exec_sync(scene.running, ["sh", "-c", big]).stdout) == 9_000_000


def test_calls_in_the_wrong_state(ways: Ways, scene: Scene) -> None:
    """What a container's state does not allow is refused in containerd's words; what is done already is not."""
    no_image = ways.direct.container_request(scene.pod, "odd", ["true"], image=NO_REGISTRY)
    cases = [
        ("StartContainer", field(1, scene.running)),
        ("StartContainer", field(1, scene.exited)),
        ("StartContainer", field(1, scene.pod)),
        ("StopContainer", field(1, scene.exited)),
        ("StopContainer", field(1, scene.exited[:10]) + field(2, 10)),
        ("StopContainer", field(1, scene.pod)),
        ("RemoveContainer", field(1, "nothing")),
        ("ReopenContainerLog", field(1, scene.running)),
        ("ReopenContainerLog", field(1, scene.exited)),
        ("UpdateContainerResources", field(1, scene.running) + field(2, field(3, 512))),
        ("UpdateContainerResources", field(1, scene.exited) + field(2, field(3, 512))),
        ("UpdatePodSandboxResources", field(1, scene.pod)),
        ("CheckpointContainer", field(1, scene.exited)),
        ("CreateContainer", no_image.SerializeToString()),
        ("Exec", field(1, scene.exited) + field(2, "true") + field(5, 1)),
        ("Exec", field(1, scene.running)),
        ("Attach", field(1, scene.exited) + field(4, 1)),
        ("Attach", field(1, scene.running) + field(3, 1) + field(4, 1) + field(5, 1)),
        ("PortForward", field(1, scene.running)),
    ]
    assert differences(ways, cases) == {}
