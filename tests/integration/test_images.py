"""Images are containerd's: a pull from a private registry goes through hookshim as without it, credentials and all."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.conftest import MakeHookshim
from tests.differential.ways import Outcome, field, image_service
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIClient, Reply
from tests.support.image import FOREVER
from tests.support.registry import Pushed, Registry
from tests.support.stage import KEY, exec_hook
from tests.support.ways import Ways
from tests.wire import cri_pb2 as cri

USER = "hookshim-reader"
PASSWORD = "corr3ct-h0rse"
WRONG = "wr0ng-st4ple"


def encoded(password: str) -> str:
    """User and password as one word, in which form they are on the wire too."""
    return base64.b64encode(f"{USER}:{password}".encode()).decode()


def login(password: str) -> bytes:
    """CRI's AuthConfig with a user and a password."""
    return field(1, USER) + field(2, password)


def pull(client: CRIClient, image: Pushed, auth: bytes = b"") -> Reply:
    """PullImage; ``auth`` is an AuthConfig, as it is on the wire (CRI api.proto), empty for none."""
    request = field(1, field(1, image.reference)) + (field(2, auth) if auth else b"")
    return client.call(image_service("PullImage"), request)


def image_id(client: CRIClient, image: Pushed) -> str:
    """The id of the image where it is pulled, else empty."""
    request = cri.ImageStatusRequest(image=cri.ImageSpec(image=image.reference))
    return client.ask(image_service("ImageStatus"), request, cri.ImageStatusResponse).image.id


def remove(client: CRIClient, image: Pushed) -> None:
    """RemoveImage; nothing if it is not there."""
    request = cri.RemoveImageRequest(image=cri.ImageSpec(image=image.reference))
    client.ask(image_service("RemoveImage"), request, cri.Nothing)


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """Private, on loopback."""
    with Registry(USER, PASSWORD) as made:
        yield made


@pytest.fixture
def ways(any_containerd: PrivateContainerd, hookshim: MakeHookshim, registry: Registry) -> Ways:
    """Directly and through a daemon that logs all it can, on every containerd of the run, which knows the registry."""
    any_containerd.trust_registry(registry.address)
    return Ways(any_containerd.cri, hookshim(any_containerd, options=["--log-level", "debug"]))


@pytest.fixture
def image(registry: Registry, ways: Ways, pod_name: str) -> Iterator[Pushed]:
    """In the registry, and nowhere else; not in containerd afterwards."""
    pushed = registry.push(pod_name, f"only in {pod_name}\n")
    yield pushed
    for pod in ways.direct.list_pods():
        ways.direct.stop_pod(pod.id)
        ways.direct.remove_pod(pod.id)
    remove(ways.direct, pushed)


@pytest.mark.parametrize(
    "auth",
    [
        pytest.param(login(PASSWORD), id="user and password"),
        pytest.param(field(3, encoded(PASSWORD)), id="one word"),
    ],
)
def test_a_private_image_is_pulled_with_credentials(ways: Ways, registry: Registry, image: Pushed, auth: bytes) -> None:
    """Through hookshim as directly: the same answer, and the same requests at the registry, which hands it out."""
    pulls = []
    for client in (ways.direct, ways.through):
        seen = len(registry.requests(image.name))
        reply = pull(client, image, auth)
        assert image_id(ways.direct, image) == image.id
        pulls.append((Outcome.of(reply), sorted(registry.requests(image.name)[seen:])))
        assert (f"GET {image.layer}", "let in") in pulls[-1][1]
        remove(client, image)
        assert image_id(ways.direct, image) == ""
    assert pulls[0] == pulls[1]
    assert pulls[1][0].code is grpc.StatusCode.OK


def test_a_hook_runs_in_a_private_image(ways: Ways, image: Pushed, pod_name: str, tmp_path: Path) -> None:
    """What was pulled through hookshim is what the container is made of: the hook reads what is in that image only."""
    assert pull(ways.through, image, login(PASSWORD)).code is grpc.StatusCode.OK
    pod = ways.through.run_pod(pod_name)
    hook = exec_hook(["sh", "-c", f"cat {image.path} >/seen/file"])
    container = ways.through.create(
        pod,
        "c",
        ["sleep", FOREVER],
        image=image.reference,
        mounts={tmp_path: "/seen"},
        annotations={KEY: json.dumps({"postStart": hook})},
    )
    ways.through.start(container)
    assert (tmp_path / "file").read_text() == image.text
    assert ways.through.status(container).image_ref == ways.direct.status(container).image_ref != ""


@pytest.mark.parametrize(
    "auth",
    [
        pytest.param(login(WRONG), id="wrong password"),
        pytest.param(field(3, encoded(WRONG)), id="wrong word"),
        pytest.param(field(3, "no base64"), id="no word"),
        pytest.param(field(1, "nobody") + field(2, PASSWORD), id="wrong user"),
        pytest.param(b"", id="none"),
        pytest.param(login(PASSWORD) + field(4, "https://registry.example"), id="another registry's"),
    ],
)
def test_a_pull_that_is_refused_fails_as_it_does_directly(ways: Ways, image: Pushed, auth: bytes) -> None:
    """With the same code and the same text, and nothing of the image is there."""
    direct, through = (pull(client, image, auth) for client in (ways.direct, ways.through))
    assert (through.code, through.message) == (direct.code, direct.message)
    assert Outcome.of(through) == Outcome.of(direct)
    assert through.code is not grpc.StatusCode.OK
    assert image.reference in through.message or "base64" in through.message
    assert image_id(ways.direct, image) == ""


def test_a_refused_pull_is_refused_by_the_registry(ways: Ways, registry: Registry, image: Pushed) -> None:
    """The wrong password got there, and nothing else; the right one is let in at the next pull."""
    assert "401" in pull(ways.through, image, login(WRONG)).message
    assert {verdict for _, verdict in registry.requests(image.name)} == {"nobody", "refused"}
    assert pull(ways.through, image, login(PASSWORD)).code is grpc.StatusCode.OK
    assert image_id(ways.direct, image) == image.id


def test_credentials_are_in_no_log_and_no_file_of_hookshims(ways: Ways, image: Pushed) -> None:
    """Right or wrong, pulled or refused, at the level that says most; nor in what it says when it ends."""
    for password in (WRONG, PASSWORD):
        pull(ways.through, image, login(password))
        pull(ways.through, image, field(3, encoded(password)))
    assert image_id(ways.through, image) == image.id
    assert ways.daemon.terminate() == 0
    files = [path for path in ways.daemon.directory.rglob("*") if path.is_file()]
    assert {ways.daemon.log, ways.daemon.state_dir / "journal.db"} <= set(files)
    assert b'"level": "debug"' in ways.daemon.log.read_bytes()
    secrets = [word.encode() for password in (WRONG, PASSWORD) for word in (password, encoded(password))]
    assert [
        (path, secret) for path in files for secret in [*secrets, USER.encode()] if secret in path.read_bytes()
    ] == []
