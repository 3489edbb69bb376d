"""A fake runtime that has containers: a node's, which are started and stopped, for what is measured with hundreds.

A real one takes minutes to make 500 pods, and more memory than a laptop has to spare. Like ``tests.support.bench.fake``
it is not there to show how anything behaves: a container starts and stops at once, always. It is a process of its own:
``python -m tests.support.bench.node SOCKET FILE``, with the containers in FILE.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import uvloop

from tests.support.bench.fake import VERSION, listening, process
from tests.support.bench.load import framed
from tests.support.process import Process
from tests.wire import cri_pb2 as cri

_SERVICE = "/runtime.v1.RuntimeService/"

#: Where hookshim tells its events.
_PUBLISH = "/containerd.services.events.v1.Events/Publish"

#: Streams that a runtime leaves open while nothing happens.
_WAITING = ("/Wait", "/Subscribe")

#: gRPC's numbers (status codes).
_NOT_FOUND, _UNIMPLEMENTED = "5", "12"


_STATES = {
    "CONTAINER_CREATED": cri.CONTAINER_CREATED,
    "CONTAINER_RUNNING": cri.CONTAINER_RUNNING,
    "CONTAINER_EXITED": cri.CONTAINER_EXITED,
}


@dataclass(frozen=True, slots=True)
class Given:
    """A container that the node has from its beginning, in a pod of its own; ``state`` as CRI names it."""

    id: str
    pod: str
    state: str
    started: bool
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Container:
    given: Given
    state: cri.ContainerState
    started_at: int
    finished_at: int

    def listed(self) -> cri.Container:
        return cri.Container(
            id=self.given.id,
            pod_sandbox_id=self.given.pod,
            metadata=cri.ContainerMetadata(name="c"),
            state=self.state,
            annotations=self.given.annotations,
        )


class Node:
    """What it knows. Answers messages with messages."""

    def __init__(self, containers: Iterable[Given]) -> None:
        self._containers = {given.id: _made(given) for given in containers}
        self._pods = {one.given.pod for one in self._containers.values()}
        self._methods: dict[str, Callable[[bytes], bytes | None]] = {
            f"{_SERVICE}Version": lambda _: VERSION,
            f"{_SERVICE}ListContainers": self._list,
            f"{_SERVICE}PodSandboxStatus": self._pod,
            f"{_SERVICE}ContainerStatus": self._status,
            f"{_SERVICE}StartContainer": self._start,
            f"{_SERVICE}StopContainer": self._stop,
            _PUBLISH: lambda _: b"",
        }

    def answer(self, method: str, message: bytes) -> bytes | str | None:
        """As ``tests.support.bench.fake.Runtime``."""
        known = self._methods.get(method)
        if known is None:
            return None if method.endswith(_WAITING) else _UNIMPLEMENTED
        answer = known(message)
        return _NOT_FOUND if answer is None else framed(answer)

    def _list(self, message: bytes) -> bytes:
        which = cri.ListContainersRequest.FromString(message).filter
        if which.id:
            found = [one for one in [self._containers.get(which.id)] if one is not None]
        else:
            found = [*self._containers.values()]
        if which.pod_sandbox_id:
            found = [one for one in found if one.given.pod == which.pod_sandbox_id]
        if which.HasField("state"):
            found = [one for one in found if one.state == which.state.state]
        return cri.ListContainersResponse(containers=[one.listed() for one in found]).SerializeToString()

    def _pod(self, message: bytes) -> bytes | None:
        pod = cri.PodSandboxStatusRequest.FromString(message).pod_sandbox_id
        if pod not in self._pods:
            return None
        status = cri.PodSandboxStatus(
            id=pod,
            metadata=cri.PodSandboxMetadata(name=f"pod-{pod[-8:]}", uid=pod[-8:], namespace="default"),
            network=cri.PodSandboxNetworkStatus(ip="127.0.0.1"),
        )
        return cri.PodSandboxStatusResponse(status=status).SerializeToString()

    def _status(self, message: bytes) -> bytes | None:
        found = self._containers.get(cri.ContainerStatusRequest.FromString(message).container_id)
        if found is None:
            return None
        status = cri.ContainerStatus(
            id=found.given.id,
            metadata=cri.ContainerMetadata(name="c"),
            state=found.state,
            started_at=found.started_at,
            finished_at=found.finished_at,
            annotations=found.given.annotations,
        )
        return cri.ContainerStatusResponse(status=status).SerializeToString()

    def _start(self, message: bytes) -> bytes | None:
        found = self._containers.get(cri.StartContainerRequest.FromString(message).container_id)
        if found is None:
            return None
        found.state, found.started_at = cri.CONTAINER_RUNNING, time.time_ns()
        return b""

    def _stop(self, message: bytes) -> bytes:
        found = self._containers.get(cri.StopContainerRequest.FromString(message).container_id)
        if found is not None and found.state == cri.CONTAINER_RUNNING:
            found.state, found.finished_at = cri.CONTAINER_EXITED, time.time_ns()
        return b""


def _made(given: Given) -> _Container:
    state, now = _STATES[given.state], time.time_ns()
    ended = state == cri.CONTAINER_EXITED
    return _Container(given, state, now - 60_000_000_000 if given.started else 0, now if ended else 0)


@contextmanager
def node(containers: Iterable[Given]) -> Iterator[tuple[Path, Process]]:
    """The socket and the process of a node that has these."""
    with tempfile.NamedTemporaryFile("w", prefix="hookshim-n-", suffix=".json") as file:
        json.dump([asdict(given) for given in containers], file)
        file.flush()
        with process("tests.support.bench.node", file.name) as made:
            yield made


if __name__ == "__main__":
    uvloop.run(
        listening(Path(sys.argv[1]), Node(Given(**one) for one in json.loads(Path(sys.argv[2]).read_text())).answer)
    )
