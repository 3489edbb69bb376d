"""What the tests of handlers share: servers of their own that say exactly what they are told, and an attempt."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from server.handlers.http import HttpHandler
from shim.actions import Action, HttpGetAction, LifecycleHandler
from shim.ports import Attempt, Container, Pod
from shim.records import CONTAINER, ContainerRef, ContainerState, Ending, Hook, Outcome

#: What a hang is. Generous: no test gets near it but by failing.
PATIENCE = 30.0

#: A key and a certificate for another name than the server's, for loopback alone; nothing verifies either.
KEY = """
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgKenW5qxvuG2c/kHl
iYf2P4KfQBWR+xNdDhi2iVMQdAahRANCAARuIuOXTwav/l2m0LCzbOmzxUtpfEWM
D0n1vVXDuhPaCgYx0Ku0AmlPd89WXIAxzrkEWWcon1kOI+2+jumdWKDB
"""
CERTIFICATE = """
MIIBjzCCATWgAwIBAgIUOQAQs/HzLIgH7/GecwIXnKony80wCgYIKoZIzj0EAwIw
HDEaMBgGA1UEAwwRZWxzZXdoZXJlLmludmFsaWQwIBcNMjYxMTIxMDczMTUwWhgP
MjEyNjEwMjgwNzMxNTBaMBwxGjAYBgNVBAMMEWVsc2V3aGVyZS5pbnZhbGlkMFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEbiLjl08Gr/5dptCws2zps8VLaXxFjA9J
9b1Vw7oT2goGMdCrtAJpT3fPVlyAMc65BFlnKJ9ZDiPtvo7pnVigwaNTMFEwHQYD
VR0OBBYEFLW8FC4AF9licqPnvjp0dGjS8X+/MB8GA1UdIwQYMBaAFLW8FC4AF9li
cqPnvjp0dGjS8X+/MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIh
ALrRAo995BGk7UlW5ZSH9QQGnkVAfQGycSOHLDZ8d9qGAiBhn3ZyGZOpcB8DG+ac
blfCw/yLurUPy/mVdn7HUEIM+g==
"""

Answer = bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#: The beginning of every failure.
TEXT = 'HTTP lifecycle hook (/stop) for Container "web" in Pod "pod_ns(uid)" failed - error: '


@dataclass
class Peer:
    """A server that notes each request's head and answers the n-th as told, later ones as the last."""

    port: int
    answers: tuple[Answer, ...]
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request, the answer, and then whatever the client does until it leaves."""
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                size = next((line[15:] for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), b"0")
                self.bodies.append(await reader.readexactly(int(size)))
                self.heads.append(head.decode().removesuffix("\r\n\r\n"))
                self.asked.set()
                answer = self.answers[min(len(self.heads), len(self.answers)) - 1]
                if isinstance(answer, bytes):
                    writer.write(answer)
                    await writer.drain()
                else:
                    await answer(reader, writer)
                if not writer.is_closing():
                    await reader.read()
            self.left.set()
        finally:
            writer.transport.abort()

    def lines(self, index: int = 0) -> list[str]:
        """The head of one request, line by line."""
        return self.heads[index].split("\r\n")

    def header(self, name: str, index: int = 0) -> list[str]:
        """All values of one header, in order."""
        pairs = (line.partition(": ") for line in self.lines(index)[1:])
        return [value for key, _, value in pairs if key.lower() == name.lower()]


@asynccontextmanager
async def peer(*answers: Answer, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """A peer that listens for the length of a block and has no connection afterwards."""
    made = Peer(0, answers or (OK,))
    connections: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(made.serve(reader, writer))
        connections.add(task)

    server = await asyncio.start_server(accept, host, 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in connections:
            task.cancel()
        ended = await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()
        await asyncio.sleep(0)  # a transport that was aborted closes its socket in the loop's next turn
        failures = [one for one in ended if isinstance(one, Exception)]
        if failures:
            raise ExceptionGroup("the test's own server failed", failures)


def untrusted(directory: Path) -> ssl.SSLContext:
    """A server's TLS, with a certificate that nobody should trust; its file is made in ``directory``."""
    pem = directory / "server.pem"
    parts = (("PRIVATE KEY", KEY), ("CERTIFICATE", CERTIFICATE))
    pem.write_text("".join(f"-----BEGIN {kind}-----{body}-----END {kind}-----\n" for kind, body in parts))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def attempt(
    action: Action,
    *,
    ips: tuple[str, ...] = (),
    host_network: bool = True,
    annotations: dict[str, str] | None = None,
    budget: float | None = None,
    hook: Hook = Hook.PRE_STOP,
    source: str = CONTAINER,
    ending: Ending | None = None,
) -> Attempt:
    """The second attempt of delivery d1, a hook of container web."""
    return Attempt(
        delivery_id="d1",
        number=2,
        hook=hook,
        handler=LifecycleHandler(action),
        container=Container(
            ref=ContainerRef("c1", "s1", "web", "pod", "ns", "uid"),
            state=ContainerState.RUNNING,
            annotations=annotations or {},
            pod=Pod("s1", "pod", "ns", "uid", {}, ips, host_network),
        ),
        budget=budget,
        source=source,
        ending=ending,
    )


async def deliver(made: Attempt, body_seconds: float = 1.0) -> Outcome:
    """Deliver, but do not hang."""
    async with asyncio.timeout(PATIENCE):
        return await HttpHandler(body_seconds=body_seconds).deliver(made)


async def get(port: int | str, path: str = "/stop", body_seconds: float = 1.0, **more: object) -> Outcome:
    """Deliver a plain httpGet to the pod's own address."""
    return await deliver(attempt(HttpGetAction(port, path, **more)), body_seconds)  # type: ignore[arg-type] # the fields of the action, by name
