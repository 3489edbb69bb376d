"""What is said to the service manager arrives whole and once, and whether its watchdog is fed depends on an answer."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from server.backend import Backend
from server.call import Call, Pass
from server.front import Gate, GrpcFront
from server.notify import Manager
from tests.deploy.manager import ServiceManager
from tests.support.cri import unique


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    """A service manager's socket."""
    with ServiceManager(tmp_path / "notify") as made:
        yield made


async def test_an_abstract_address_is_reached() -> None:
    """As systemd names its own in some containers: ``@`` stands for a zero byte."""
    with ServiceManager("@" + unique("hookshim-notify")) as manager:
        Manager.of(manager.environment()).serving(Path("/l"), Path("/c"))
        assert manager.messages() == [{"STATUS": "Serving at /l, in front of /c", "READY": "1"}]


async def test_children_are_not_told_of_the_manager(manager: ServiceManager) -> None:
    """The variables are taken out of the environment: a child that used them would speak for hookshim."""
    environ = {**manager.environment(20), "WATCHDOG_PID": str(os.getpid()), "PATH": "/bin"}
    assert Manager.of(environ).interval == 20
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
async def test_the_watchdog_is_this_process_own(
    manager: ServiceManager, variables: dict[str, str], interval: float | None
) -> None:
    """Without one, for another process, or with a value that is none, there is nothing to feed or to look at."""
    made = Manager.of({**manager.environment(), **variables})
    assert made.interval == interval
    if interval is None:
        await made.watch(Path("/nonexistent/l"), Path("/nonexistent/c"))


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "/nonexistent/notify"])
async def test_a_manager_that_cannot_be_told_changes_nothing(address: str) -> None:
    """None at all, one of a kind that hookshim does not speak to, and one that is gone."""
    manager = Manager.of({"NOTIFY_SOCKET": address})
    manager.waiting("starting")
    manager.serving(Path("/l"), Path("/c"))
    manager.stopping(1)


async def test_a_reason_cannot_say_anything_else(manager: ServiceManager) -> None:
    """It is one line, whatever containerd has said: a line of its own would be a field of its own."""
    Manager.of(manager.environment()).waiting("it said\nREADY=1\r\nMAINPID=1")
    [message] = manager.messages()
    assert list(message) == ["STATUS"]
    assert message["STATUS"].endswith("it said READY=1 MAINPID=1")


async def test_the_same_is_not_said_again(manager: ServiceManager) -> None:
    """A wait for containerd asks every two seconds; the manager is told when the reason is another."""
    told = Manager.of(manager.environment())
    for reason in ("a", "a", "b"):
        told.waiting(reason)
    assert [message["STATUS"][-1] for message in manager.messages()] == ["a", "b"]


async def test_ready_is_not_lost_with_a_full_queue(manager: ServiceManager) -> None:
    """The manager is slow: nothing waits for it, and it learns all that still counts when it looks."""
    while _fill(manager.address):
        pass
    told = Manager.of(manager.environment())
    told.waiting("starting")
    told.serving(Path("/l"), Path("/c"))
    assert not any("READY" in message for message in manager.messages())
    ready = await asyncio.to_thread(manager.wait_for, "READY", lambda message: "READY" in message)
    assert ready == {"STATUS": "Serving at /l, in front of /c", "READY": "1"}


def _fill(address: str) -> bool:
    """Send until it would block; whether anything was sent. One sender alone may come to its own limit first."""
    sent = False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, suppress(BlockingIOError):
        sender.settimeout(0)
        while sender.sendto(b"STATUS=other", address):
            sent = True
    return sent


class _Nothing:
    """An interceptor of no method."""

    methods: frozenset[str] = frozenset()

    async def decide(self, call: Call) -> Pass:
        """Never asked."""
        raise AssertionError(call)


@asynccontextmanager
async def front(listen: Path, containerd: Path, gate: Gate | None = None) -> AsyncIterator[None]:
    """Hookshim's front door, before a containerd that may be there or not."""
    backend = Backend(containerd)
    made = GrpcFront(listen, backend, _Nothing(), gate or Gate())
    await made.start()
    try:
        yield
    finally:
        await made.stop(0)
        await backend.close()


@asynccontextmanager
async def silent(path: Path) -> AsyncIterator[None]:
    """A socket where connections are taken and nothing is ever answered."""
    taken: list[asyncio.StreamWriter] = []
    server = await asyncio.start_unix_server(lambda _, writer: taken.append(writer), path)
    try:
        yield
    finally:
        for writer in taken:
            writer.close()
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def watched(manager: ServiceManager, listen: Path, containerd: Path, interval: float) -> AsyncIterator[None]:
    """The watchdog at work."""
    task = asyncio.create_task(Manager.of(manager.environment(interval)).watch(listen, containerd))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize("reason", [None, "not yet"])
async def test_any_answer_feeds_the_watchdog(manager: ServiceManager, tmp_path: Path, reason: str | None) -> None:
    """Containerd is not there, or hookshim does not serve yet: UNAVAILABLE, with a reason that is hookshim's."""
    listen, containerd = tmp_path / "l", tmp_path / "c"
    async with front(listen, containerd, Gate(reason)), watched(manager, listen, containerd, 1.0):
        for _ in range(2):
            manager.forget()
            await asyncio.to_thread(manager.wait_for, "WATCHDOG", lambda message: message == {"WATCHDOG": "1"})


async def test_a_containerd_that_hangs_is_not_hookshims_fault(manager: ServiceManager, tmp_path: Path) -> None:
    """Version through hookshim is not answered, nor by containerd itself, but hookshim answers what it can alone."""
    listen, containerd = tmp_path / "l", tmp_path / "c"
    async with silent(containerd), front(listen, containerd), watched(manager, listen, containerd, 2.0):
        await asyncio.to_thread(manager.wait_for, "WATCHDOG", lambda message: "WATCHDOG" in message)


async def test_a_hang_that_is_hookshims_own_starves_the_watchdog(manager: ServiceManager, tmp_path: Path) -> None:
    """Containerd answers when asked directly (here by a front door of its own), hookshim's socket does not."""
    listen, containerd = tmp_path / "l", tmp_path / "c"
    async with silent(listen), front(containerd, tmp_path / "none"), watched(manager, listen, containerd, 1.0):
        assert await asyncio.to_thread(manager.silent_for, "WATCHDOG", 2.0)


async def test_nobody_at_the_socket_starves_the_watchdog(manager: ServiceManager, tmp_path: Path) -> None:
    """There is a containerd, and no hookshim: gRPC's own UNAVAILABLE is no answer."""
    listen, containerd = tmp_path / "l", tmp_path / "c"
    async with front(containerd, tmp_path / "none"), watched(manager, listen, containerd, 1.0):
        assert await asyncio.to_thread(manager.silent_for, "WATCHDOG", 2.0)
