"""What is done with pods and containers: steps that take a caller's time, each measured by itself.

One caller, Python's grpcio; its own time is far below a millisecond of each step and the same on every way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.cri import CRIClient, unique
from tests.support.image import FOREVER
from tests.wire import cri_pb2 as cri

#: The calls of a pod's life, in their order.
CYCLE = (
    "RunPodSandbox",
    "CreateContainer",
    "StartContainer",
    "StopContainer",
    "RemoveContainer",
    "StopPodSandbox",
    "RemovePodSandbox",
)

#: A command that does nothing, as a hook and as an ExecSync of the caller's.
NOTHING = ["true"]

#: Seconds that a container has to end by itself. It ends at once.
_GRACE = 30

_KEY = "hookshim.dev/lifecycle"
_EXEC = {"exec": {"command": NOTHING}}
_EXECS = {_KEY: json.dumps({"postStart": _EXEC, "preStop": _EXEC})}
_NO_OP = {_KEY: json.dumps({"preStop": {"sleep": {"seconds": 0}}})}


class Steps:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """What is done inside counts as this step."""
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


def cycle(client: CRIClient) -> dict[str, float]:
    """One pod with one container and no hooks, from RunPodSandbox to RemovePodSandbox; the seconds of each call."""
    steps = Steps()
    with steps.step(CYCLE[0]):
        pod = client.run_pod(unique("bench"))
    request = sleeping(client, pod, "c", {})
    with steps.step(CYCLE[1]):
        container = client.ask("CreateContainer", request, cri.CreateContainerResponse).container_id
    calls: tuple[Callable[[], None], ...] = (
        lambda: client.start(container),
        lambda: client.stop(container, _GRACE),
        lambda: client.remove(container),
        lambda: client.stop_pod(pod),
        lambda: client.remove_pod(pod),
    )
    for name, call in zip(CYCLE[2:], calls, strict=True):
        with steps.step(name):
            call()
    return steps.seconds


def execs(client: CRIClient, pod: str, *, by_caller: bool) -> dict[str, float]:
    """A container started and stopped with a command after the start and one before the stop; seconds of both.

    ``by_caller``: the caller runs them with ExecSync, as a kubelet does; else they are hooks.
    """
    steps = Steps()
    container = _created(client, pod, {} if by_caller else _EXECS)
    with steps.step("start"):
        client.start(container)
        if by_caller:
            client.exec_sync(container, NOTHING)
    with steps.step("stop"):
        if by_caller:
            client.exec_sync(container, NOTHING)
        client.stop(container, _GRACE)
    client.remove(container)
    return steps.seconds


def stop(client: CRIClient, pod: str, *, hook: bool) -> float:
    """A container stopped, with a PreStop that does nothing or without hooks; the seconds of StopContainer."""
    steps = Steps()
    container = _created(client, pod, _NO_OP if hook else {})
    client.start(container)
    with steps.step("stop"):
        client.stop(container, _GRACE)
    client.remove(container)
    return steps.seconds["stop"]


def sleeping(client: CRIClient, pod: str, name: str, annotations: dict[str, str]) -> cri.CreateContainerRequest:
    """A container that TERM ends at once, from its first moment on.

    It shares its pod's PID namespace: a PID 1 would not be ended by a signal that it has no handler for yet.
    """
    request = client.container_request(pod, name, ["sleep", FOREVER], annotations=annotations)
    request.config.linux.security_context.namespace_options.pid = cri.NamespaceMode.POD
    return request


def _created(client: CRIClient, pod: str, annotations: dict[str, str]) -> str:
    request = sleeping(client, pod, unique("c"), annotations)
    return client.ask("CreateContainer", request, cri.CreateContainerResponse).container_id
