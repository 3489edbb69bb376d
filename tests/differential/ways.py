"""The same call twice: once at containerd's socket, once at hookshim's in front of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import grpc

from tests.differential.normal import Value, canonical, masked
from tests.support.cri import CRIClient, Reply
from tests.support.hookshimd import Hookshim

_RUNTIME = """
    Version RunPodSandbox StopPodSandbox RemovePodSandbox PodSandboxStatus ListPodSandbox CreateContainer
    StartContainer StopContainer RemoveContainer ListContainers ContainerStatus UpdateContainerResources
    ReopenContainerLog ExecSync Exec Attach PortForward ContainerStats ListContainerStats PodSandboxStats
    ListPodSandboxStats UpdateRuntimeConfig Status CheckpointContainer CheckpointPod RestorePod
    ListMetricDescriptors ListPodSandboxMetrics RuntimeConfig UpdatePodSandboxResources
    StreamPodSandboxes StreamContainers StreamContainerStats StreamPodSandboxStats StreamPodSandboxMetrics
    BottleContainer
"""
_IMAGE = "ListImages ImageStatus PullImage RemoveImage ImageFsInfo StreamImages BottleImage"

#: Every method of CRI v1 (kubernetes/cri-api, runtime/v1/api.proto; two that nobody has are added), but for
#: GetContainerEvents, which never ends.
METHODS = tuple(
    [f"/runtime.v1.RuntimeService/{name}" for name in _RUNTIME.split()]
    + [f"/runtime.v1.ImageService/{name}" for name in _IMAGE.split()]
    + ["/runtime.v1.BottleService/Bottle"]
)


def image_service(name: str) -> str:
    """The full path of a method of the ImageService."""
    return f"/runtime.v1.ImageService/{name}"


def field(number: int, value: bytes | str | int) -> bytes:
    """One field as protobuf writes it, for messages that are in no schema here."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a caller can see of a call, but for what differs each time."""

    code: grpc.StatusCode
    message: bytes
    response: Value
    headers: tuple[tuple[str, bytes], ...]
    trailers: tuple[tuple[str, bytes], ...]

    @classmethod
    def of(cls, reply: Reply, *, numbers: bool = True) -> Self:
        """What a reply comes to."""
        return cls(
            reply.code,
            masked(reply.message.encode()),
            canonical(reply.response, numbers=numbers),
            _pairs(reply.initial_metadata),
            _pairs(reply.trailing_metadata),
        )


def _pairs(metadata: object) -> tuple[tuple[str, bytes], ...]:
    pairs = metadata if isinstance(metadata, tuple) else ()
    return tuple(sorted((key, masked(v if isinstance(v, bytes) else v.encode())) for key, v in pairs))


@dataclass(frozen=True, slots=True)
class Ways:
    """Both ways to one containerd."""

    direct: CRIClient
    daemon: Hookshim

    @property
    def through(self) -> CRIClient:
        """The way through hookshim."""
        return self.daemon.cri

    def outcomes(self, method: str, request: bytes, *, numbers: bool = True) -> tuple[Outcome, Outcome]:
        """The call that changes nothing, made both ways: directly, and through hookshim."""
        direct = self.direct.call(method, request)
        through = self.through.call(method, request)
        return Outcome.of(direct, numbers=numbers), Outcome.of(through, numbers=numbers)
