"""A small synchronous CRI client: what the kubelet or crictl would say.

It serves containerd's socket and hookshim's alike, so that a test can ask both the same.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypedDict, TypeVar, Unpack

import grpc
from google.protobuf.message import Message

from tests.support.image import BUSYBOX
from tests.wire import cri_pb2 as cri

M = TypeVar("M", bound=Message)
Metadata = Sequence[tuple[str, str | bytes]]

#: Seconds an ordinary call may take. A call that waits for something (a stop, a hook) is given its own.
CALL_TIMEOUT = 30.0

_serial = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Reply:
    """Everything a unary call came to. ``response`` is empty if ``code`` is not OK."""

    code: grpc.StatusCode
    message: str
    response: bytes
    initial_metadata: Metadata
    trailing_metadata: Metadata


#: What a call is made through: its method, the seconds it may take (None: no bound), and what makes it.
Around = Callable[[str, float | None, Callable[[], Reply]], Reply]


class ContainerOptions(TypedDict, total=False):
    """What may be said of a container besides its name and command.

    ``mounts`` is node's path -> container's path, writable; ``user`` a uid.
    """

    annotations: Mapping[str, str]
    labels: Mapping[str, str]
    mounts: Mapping[Path, str]
    envs: Mapping[str, str]
    image: str
    user: int
    working_dir: str
    attempt: int


class CRIError(Exception):
    """A call was answered with an error."""

    def __init__(self, method: str, reply: Reply) -> None:
        super().__init__(f"{method}: {reply.code.name}: {reply.message}")
        self.method = method
        self.code = reply.code
        self.message = reply.message
        self.reply = reply


def unique(name: str) -> str:
    """``name`` with something that no other pod of this run has."""
    return f"{name}-{os.getpid()}-{next(_serial)}"


class CRIClient:
    """A client of one CRI socket. Use as a context manager, or close() it."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        #: Every call is made through this, for whoever wants to know of all of them.
        self.around: Around = lambda _method, _timeout, make: make()
        self._channel = grpc.insecure_channel(
            f"unix:{socket}",
            options=[
                # grpcio would send the percent-encoded path, which strict peers refuse
                ("grpc.default_authority", "localhost"),
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                # a peer that is restarted is tried again soon, not after grpc's two minutes
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.min_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 250),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )
        #: The config each pod was run with, which CreateContainer repeats.
        self._configs: dict[str, cri.PodSandboxConfig] = {}

    def connect(self, within: float = CALL_TIMEOUT) -> None:
        """Connect, if that was not done, and wait until the peer has begun HTTP/2. Raises TimeoutError."""
        try:
            grpc.channel_ready_future(self._channel).result(within)
        except grpc.FutureTimeoutError:
            raise TimeoutError(f"nobody begins HTTP/2 at {self.socket} within {within:g} s") from None

    def close(self) -> None:
        """Close the connection; calls under way end with CANCELLED."""
        self._channel.close()

    def __enter__(self) -> Self:
        """Nothing to do: the connection is made by the first call."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def call(
        self, method: str, request: bytes = b"", timeout: float | None = CALL_TIMEOUT, metadata: Metadata = ()
    ) -> Reply:
        """One unary call as bytes. Never raises for an error of the peer's: the reply says it.

        ``method`` is a name of the RuntimeService (``"Version"``) or a full path (``"/service/Method"``).
        """
        path = method if method.startswith("/") else f"/runtime.v1.RuntimeService/{method}"

        def make() -> Reply:
            stub: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(path)
            done = stub.future(request, timeout=timeout, metadata=tuple(metadata))
            response = b"" if done.exception() else done.result()
            return _reply(done, response)

        return self.around(method, timeout, make)

    def ask(self, method: str, request: Message, answer: type[M], timeout: float | None = CALL_TIMEOUT) -> M:
        """One unary call with messages. Raises CRIError."""
        reply = self.call(method, request.SerializeToString(), timeout)
        if reply.code is not grpc.StatusCode.OK:
            raise CRIError(method, reply)
        return answer.FromString(reply.response)

    def version(self, timeout: float | None = CALL_TIMEOUT) -> cri.VersionResponse:
        """The runtime's name and version."""
        return self.ask("Version", cri.VersionRequest(), cri.VersionResponse, timeout)

    def conditions(self, timeout: float | None = CALL_TIMEOUT) -> dict[str, str]:
        """The conditions that do not hold (``RuntimeReady``, ``NetworkReady``) and why; empty when ready."""
        answer = self.ask("Status", cri.StatusRequest(), cri.StatusResponse, timeout)
        return {c.type: f"{c.reason}: {c.message}" for c in answer.status.conditions if not c.status}

    def run_pod(
        self,
        name: str = "pod",
        *,
        annotations: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        namespace: str = "default",
        uid: str | None = None,
        host_network: bool = False,
        log_directory: Path | None = None,
        port_mappings: Sequence[cri.PortMapping] = (),
        timeout: float | None = CALL_TIMEOUT,
    ) -> str:
        """RunPodSandbox; the sandbox's id. Names itself to the runtime as the kubelet would, by labels."""
        uid = uid or str(uuid.uuid4())
        identity = {
            "io.kubernetes.pod.name": name,
            "io.kubernetes.pod.namespace": namespace,
            "io.kubernetes.pod.uid": uid,
        }
        network = cri.NamespaceMode.NODE if host_network else cri.NamespaceMode.POD
        options = cri.NamespaceOption(network=network, pid=cri.NamespaceMode.CONTAINER)
        config = cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name=name, uid=uid, namespace=namespace),
            log_directory=str(log_directory or ""),
            port_mappings=port_mappings,
            labels={**identity, **(labels or {})},
            annotations=dict(annotations or {}),
            linux=cri.LinuxPodSandboxConfig(
                security_context=cri.LinuxSandboxSecurityContext(namespace_options=options)
            ),
        )
        if not host_network:
            config.hostname = name[:63]
        request = cri.RunPodSandboxRequest(config=config)
        pod = self.ask("RunPodSandbox", request, cri.RunPodSandboxResponse, timeout).pod_sandbox_id
        self._configs[pod] = config
        return pod

    def container_request(
        self, pod: str, name: str, command: Sequence[str], **options: Unpack[ContainerOptions]
    ) -> cri.CreateContainerRequest:
        """What ``create`` sends."""
        config = self._configs.get(pod, cri.PodSandboxConfig())
        context = cri.LinuxContainerSecurityContext(
            # the container's command is PID 1 of its own namespace, as under the kubelet
            namespace_options=cri.NamespaceOption(
                network=config.linux.security_context.namespace_options.network,
                pid=cri.NamespaceMode.CONTAINER,
            ),
        )
        if "user" in options:
            context.run_as_user.value = options["user"]
        return cri.CreateContainerRequest(
            pod_sandbox_id=pod,
            config=cri.ContainerConfig(
                metadata=cri.ContainerMetadata(name=name, attempt=options.get("attempt", 0)),
                image=cri.ImageSpec(image=options.get("image", BUSYBOX)),
                command=command,
                working_dir=options.get("working_dir", ""),
                envs=[cri.KeyValue(key=k, value=v.encode()) for k, v in options.get("envs", {}).items()],
                mounts=[
                    cri.Mount(host_path=str(node), container_path=inside)
                    for node, inside in options.get("mounts", {}).items()
                ],
                labels={
                    **config.labels,
                    "io.kubernetes.container.name": name,
                    **options.get("labels", {}),
                },
                annotations=dict(options.get("annotations", {})),
                log_path=f"{name}.log" if config.log_directory else "",
                linux=cri.LinuxContainerConfig(security_context=context),
            ),
            sandbox_config=config,
        )

    def create(
        self,
        pod: str,
        name: str,
        command: Sequence[str],
        *,
        timeout: float | None = CALL_TIMEOUT,
        **options: Unpack[ContainerOptions],
    ) -> str:
        """CreateContainer; the container's id."""
        request = self.container_request(pod, name, command, **options)
        return self.ask("CreateContainer", request, cri.CreateContainerResponse, timeout).container_id

    def start(self, container: str, timeout: float | None = CALL_TIMEOUT) -> None:
        """StartContainer."""
        self.ask("StartContainer", cri.StartContainerRequest(container_id=container), cri.Nothing, timeout)

    def stop(self, container: str, grace: int, timeout: float | None = None) -> None:
        """StopContainer with ``grace`` seconds; without ``timeout`` the call may take two minutes more."""
        request = cri.StopContainerRequest(container_id=container, timeout=grace)
        self.ask("StopContainer", request, cri.Nothing, grace + 120 if timeout is None else timeout)

    def remove(self, container: str, timeout: float | None = CALL_TIMEOUT) -> None:
        """RemoveContainer."""
        request = cri.RemoveContainerRequest(container_id=container)
        self.ask("RemoveContainer", request, cri.Nothing, timeout)

    def status(self, container: str, timeout: float | None = CALL_TIMEOUT) -> cri.ContainerStatus:
        """ContainerStatus."""
        request = cri.ContainerStatusRequest(container_id=container)
        return self.ask("ContainerStatus", request, cri.ContainerStatusResponse, timeout).status

    def state(self, container: str, timeout: float | None = CALL_TIMEOUT) -> str:
        """The container's state by CRI's name, as ``CONTAINER_RUNNING``."""
        return cri.ContainerState.Name(self.status(container, timeout).state)

    def list(self, pod: str = "", timeout: float | None = CALL_TIMEOUT) -> Sequence[cri.Container]:
        """ListContainers, all or one pod's."""
        request = cri.ListContainersRequest(filter=cri.ContainerFilter(pod_sandbox_id=pod))
        return self.ask("ListContainers", request, cri.ListContainersResponse, timeout).containers

    def exec_sync(
        self, container: str, command: Sequence[str], limit: int = 0, timeout: float | None = CALL_TIMEOUT
    ) -> cri.ExecSyncResponse:
        """ExecSync; ``limit`` is the runtime's own bound in seconds (0: none)."""
        request = cri.ExecSyncRequest(container_id=container, cmd=command, timeout=limit)
        return self.ask("ExecSync", request, cri.ExecSyncResponse, timeout)

    def stop_pod(self, pod: str, timeout: float | None = CALL_TIMEOUT) -> None:
        """StopPodSandbox."""
        request = cri.StopPodSandboxRequest(pod_sandbox_id=pod)
        self.ask("StopPodSandbox", request, cri.Nothing, timeout)

    def remove_pod(self, pod: str, timeout: float | None = CALL_TIMEOUT) -> None:
        """RemovePodSandbox, with its containers."""
        request = cri.RemovePodSandboxRequest(pod_sandbox_id=pod)
        self.ask("RemovePodSandbox", request, cri.Nothing, timeout)
        self._configs.pop(pod, None)

    def pod_status(self, pod: str, timeout: float | None = CALL_TIMEOUT) -> cri.PodSandboxStatus:
        """PodSandboxStatus."""
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=pod)
        return self.ask("PodSandboxStatus", request, cri.PodSandboxStatusResponse, timeout).status

    def pod_ip(self, pod: str) -> str:
        """The pod's address on the node's bridge; empty on the host's network."""
        return self.pod_status(pod).network.ip

    def list_pods(self, timeout: float | None = CALL_TIMEOUT) -> Sequence[cri.PodSandbox]:
        """ListPodSandbox."""
        return self.ask("ListPodSandbox", cri.ListPodSandboxRequest(), cri.ListPodSandboxResponse, timeout).items

    def images(self, timeout: float | None = CALL_TIMEOUT) -> set[str]:
        """The tags of all images."""
        answer = self.ask(
            "/runtime.v1.ImageService/ListImages", cri.ListImagesRequest(), cri.ListImagesResponse, timeout
        )
        return {tag for image in answer.images for tag in image.repo_tags}


def _reply(call: grpc.Call, response: bytes) -> Reply:
    return Reply(
        code=call.code(),
        message=call.details() or "",
        response=response,
        initial_metadata=_metadata(call.initial_metadata()),
        trailing_metadata=_metadata(call.trailing_metadata()),
    )


def _metadata(received: object) -> Metadata:
    pairs = received if isinstance(received, tuple) else ()
    return tuple((key, value) for key, value in pairs)
