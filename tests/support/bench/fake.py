"""A runtime that has no containers and tells of as many as one wants: the backend for lists and for deliveries.

A real one with 1,000 containers takes minutes to make them and most of the time of each call, and it starts and stops
far fewer containers in a second than hookshim delivers hooks. This one has each answer ready as bytes, so that what is
measured is what is in front of it. It is a process of its own: ``python -m tests.support.bench.fake SOCKET``.

It claims: the label ``listed=N`` lists N containers; the id SHORT is the abbreviation of a container that nobody has
asked for yet, so that every call with it is about another one; a container runs until it is stopped, and has a PreStop
that does nothing.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import uvloop

from tests.support.bench.http2 import Answer, Connection
from tests.support.bench.load import framed
from tests.support.process import Process
from tests.support.waiting import until
from tests.wire import cri_pb2 as cri

#: The abbreviated id of a new container.
SHORT = "f"

#: The label by whose value containers are listed.
LISTED = "listed"

#: What the containers declare.
HOOKS = {"hookshim.dev/lifecycle": json.dumps({"preStop": {"sleep": {"seconds": 0}}})}

_POD = "5" * 64
_SERVICE = "/runtime.v1.RuntimeService/"

#: Streams that a runtime leaves open while nothing happens.
_WAITING = ("/Wait", "/Subscribe")


class Runtime:
    """What the fake knows. Answers messages with messages."""

    def __init__(self) -> None:
        self._made = 0
        self._stopped: set[str] = set()
        self._methods: dict[str, Callable[[bytes], bytes]] = {
            f"{_SERVICE}Version": lambda _: VERSION,
            f"{_SERVICE}ListContainers": self._list,
            f"{_SERVICE}PodSandboxStatus": lambda _: _POD_STATUS,
            f"{_SERVICE}ContainerStatus": self._status,
            f"{_SERVICE}StopContainer": self._stop,
        }

    def answer(self, method: str, message: bytes) -> bytes | str | None:
        """The answer's message with its prefix; an error's number; None: nothing happens for as long as one waits."""
        known = self._methods.get(method)
        if known is not None:
            return framed(known(message))
        return None if method.endswith(_WAITING) else "12"  # UNIMPLEMENTED

    def _list(self, message: bytes) -> bytes:
        if ready := _listed(message):
            return ready
        asked = cri.ListContainersRequest.FromString(message).filter
        if not asked.id:
            return b""
        if asked.id == SHORT:
            self._made += 1
        name = f"{self._made:064x}" if asked.id == SHORT else asked.id
        state = cri.CONTAINER_EXITED if name in self._stopped else cri.CONTAINER_RUNNING
        return cri.ListContainersResponse(
            containers=[
                cri.Container(
                    id=name,
                    pod_sandbox_id=_POD,
                    metadata=cri.ContainerMetadata(name="c"),
                    state=state,
                    annotations=HOOKS,
                )
            ]
        ).SerializeToString()

    def _status(self, message: bytes) -> bytes:
        name = cri.ContainerStatusRequest.FromString(message).container_id
        ended = name in self._stopped
        status = cri.ContainerStatus(
            id=name,
            metadata=cri.ContainerMetadata(name="c"),
            state=cri.CONTAINER_EXITED if ended else cri.CONTAINER_RUNNING,
            started_at=1,
            finished_at=2 if ended else 0,
            annotations=HOOKS,
        )
        return cri.ContainerStatusResponse(status=status).SerializeToString()

    def _stop(self, message: bytes) -> bytes:
        self._stopped.add(cri.StopContainerRequest.FromString(message).container_id)
        return b""


@lru_cache(64)
def _listed(message: bytes) -> bytes:
    """The list that is asked for by the label; empty if none is."""
    count = cri.ListContainersRequest.FromString(message).filter.label_selector.get(LISTED)
    return listing(int(count)) if count else b""


def listing(count: int) -> bytes:
    """A ListContainersResponse as a kubelet's containers make it: about 800 bytes a container."""
    answer = cri.ListContainersResponse(containers=[_container(number) for number in range(count)])
    # labels in the same order in every process: who asks knows the bytes that are to come
    return answer.SerializeToString(deterministic=True)


def _container(number: int) -> cri.Container:
    pod = f"{number:08x}-0000-4000-8000-000000000000"
    return cri.Container(
        id=f"{number:064x}",
        pod_sandbox_id=f"{number:064x}",
        metadata=cri.ContainerMetadata(name="app"),
        image=cri.ImageSpec(image="registry.example.com/team/app:1.2.3"),
        image_ref=f"sha256:{number:064x}",
        state=cri.CONTAINER_RUNNING,
        created_at=1_700_000_000_000_000_000 + number,
        labels={
            "io.kubernetes.container.name": "app",
            "io.kubernetes.pod.name": f"app-5d9f6c7b8-{number:05d}",
            "io.kubernetes.pod.namespace": "default",
            "io.kubernetes.pod.uid": pod,
        },
        annotations={
            "io.kubernetes.container.hash": f"{number:08x}",
            "io.kubernetes.container.ports": '[{"name":"http","containerPort":8080,"protocol":"TCP"}]',
            "io.kubernetes.container.restartCount": "0",
            "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
            "io.kubernetes.container.terminationMessagePolicy": "File",
            "io.kubernetes.pod.terminationGracePeriod": "30",
        },
    )


#: The answer to Version.
VERSION = cri.VersionResponse(
    version="0.1.0", runtime_name="fake", runtime_version="0", runtime_api_version="v1"
).SerializeToString()

_POD_STATUS = cri.PodSandboxStatusResponse(
    status=cri.PodSandboxStatus(
        id=_POD,
        metadata=cri.PodSandboxMetadata(name="pod", uid="u", namespace="default"),
        network=cri.PodSandboxNetworkStatus(ip="192.0.2.1"),
    )
).SerializeToString()


@contextmanager
def fake_runtime() -> Iterator[tuple[Path, Process]]:
    """The socket and the process of a fake runtime."""
    with process("tests.support.bench.fake") as made:
        yield made


@contextmanager
def process(module: str, *arguments: str) -> Iterator[tuple[Path, Process]]:
    """The socket and the process of a module that listens at the socket that is its first argument."""
    directory = Path(tempfile.mkdtemp(prefix="hookshim-f-"))
    socket = directory / "f.sock"
    made = Process([sys.executable, "-m", module, socket, *arguments], directory / "fake.log")
    try:
        until(lambda: socket.exists() or made.exit_status is not None, "the fake runtime listens")
        if made.exit_status is not None:
            raise RuntimeError(f"the fake runtime ended at its start:\n{made.tail()}")
        yield socket, made
    finally:
        made.kill()
        shutil.rmtree(directory)


async def listening(socket: Path, answer: Answer) -> None:
    """Answer at the socket until the process is ended."""
    server = await asyncio.get_running_loop().create_unix_server(lambda: Connection(answer), str(socket))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(listening(Path(sys.argv[1]), Runtime().answer))
