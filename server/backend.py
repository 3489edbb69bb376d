"""The channel to containerd, bytes in and bytes out.

It exists so that one place knows how containerd is dialled: under which name, with which limits, how soon again
after it was away, and how a status that this side made up is told from one that containerd sent.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote

import grpc
import structlog
from grpc import aio
from tenacity import AsyncRetrying, retry_if_exception_type, stop_never, wait_exponential

from shim.errors import HookshimError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path
    from typing import TypeAlias

    from tenacity import RetryCallState
    from tenacity.stop import StopBaseT

    UnaryCallable: TypeAlias = aio.UnaryUnaryMultiCallable[bytes, bytes]
    StreamCallable: TypeAlias = aio.StreamStreamMultiCallable[bytes, bytes]

_log = structlog.get_logger(__name__)

#: What Go's gRPC accepts by default (``http2MaxHeaderListSize``), in bytes. grpc's own default is 8 KiB.
MAX_METADATA = 16 << 20

#: Messages of any size, and metadata as large as containerd takes.
LIMITS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", MAX_METADATA),
    ("grpc.absolute_max_metadata_size", MAX_METADATA),
)

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    *LIMITS,
    # The default is the socket's path, percent-encoded, which strict HTTP/2 peers refuse.
    ("grpc.default_authority", "localhost"),
    # Two channels to one socket would share a connection, and with it what the other does to it.
    ("grpc.use_local_subchannel_pool", 1),
    # containerd comes back within seconds; grpc would wait up to two minutes before it looks again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.enable_http_proxy", 0),
)

_VERSION = "/runtime.v1.RuntimeService/Version"

#: Seconds for one try of `wait_until_reachable`: more than a loaded node needs, and short enough to notice a hang.
_PROBE_TIMEOUT = 5.0

#: How grpc before 1.80 or so marks a status that came over the wire, in the debug string.
_FROM_PEER = "Error received from peer"

#: What it says of one try to connect.
_CONNECT = re.compile(r"\A[A-Z]+: unix:.*: connect: (.+) \(\d+\)\Z")

#: How grpc begins when the connection has broken under a call, which it may say before the channel's state does.
_BROKEN = (
    "failed to connect",
    "Stream removed",
    "Socket closed",
    "Connection reset",
    "Broken pipe",
    "recvmsg",
    "sendmsg",
    "GOAWAY",
)


class UnreachableError(HookshimError):
    """containerd does not answer, or not yet as a CRI runtime. The message names its socket and the reason."""


class Backend:
    """One connection to containerd, made when it is needed and again whenever it was lost.

    To be made inside the running event loop, which it then belongs to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._channel = aio.insecure_channel(unix_target(path), options=_OPTIONS)
        # Bounded, because callers choose the names of methods.
        self.unary: Callable[[str], UnaryCallable] = lru_cache(128)(self._channel.unary_unary)
        self.stream: Callable[[str], StreamCallable] = lru_cache(128)(self._channel.stream_stream)

    async def states(self) -> AsyncGenerator[bool]:
        """Whether the connection stands: now, and again whenever that changes. It makes none itself."""
        state = self._channel.get_state()
        while state is not grpc.ChannelConnectivity.SHUTDOWN:
            yield state is grpc.ChannelConnectivity.READY
            await self._channel.wait_for_state_change(state)
            state = self._channel.get_state()

    async def close(self) -> None:
        """Cancel what is in flight and close the connection."""
        await self._channel.close()

    def is_unreachable(self, error: aio.AioRpcError) -> bool:
        """Whether an UNAVAILABLE was made here because the connection failed, rather than said by containerd.

        To be asked when the error has just been raised. grpc no longer marks a status with its origin, so the
        connection is looked at: while it stands, the status has come over it, unless grpc says that it just broke.
        """
        if error.code() is not grpc.StatusCode.UNAVAILABLE or _FROM_PEER in (error.debug_error_string() or ""):
            return False
        if (error.details() or "").startswith(_BROKEN):
            return True
        return self._channel.get_state() is not grpc.ChannelConnectivity.READY

    def unreachable_text(self, reason: str | None) -> str:
        """What a caller is told when `is_unreachable`: which socket, and how it failed."""
        # grpc tells the whole story of its dialling ("failed to connect to all addresses; last error: …"), and in some
        # of its ways to wait for sockets also which one it was ("UNKNOWN: unix:PATH: connect: … (2)").
        cause = _CONNECT.sub(r"\1", (reason or "no reason given").rpartition(" error: ")[2])
        return f"containerd at {self.path} does not answer: {cause}"

    async def wait_until_reachable(
        self,
        *,
        stop: StopBaseT = stop_never,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Return once containerd answers CRI's Version, asking again after 0.1 s, then up to every 2 s.

        ``report`` is told the reason after each try that failed. Raises UnreachableError when ``stop`` (tenacity's)
        says so; cancelling the task ends the wait as well.
        """

        def failed(state: RetryCallState) -> None:
            reason = str(state.outcome.exception()) if state.outcome else ""
            # At the first, second, fourth, eighth … try: a night without containerd fills no disk.
            if state.attempt_number.bit_count() == 1:
                _log.warning("waiting for containerd", attempt=state.attempt_number, reason=reason)
            report(reason)

        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(UnreachableError),
            wait=wait_exponential(multiplier=0.1, max=2),
            stop=stop,
            after=failed,
            reraise=True,
        ):
            with attempt:
                await self._probe()

    async def _probe(self) -> None:
        try:
            await self.unary(_VERSION)(b"", timeout=_PROBE_TIMEOUT)
        except aio.AioRpcError as error:
            # Any error will do: a containerd whose CRI plugin is still starting answers UNIMPLEMENTED.
            if self.is_unreachable(error):
                raise UnreachableError(self.unreachable_text(error.details())) from error
            raise UnreachableError(
                f"containerd at {self.path} is not ready: {error.code().name}: {error.details()}"
            ) from error


def unix_target(path: Path) -> str:
    """The path as grpc's name of a unix socket."""
    return "unix:" + quote(str(path.absolute()))
