"""What a tcpSocket hook does to its receiver, and what a sleep hook is."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from server.handlers.sleep import SleepHandler
from server.handlers.target import PORTS
from server.handlers.tcp import TcpHandler
from shim.actions import ExecAction, SleepAction, TcpSocketAction
from shim.records import RULE, Outcome
from tests.unit.handler_bed import PATIENCE, attempt


def text(host: str, port: int | str, why: str) -> str:
    """The kubelet's sentence, as far as it has one."""
    return f'TCP lifecycle hook ({host}:{port}) for Container "web" in Pod "pod_ns(uid)" failed - error: {why}'


async def connect(action: TcpSocketAction, *, host_network: bool = True, ports: str = "[]") -> Outcome:
    """Deliver it; ``ports`` is the kubelet's annotation."""
    made = attempt(action, annotations={PORTS: ports}, host_network=host_network)
    async with asyncio.timeout(PATIENCE):
        return await TcpHandler().deliver(made)


async def test_a_connection_that_is_made_is_a_success_and_closed_at_once() -> None:
    """The receiver sees one, with nothing in it, and its end."""
    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.put_nowait(await reader.read())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        ports = json.dumps([{"name": "web", "containerPort": port}])
        for action in (TcpSocketAction(port), TcpSocketAction(port, "localhost"), TcpSocketAction("web")):
            assert await connect(action, ports=ports) == Outcome()
            async with asyncio.timeout(PATIENCE):
                assert await seen.get() == b""
    assert seen.empty()


async def test_nobody_who_listens_fails_the_hook() -> None:
    """At once, with the address and the system's reason."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        outcome = await connect(TcpSocketAction(port, "127.0.0.1"))
    assert outcome == Outcome(error=text("127.0.0.1", port, f"connect to 127.0.0.1:{port}: connection refused"))


async def test_nowhere_to_connect_to_fails_the_hook() -> None:
    """As an httpGet's: without an address of the pod, a port of that name, an address of the host."""
    outcome = await connect(TcpSocketAction(1), host_network=False)
    assert outcome.error == text("", 1, "the pod has no IP address")
    outcome = await connect(TcpSocketAction("web"))
    assert outcome.error == text("", "web", f'port "web" not found in the annotation {PORTS}')
    outcome = await connect(TcpSocketAction(1, "no-such-host.invalid"))
    assert outcome.error == text("no-such-host.invalid", 1, "no address found for host no-such-host.invalid")


async def test_the_next_address_of_a_name_is_tried() -> None:
    """A server may listen on one family only."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        handler = TcpHandler()
        made = attempt(TcpSocketAction(port, "localhost"), source=f"{RULE}a")
        assert (await handler.deliver(made)).succeeded
        assert await handler.find(made) is None


async def test_cancelling_gives_up_a_connection_that_is_not_answered() -> None:
    """A receiver whose queue is full says neither yes nor no, and holds nobody."""
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        first.connect(full.getsockname())
        action = TcpSocketAction(full.getsockname()[1])
        with socket.socket() as second:
            second.settimeout(0)
            second.connect_ex(full.getsockname())
            before = len(asyncio.all_tasks())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await TcpHandler().deliver(attempt(action))
            assert len(asyncio.all_tasks()) == before


async def test_a_sleep_lasts_as_long_as_it_is_declared() -> None:
    """And ends with nothing to be told; zero seconds are allowed."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await SleepHandler().deliver(attempt(SleepAction(0))) == Outcome()
    assert await SleepHandler().deliver(attempt(SleepAction(1))) == Outcome()
    assert loop.time() - began >= 1


async def test_a_sleep_can_be_cut_off_and_begins_anew() -> None:
    """By the engine, when its budget is over; after a restart nobody knows how much was left."""
    made = attempt(SleepAction(3600))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await SleepHandler().deliver(made)
    assert await SleepHandler().find(made) is None


@pytest.mark.parametrize("handler", [TcpHandler(), SleepHandler()])
async def test_another_kind_of_action_is_a_bug(handler: TcpHandler | SleepHandler) -> None:
    """It is said, not recorded as the hook's failure."""
    with pytest.raises(TypeError, match="ExecAction"):
        await handler.deliver(attempt(ExecAction(("true",))))
