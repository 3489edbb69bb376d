"""The same call several times: at containerd's socket, and at hookshim's in front of it, with either front door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

import grpc

from tests.differential.normal import Value, canonical, masked
from tests.support.cri import CRIClient, Reply

T = TypeVar("T")

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


def unlike(found: Mapping[str, T]) -> dict[str, T]:
    """All of what was found by the names of the ways, if it is not the same everywhere; else nothing."""
    first, *others = found.values()
    return dict(found) if any(other != first for other in others) else {}


@dataclass(frozen=True, slots=True)
class Ways:
    """All ways to one containerd: the direct one, and those through hookshim by its front doors' names."""

    direct: CRIClient
    through: Mapping[str, CRIClient]

    @property
    def all(self) -> dict[str, CRIClient]:
        """Each way by its name."""
        return {"direct": self.direct, **self.through}

    def outcomes(self, method: str, request: bytes, *, numbers: bool = True) -> dict[str, Outcome]:
        """The call that changes nothing, made all ways; by the names of the ways."""
        return {name: Outcome.of(client.call(method, request), numbers=numbers) for name, client in self.all.items()}
