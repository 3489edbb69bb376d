"""Asks the daemon's admin socket, for the command line: one question, one answer, and errors that a person can read."""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message

from server.admin.answers import ContainerHooks, Done, Status
from server.admin.messages import SERVICE, to_hooks, to_status
from server.backend import LIMITS, unix_target
from server.log import printable
from server.wire.hookshim.admin.v1 import admin_pb2 as pb
from shim.errors import HookshimError

#: Seconds that a question waits for its answer: a retry or a skip waits for the disk and the runtime in between.
TIMEOUT = 15.0

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    *LIMITS,
    ("grpc.default_authority", "localhost"),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)

_Answer = TypeVar("_Answer", bound=Message)


class AdminError(HookshimError):
    """The daemon could not be asked, or has refused; the message is for people and says what to do.

    ``unanswered``: nobody answers at the socket, as when no daemon runs. ``code`` is the gRPC status name.
    """

    def __init__(self, message: str, code: str = "UNAVAILABLE", *, unanswered: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.unanswered = unanswered


class AdminClient:
    """Asks the daemon at ``path``; a context manager.

    Every method raises AdminError, and waits ``timeout`` seconds at most.
    """

    def __init__(self, path: Path, timeout: float = TIMEOUT) -> None:
        self.path = path
        self._timeout = timeout
        self._channel = grpc.insecure_channel(unix_target(path), options=_OPTIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def status(self) -> Status:
        """How the daemon does; also one that does not serve yet answers."""
        return to_status(self._ask("Status", pb.StatusRequest(), pb.StatusResponse))

    def hooks(self, container_id: str) -> ContainerHooks:
        """The hooks that apply to a container, by its id or the beginning of it."""
        return to_hooks(self._ask("Hooks", pb.HooksRequest(container_id=container_id), pb.HooksResponse))

    def retry(self, delivery_id: str) -> Done:
        """Send a delivery again, or now instead of later, by its id or the beginning of it."""
        request = pb.RetryDeliveryRequest(delivery_id=delivery_id)
        answer = self._ask("RetryDelivery", request, pb.RetryDeliveryResponse)
        return Done(answer.delivery_id, answer.message)

    def skip(self, delivery_id: str, reason: str) -> Done:
        """Take an open delivery as not to be made; ``reason`` (1 to 200 printable characters) is kept with it."""
        request = pb.SkipDeliveryRequest(delivery_id=delivery_id, reason=reason)
        answer = self._ask("SkipDelivery", request, pb.SkipDeliveryResponse)
        return Done(answer.delivery_id, answer.message)

    def metrics(self) -> str:
        """Prometheus' text."""
        return self._ask("Metrics", pb.MetricsRequest(), pb.MetricsResponse).text

    def _ask(self, method: str, request: Message, kind: type[_Answer]) -> _Answer:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(f"/{SERVICE}/{method}")
        try:
            raw = call(request.SerializeToString(), timeout=self._timeout)
        except grpc.RpcError as error:
            raise self._error(error.code(), error.details() or "") from error
        return kind.FromString(raw)

    def _error(self, code: grpc.StatusCode, details: str) -> AdminError:
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return AdminError(f"the daemon at {self.path} has not answered for {self._timeout:g} s", code.name)
        # What no daemon has said is grpc's story of its dialling.
        if code is grpc.StatusCode.UNAVAILABLE and (why := self._unreachable()):
            return AdminError(f"the daemon does not answer at {self.path}: {why}", code.name, unanswered=True)
        return AdminError(printable(details), code.name)

    def _unreachable(self) -> str:
        """Why nobody can be asked at the socket; empty if somebody can."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self.path))
            except FileNotFoundError:
                return "there is no such socket; is hookshim running, and is this its `admin` socket?"
            except ConnectionRefusedError:
                return "nobody listens there; is hookshim running?"
            except PermissionError:
                return "permission denied; the socket is its owner's alone: ask as root"
            except OSError as error:
                return f"{error.strerror or error}"
        return ""
