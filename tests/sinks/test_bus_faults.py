"""What containerd cannot take now is published later, and what it never takes holds up nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from server.backend import Backend
from server.config import Config
from server.native.caller import Caller
from server.sinks.bus import bus_sink
from server.sinks.courier import Courier
from shim.journal import Journal
from shim.store import FILE
from tests.sinks.bed import Events
from tests.sinks.event_bus import EventBus, event_bus, told
from tests.support.waiting import INTERVAL, PATIENCE


@asynccontextmanager
async def telling(state_dir: Path, socket: Path) -> AsyncIterator[Courier]:
    """The sink at work, for the length of a block."""
    backend = Backend(socket)
    journal = await Journal.open(state_dir / FILE, time.time)
    sink = bus_sink(Config(state_dir=state_dir), Caller(backend), journal.ask)
    task = asyncio.create_task(sink.run())
    try:
        yield sink
    finally:
        task.cancel()
        # Without a receiver, or with one that hangs: its end waits for nothing.
        async with asyncio.timeout(2):
            with pytest.raises(asyncio.CancelledError):
                await task
        await backend.close()
        await journal.close()


async def becomes(look: Callable[[], bool]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(PATIENCE):
        while not look():  # noqa: ASYNC110 - it is another process's or loop's doing
            await asyncio.sleep(INTERVAL)


def cursor(state_dir: Path) -> int:
    """How far the sink has come, -1 before it has begun."""
    file = state_dir / "sinks" / "containerd.json"
    return int(json.loads(file.read_text())["id"]) if file.exists() else -1


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    """Where containerd listens."""
    return tmp_path / "c.sock"


async def test_an_event_says_all_that_the_journal_knows(events: Events, state_dir: Path, socket: Path) -> None:
    """Who, which hook, when and why, in containerd's namespace for CRI; its number tells a repeated one from a new."""
    delivery = events.fail("it broke", reason="FailedPreStopHook", at=1_800_000_000.25, pod="db", namespace="prod")
    async with event_bus(socket) as bus, telling(state_dir, socket):
        await becomes(lambda: len(bus.published) == 1)
    [request] = bus.published
    assert (request.topic, request.event.type_url) == ("/hookshim/failed-pre-stop-hook", "containerd.types.Descriptor")
    assert bus.namespaces == {"k8s.io"}
    assert told(request) == {
        "number": "1",
        "at": "2027-01-15T08:00:00.250Z",
        "type": "Warning",
        "reason": "FailedPreStopHook",
        "message": f"it broke (attempt 1, delivery {delivery})",
        "delivery_id": delivery,
        "namespace": "prod",
        "pod": "db",
        "uid": "uid-1",
        "container": "main",
        "container_id": "c1",
        "sandbox_id": "s1",
        "field_path": "spec.containers{main}",
    }


async def test_an_event_about_the_node_names_no_pod(events: Events, state_dir: Path, socket: Path) -> None:
    """A damaged journal is nobody's in particular."""
    events.damage("the journal was damaged")
    async with event_bus(socket) as bus, telling(state_dir, socket):
        await becomes(lambda: len(bus.published) == 1)
    [request] = bus.published
    assert request.topic == "/hookshim/journal-damaged"
    assert told(request).keys() == {"number", "at", "type", "reason", "message"}


@pytest.mark.parametrize("code", ["UNAVAILABLE", "UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"])
async def test_what_containerd_cannot_take_now_is_published_later_in_order(
    events: Events, state_dir: Path, socket: Path, code: str
) -> None:
    """Restarting, overloaded: each event is published once it can be."""
    for pod in ("one", "two"):
        events.fail(pod=pod)
    async with event_bus(socket, *[grpc.StatusCode[code]] * 2) as bus, telling(state_dir, socket):
        await becomes(lambda: len(bus.published) == 2)
    assert bus.pods() == ["one", "two"]


async def test_a_containerd_that_comes_late_gets_what_was_there_before(
    events: Events, state_dir: Path, socket: Path
) -> None:
    """No socket at all at first."""
    events.fail(pod="early")
    async with telling(state_dir, socket):
        await becomes(lambda: cursor(state_dir) == 0)
        async with event_bus(socket) as bus:
            await becomes(lambda: bus.pods() == ["early"])
            events.fail(pod="late")
            await becomes(lambda: bus.pods() == ["early", "late"])


async def test_an_event_that_containerd_refuses_holds_up_no_other(
    events: Events, state_dir: Path, socket: Path
) -> None:
    """A refusal for good is counted, and the next one is published."""
    for pod in ("refused", "taken"):
        events.fail(pod=pod)
    async with event_bus(socket, grpc.StatusCode.INVALID_ARGUMENT) as bus, telling(state_dir, socket) as sink:
        await becomes(lambda: cursor(state_dir) == 2)
        assert (bus.pods(), sink.counts.refused, sink.counts.taken) == (["taken"], 1, 1)


async def test_a_daemon_that_ends_before_the_answer_publishes_it_again(
    events: Events, state_dir: Path, socket: Path
) -> None:
    """At least once: the cursor goes on only after containerd's answer, and one that hangs holds up no shutdown."""

    async def cut_off(bus: EventBus) -> None:
        bus.answer.clear()
        async with telling(state_dir, socket):
            await becomes(lambda: bus.pods() == ["web"])
        bus.answer.set()

    events.fail()
    async with event_bus(socket) as bus:
        await cut_off(bus)
        assert cursor(state_dir) == 0
        async with telling(state_dir, socket):
            await becomes(lambda: cursor(state_dir) == 1)
    assert [told(request)["number"] for request in bus.published] == ["1", "1"]
