"""One client's connection and the backend's for it, on sockets: reads, writes, waits and decisions of one `Pair`.

Invariant: what one side does not read is not read from the other one (nothing piles up), but for the few bytes that
are made here, and for what windows allow while neither side reads; and whatever a peer sends, or a bug does, ends this
connection and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Protocol, cast

import structlog

from server.call import Call, Decision, Pass, Refusal
from server.front.metadata import passed_on
from server.front.methods import REFUSED_ON_BUG
from server.relay import words
from server.relay.calls import Ask, Over, Rules
from server.relay.faults import Code, PeerError
from server.relay.pair import Pair

if TYPE_CHECKING:
    from server.call import Interceptor
    from server.relay.frames import Piece
    from server.tap import CallTap

_log = structlog.get_logger(__name__)

#: Seconds between two looks whether a backend that was away is back, while a client waits for its first call.
_LOOK = 0.25

#: Seconds that a client gets to close a connection that it was told to leave.
LINGER = 0.25

#: Bytes that may wait to be written to a peer before the other one is not read any more; and before, as they are
#: answers of our own, the peer itself is not.
_WRITE_LIMIT, _OWN_LIMIT = 256 << 10, 4 << 20

#: The most that waits to be written to a backend whose client does not read either, in bytes: Go's largest window.
_MOST_WRITTEN = 16 << 20


class Backend(Protocol):
    """Where the backend is, and what a caller is told when it is not there."""

    @property
    def socket(self) -> str:
        """The path of its socket."""
        ...

    def unreachable_text(self, reason: str) -> str:
        """Which socket, and how it failed."""
        ...


class _Peer(asyncio.Protocol):
    """One of the two sockets."""

    def __init__(
        self,
        read: Callable[[bytes], None],
        full: Callable[[bool], None],
        ended: Callable[[Exception | None], None],
        made: Callable[[], None] = lambda: None,
    ) -> None:
        self._read, self._full, self._ended, self._made = read, full, ended, made
        self.transport: asyncio.Transport | None = None
        #: Why nothing is read now.
        self._held: set[str] = set()
        self._early: deque[bytes] = deque()

    def hold(self, why: str, *, on: bool) -> None:
        """Read nothing for this reason, or not for this one any more."""
        before = bool(self._held)
        (self._held.add if on else self._held.discard)(why)
        if self.transport is None or self.transport.is_closing() or before == bool(self._held):
            return
        if self._held:
            self.transport.pause_reading()
            return
        self.transport.resume_reading()
        while self._early and not self._held:
            self._read(self._early.popleft())

    def write(self, pieces: list[Piece]) -> int:
        """Write; how much is waiting to be written then, in bytes."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return 0
        if len(pieces) == 1:
            transport.write(pieces[0])
        else:
            transport.writelines(pieces)
        return transport.get_write_buffer_size()

    def close(self) -> None:
        """Close it when all is written."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close it at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """For asyncio."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(_WRITE_LIMIT)
        if self._held:
            self.transport.pause_reading()
        self._made()

    def data_received(self, data: bytes) -> None:
        """For asyncio."""
        if self._held:
            # An event loop may read once more than it was told to: uvloop does at a connection's beginning.
            self._early.append(data)
        else:
            self._read(data)

    def pause_writing(self) -> None:
        """For asyncio."""
        self._full(True)  # noqa: FBT003 - the callback's only argument

    def resume_writing(self) -> None:
        """For asyncio."""
        self._full(False)  # noqa: FBT003 - the callback's only argument

    def connection_lost(self, exc: Exception | None) -> None:
        """For asyncio."""
        self._ended(exc)


