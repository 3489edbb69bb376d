"""The bench's fake runtime answers as a runtime would, to clients that know nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tests.support.bench.fake import LISTED, SHORT, fake_runtime, listing
from tests.support.cri import CRIClient
from tests.wire import cri_pb2 as cri


@pytest.fixture(scope="module")
def client() -> Iterator[CRIClient]:
    """A client of a fake runtime, Python's grpcio: not the load generator's HTTP/2, and with small windows."""
    with fake_runtime() as (socket, _), CRIClient(socket) as made:
        yield made


def listed(client: CRIClient, count: int) -> bytes:
    """The answer to a call that lists so many containers."""
    which = cri.ContainerFilter(label_selector={LISTED: str(count)})
    reply = client.call("ListContainers", cri.ListContainersRequest(filter=which).SerializeToString())
    assert reply.code is grpc.StatusCode.OK
    return reply.response


def found(client: CRIClient, container: str) -> cri.Container:
    """The container that an id, whole or abbreviated, is of."""
    request = cri.ListContainersRequest(filter=cri.ContainerFilter(id=container))
    [one] = client.ask("ListContainers", request, cri.ListContainersResponse).containers
    return one


@pytest.mark.parametrize("count", [1, 200, 1000])
def test_as_many_containers_are_listed_as_were_asked_for(client: CRIClient, count: int) -> None:
    """A list comes whole, also one that is larger than any window."""
    assert listed(client, count) == listing(count)
    assert len(cri.ListContainersResponse.FromString(listing(count)).containers) == count


def test_large_lists_come_whole_to_many_callers_at_once(client: CRIClient) -> None:
    """Streams that wait for the connection's window all get their bytes, each its own."""
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda count: (count, listed(client, count)), [1000, 1, 500, 200] * 8))
    assert all(answer == listing(count) for count, answer in answers)


def test_the_abbreviated_id_is_another_container_every_time(client: CRIClient) -> None:
    """Each call with it is about a container that nobody has stopped yet."""
    first, second = found(client, SHORT), found(client, SHORT)
    assert first.id != second.id
    assert found(client, first.id).id == first.id


def test_a_container_runs_until_it_is_stopped(client: CRIClient) -> None:
    """Its state and its status say the same, and the others go on."""
    stopped, other = found(client, SHORT).id, found(client, SHORT).id
    assert client.state(stopped) == "CONTAINER_RUNNING"
    client.stop(stopped, 30)
    assert client.state(stopped) == "CONTAINER_EXITED"
    assert found(client, stopped).state == cri.CONTAINER_EXITED
    assert found(client, other).state == cri.CONTAINER_RUNNING


def test_what_it_does_not_know_is_unimplemented(client: CRIClient) -> None:
    """A method without an answer is refused as by any server."""
    assert client.call("RunPodSandbox").code is grpc.StatusCode.UNIMPLEMENTED


def test_who_waits_for_an_end_is_not_answered(client: CRIClient) -> None:
    """Nothing ever happens to its containers, and the connection goes on while somebody waits for it."""
    waited = client.call("/containerd.services.tasks.v1.Tasks/Wait", timeout=0.2)
    assert waited.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert client.version().runtime_name == "fake"
