"""Streams: the events of the runtime, and the URLs at which containerd itself streams to the client."""

from __future__ import annotations

import asyncio

import aiohttp
import grpc
import pytest

from tests.differential.normal import Value, canonical, masked
from tests.differential.ways import Ways, field, unlike
from tests.support.cri import CRIClient
from tests.support.waiting import PATIENCE, until
from tests.wire import cri_pb2 as cri

EVENTS = "/runtime.v1.RuntimeService/GetContainerEvents"

#: ContainerEventType.CONTAINER_DELETED_EVENT.
_DELETED = 3

#: Channels of a websocket stream (kubernetes, v4.channel.k8s.io): the first byte of each message.
_STDIN, _STDOUT, _STDERR, _ERROR = range(4)


def lead_a_life(client: CRIClient, pod_name: str) -> tuple[str, str]:
    """Everything that can happen to a pod and its container; their ids."""
    pod = client.run_pod(pod_name)
    container = client.create(pod, "main", ["sleep", "3600"])
    client.start(container)
    client.stop(container, 0)
    client.remove(container)
    client.stop_pod(pod)
    client.remove_pod(pod)
    return pod, container


def events_of(client: CRIClient, pod_name: str) -> list[Value] | tuple[grpc.StatusCode, bytes]:
    """What GetContainerEvents says of the life of one pod with one container; or how it fails."""
    with grpc.insecure_channel(f"unix:{client.socket}", [("grpc.default_authority", "localhost")]) as channel:
        listen: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(EVENTS)
        call = listen(b"", timeout=PATIENCE)
        # Another pod first: 1.7 gives one more event to a listener that has left, and nobody is told when 2.x listens.
        lead_a_life(client, f"{pod_name}-before")
        try:
            next(call)
            pod, container = lead_a_life(client, pod_name)
            about = tuple(field(1, one) for one in (pod, container))
            found = []
            for event in call:
                if event.startswith(about):
                    found.append(canonical(event))
                if event.startswith(about[0] + field(2, _DELETED)):
                    return found
        except grpc.RpcError:
            return call.code(), masked(call.details().encode())
    raise AssertionError("the events ended by themselves")


def test_events_are_the_same(ways: Ways, pod_name: str) -> None:
    """The events of a pod's life arrive through hookshim as they do directly, in a containerd that has any."""
    found = {way: events_of(client, pod_name) for way, client in ways.all.items()}
    assert unlike(found) == {}
    direct = found["direct"]
    if isinstance(direct, list):
        assert len(direct) == 8
    else:
        assert direct[0] is grpc.StatusCode.UNIMPLEMENTED


@pytest.fixture
def container(ways: Ways, pod_name: str) -> tuple[str, str]:
    """A pod and a running container in it that echoes lines, and serves what it is sent at port 7000."""
    pod = ways.direct.run_pod(pod_name)
    script = "nc -ll -p 7000 -e cat & while read -r line; do echo got $line; done"
    request = ways.direct.container_request(pod, "main", ["sh", "-c", script])
    request.config.stdin = True
    made = ways.direct.ask("CreateContainer", request, cri.CreateContainerResponse).container_id
    ways.direct.start(made)
    probe = ["sh", "-c", "echo | nc -w 5 127.0.0.1 7000"]
    until(lambda: ways.direct.exec_sync(made, probe).stdout == b"\n", "the container serves its port")
    return pod, made


async def streamed(url: str, *, stdin: bytes = b"", end: bytes = b"") -> dict[int, bytes]:
    """Everything that comes at a streaming URL, by channel: to the stream's end, or until one ends with ``end``."""
    received: dict[int, bytes] = {}
    async with (
        asyncio.timeout(PATIENCE),
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=("v4.channel.k8s.io",)) as stream,
    ):
        if stdin:
            await stream.send_bytes(bytes([_STDIN]) + stdin)
        async for message in stream:
            received[message.data[0]] = received.get(message.data[0], b"") + message.data[1:]
            if end and any(content.endswith(end) for content in received.values()):
                break
    return received


async def test_exec_streams(ways: Ways, container: tuple[str, str]) -> None:
    """At the URL that Exec answers with, the command runs: its input, both outputs, and its exit status arrive."""
    command = ["sh", "-c", "read -r line; echo out $line; echo err >&2; exit 3"]
    request = cri.ExecRequest(container_id=container[1], cmd=command, stdin=True, stdout=True, stderr=True)
    urls = [_url(client, "Exec", request) for client in ways.all.values()]
    assert len({masked(url.encode()) for url in urls}) == 1
    for url in urls:
        received = await streamed(url, stdin=b"in\n")
        assert (received[_STDOUT], received[_STDERR]) == (b"out in\n", b"err\n")
        assert b'"reason":"ExitCode","message":"3"' in received[_ERROR]


async def test_attach_streams(ways: Ways, container: tuple[str, str]) -> None:
    """At the URL that Attach answers with, a line that is sent is answered by the container's process."""
    request = cri.AttachRequest(container_id=container[1], stdin=True, stdout=True, stderr=True)
    urls = [_url(client, "Attach", request) for client in ways.all.values()]
    assert len({masked(url.encode()) for url in urls}) == 1
    for url in urls:
        assert (await streamed(url, stdin=b"hello\n", end=b"\n"))[_STDOUT] == b"got hello\n"


async def test_port_forward_streams(ways: Ways, container: tuple[str, str]) -> None:
    """At the URL that PortForward answers with, bytes go to the pod's port and come back."""
    request = cri.PortForwardRequest(pod_sandbox_id=container[0], port=[7000])
    urls = [_url(client, "PortForward", request) for client in ways.all.values()]
    assert len({masked(url.encode()) for url in urls}) == 1
    for url in urls:
        received = await streamed(url, stdin=b"there and back", end=b"back")
        # Each channel begins with the port's number.
        assert received[_STDIN] == (7000).to_bytes(2, "little") + b"there and back"


def _url(client: CRIClient, method: str, request: cri.ExecRequest | cri.AttachRequest | cri.PortForwardRequest) -> str:
    return client.ask(method, request, cri.ExecResponse).url