class Connection:
    """One client, from its connection to its end. ``changed`` is called when calls may be over, and at the end."""

    def __init__(
        self,
        backend: Backend,
        interceptor: Interceptor,
        closed: Callable[[], str | None],
        changed: Callable[[Connection], None],
        tap: CallTap,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._where = backend
        self._interceptor = interceptor
        self._changed = changed
        self._tap = tap
        self._pair = Pair(Rules(interceptor.methods, closed, monotonic))
        self.client = _Peer(self._from_client, self._client_full, self._client_ended, self._client_made)
        self._backend = _Peer(self._from_backend, self._backend_full, self._backend_ended)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._dialling: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._closing: asyncio.TimerHandle | None = None
        #: So much waits to be written to the client, or the backend, that the other one is not to be read.
        self._full_client = self._full_backend = False
        #: The client's connection has ended.
        self.ended = False
        # Nothing is asked of a client before there is somebody to answer.
        self.client.hold("no backend yet", on=True)

    @property
    def methods(self) -> list[str]:
        """The methods of the calls that are being served."""
        return self._pair.methods

    def leave(self) -> None:
        """Take no more calls."""
        self._pair.leave()
        self._flush()

    def end(self, reason: str) -> None:
        """Answer every call with UNAVAILABLE."""
        self._pair.end(reason)
        self._flush()

    def abort(self) -> None:
        """End it without another word."""
        self.client.abort()
        self._backend.abort()

    def tasks(self) -> list[asyncio.Task[None]]:
        """What still runs for it."""
        others = (self._dialling, self._looking)
        return [*self._tasks.values(), *(task for task in others if task is not None and not task.done())]

    # The client's side.

    def _client_made(self) -> None:
        self._dialling = self._loop.create_task(self._dial(), name="dial the runtime for a client")

    def _from_client(self, data: bytes) -> None:
        try:
            self._pair.from_client(data)
        except PeerError as error:
            _log.warning("a client has broken its connection", code=error.code.name, reason=str(error))
            self._fail(error)
            return
        except Exception:  # noqa: BLE001 - whatever the bug is, it ends this connection only
            self._bug()
            return
        self._flush()

    def _client_full(self, full: bool) -> None:  # noqa: FBT001 - the callback's only argument
        self._full_client = full
        self._balance()
        if not full:
            self.client.hold("it does not read its answers", on=False)

    def _client_ended(self, _: Exception | None) -> None:
        self.ended = True
        for task in self.tasks():
            task.cancel()
        if self._closing is not None:
            self._closing.cancel()
        self._backend.close()
        self._pair.gone()
        self._flush()

    # The backend's side.

    async def _dial(self) -> None:
        try:
            reason = await self._connect(self._backend)
        except Exception:  # noqa: BLE001 - whatever the bug is, nobody is to wait for this connection
            _log.exception("a connection to the runtime could not be made, by a bug")
            reason = "hookshim failed to connect to the runtime: see its log"
        if reason is not None:
            self._lose(reason)
        elif self.ended:
            self._backend.close()
        self.client.hold("no backend yet", on=False)

    async def _look(self) -> None:
        """Wait until there is a backend again: the client shall begin anew then, with the runtime itself."""
        while True:
            await asyncio.sleep(_LOOK)
            probe = _Peer(lambda _: None, lambda _: None, lambda _: None)
            if await self._connect(probe) is None:
                probe.close()
                self.leave()
                return

    async def _connect(self, peer: _Peer) -> str | None:
        try:
            await self._loop.create_unix_connection(lambda: peer, self._where.socket)
        except OSError as error:
            return self._where.unreachable_text(error.strerror or str(error))
        return None

    def _from_backend(self, data: bytes) -> None:
        if self._pair.lost:
            return
        try:
            self._pair.from_backend(data)
        except PeerError as error:
            _log.error("the runtime has broken a connection", code=error.code.name, reason=str(error))
            self._lose(self._where.unreachable_text(str(error)))
            self._backend.close()
            return
        except Exception:  # noqa: BLE001 - whatever the bug is, it ends this connection only
            self._bug()
            return
        self._flush()

    def _backend_full(self, full: bool) -> None:  # noqa: FBT001 - the callback's only argument
        self._full_backend = full
        self._balance()
        if not full:
            self.client.hold("the runtime takes nothing", on=False)

    def _backend_ended(self, error: Exception | None) -> None:
        self._backend_full(False)  # noqa: FBT003 - as above
        if not self.ended and not self._pair.lost:
            reason = error.strerror if isinstance(error, OSError) else None
            self._lose(self._where.unreachable_text(reason or "the connection was closed"))

    # Both.

    def _balance(self) -> None:
        """Read nothing for a peer that is slow, but never from neither: each may wait for the other to be read."""
        self._backend.hold("the client is slow", on=self._full_client)
        self.client.hold("the runtime is slow", on=self._full_backend and not self._full_client)

    def _lose(self, reason: str) -> None:
        try:
            self._pair.lose(reason)
        except PeerError as error:
            self._fail(error)
            return
        self._flush()
        if self._closing is None and not self._pair.streams:
            # No call was there to be told: the first one is, unless the backend is back before.
            self._looking = self._loop.create_task(self._look(), name="look for the runtime")

    def _flush(self) -> None:
        to_client, to_backend, happened = self._pair.taken()
        if to_client and self.client.write(to_client) > _OWN_LIMIT:
            self.client.hold("it does not read its answers", on=True)
        if to_backend and self._backend.write(to_backend) > _MOST_WRITTEN:
            self.client.hold("the runtime takes nothing", on=True)
        for each in happened:
            if isinstance(each, Over):
                self._tap.ended(*each)
            elif isinstance(each, Ask):
                name = f"decide {each.request.method}"
                self._tasks[each.stream] = self._loop.create_task(self._decide(each), name=name)
            elif (task := self._tasks.pop(each.stream, None)) is not None:
                task.cancel()
        if self._pair.over and self._closing is None:
            self._closing = self._loop.call_later(LINGER, self.client.close)
        if happened or self.ended:
            self._changed(self)

    async def _decide(self, ask: Ask) -> None:
        decision = await self._decision(ask)
        self._tasks.pop(ask.stream, None)
        try:
            self._pair.decided(ask.stream, decision)
        except PeerError as error:
            self._fail(error)
            return
        self._flush()

    async def _decision(self, ask: Ask) -> Decision:
        method, left = ask.request.method or "", ask.request.timeout
        if left is not None:
            left -= monotonic() - ask.arrived
        task = asyncio.current_task()
        try:
            metadata = passed_on(words.metadata(ask.request.fields))
            return await self._interceptor.decide(Call(method, ask.message, metadata, left))
        except asyncio.CancelledError:
            # Without a caller that leaves, a cancellation is a bug too.
            if task is None or task.cancelling():
                raise
            _log.exception("the interceptor was cancelled", method=method)
        except Exception:  # noqa: BLE001 - whatever the bug is, this call must still be answered
            _log.exception("the interceptor failed", method=method)
        if method in REFUSED_ON_BUG:
            return Refusal("INTERNAL", f"hookshim failed to decide {method}, and did not forward it: see its log")
        return Pass()

    def _fail(self, error: PeerError) -> None:
        self._pair.fail(error)
        self._flush()
        self.client.close()
        self._backend.close()

    def _bug(self) -> None:
        _log.exception("a connection was ended by a bug")
        self._fail(PeerError(Code.INTERNAL_ERROR, "hookshim failed on this connection: see its log"))
