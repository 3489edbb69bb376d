"""Calls as the metrics count them: a real front door between a real client and a server that answers as it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc import aio
from prometheus_client import CollectorRegistry, generate_latest

from server.backend import Backend
from server.call import Answer, Call, Decision, Pass, Refusal
from server.front import Gate, GrpcFront
from server.metrics.calls import CallMetrics, CountedInterceptor
from tests.support.metrics import Scrape
from tests.unit.front_bed import (
    EVENTS,
    INVENTED,
    PATIENCE,
    START,
    STOP,
    VERSION,
    Context,
    FakeRuntime,
    Judge,
    client,
    echo,
    stream,
)

#: Seconds that the runtime takes for an answer, and a look-up.
SLOW = 0.2

#: A service that is not forwarded.
OLD = "/runtime.v1alpha2.RuntimeService/Version"


def unary(channel: aio.Channel, method: str) -> aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """A unary call, as clients make them."""
    return channel.unary_unary(method)


@dataclass
class Counted:
    """A front door whose calls are counted."""

    channel: aio.Channel
    runtime: FakeRuntime
    judge: Judge
    gate: Gate
    registry: CollectorRegistry

    async def call(self, method: str, timeout: float | None = None) -> str:
        """Make a unary call; the name of the status that it ended with."""
        try:
            await unary(self.channel, method)(b"x", timeout=timeout)
        except aio.AioRpcError as error:
            return str(error.code().name)
        return "OK"

    def scrape(self) -> Scrape:
        """What a scrape shows now."""
        return Scrape(generate_latest(self.registry).decode())

    async def shows(self, expected: dict[tuple[str, ...], float]) -> None:
        """Wait until exactly these calls are counted: of one that ends with an error, the caller hears first."""
        async with asyncio.timeout(PATIENCE):
            while self.scrape().samples("hookshim_calls_total") != expected:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)


@pytest.fixture
async def counted(tmp_path: Path) -> AsyncIterator[Counted]:
    """Everything started."""
    runtime = FakeRuntime(tmp_path / "runtime.sock")
    await runtime.start()
    backend, judge, gate = Backend(runtime.path), Judge(frozenset({START, STOP})), Gate()
    registry = CollectorRegistry()
    metrics = CallMetrics(registry)
    front = GrpcFront(tmp_path / "front.sock", backend, CountedInterceptor(judge, metrics), gate, metrics)
    metrics.watch(lambda: front.in_flight)
    await front.start()
    channel = client(tmp_path / "front.sock")
    try:
        yield Counted(channel, runtime, judge, gate, registry)
    finally:
        await channel.close()
        await front.stop(0)
        await backend.close()
        await runtime.stop()


async def test_calls_are_counted_by_method_and_by_the_status_that_the_caller_got(counted: Counted) -> None:
    """Known methods by their names, all others together: a caller cannot make the set of labels larger."""
    expected: dict[tuple[str, ...], float] = {}

    async def refuse(context: Context) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such container")

    for method, name in ((VERSION, "Version"), (STOP, "StopContainer"), (INVENTED, "other")):
        for behaviour in (echo, refuse, echo):
            counted.runtime.behaviour = behaviour
            code = await counted.call(method)
            expected[code, name] = expected.get((code, name), 0) + 1
    counted.gate.reason = "not yet"
    for method in (VERSION, OLD):
        await counted.call(method)
    counted.gate.reason = None
    assert await counted.call(OLD) == "UNIMPLEMENTED"
    expected |= {("UNAVAILABLE", "Version"): 1, ("UNAVAILABLE", "other"): 1, ("UNIMPLEMENTED", "other"): 1}
    await counted.shows(expected)


async def test_a_caller_that_leaves_and_one_that_runs_out_of_time_are_told_apart(counted: Counted) -> None:
    """CANCELLED and DEADLINE_EXCEEDED, as the callers themselves have it."""
    reached = asyncio.Semaphore(0)

    async def hang(_: Context) -> None:
        reached.release()
        await asyncio.Event().wait()

    counted.runtime.behaviour = hang
    call = unary(counted.channel, VERSION)(b"")
    await reached.acquire()
    assert counted.scrape().value("hookshim_calls_in_flight") == 1
    call.cancel()
    assert await counted.call(STOP, timeout=0.2) == "DEADLINE_EXCEEDED"
    await counted.shows({("CANCELLED", "Version"): 1, ("DEADLINE_EXCEEDED", "StopContainer"): 1})
    assert counted.scrape().value("hookshim_calls_in_flight") == 0


async def test_what_is_added_is_what_hookshim_takes_and_not_what_containerd_does(counted: Counted) -> None:
    """A runtime that takes its time adds nothing; a look-up before the call does."""

    async def slow(context: Context) -> None:
        await asyncio.sleep(SLOW)
        await echo(context)

    async def look_up(_: Call) -> Decision:
        await asyncio.sleep(SLOW)
        return Pass()

    counted.runtime.behaviour = slow
    counted.judge.decision = look_up
    took = {}
    for method, name in ((VERSION, "Version"), (STOP, "StopContainer")):
        began = time.perf_counter()
        assert await counted.call(method) == "OK"
        took[name] = time.perf_counter() - began
    scraped = counted.scrape()
    assert scraped.samples("hookshim_call_added_duration_seconds_count") == {("StopContainer",): 1, ("Version",): 1}
    added = {name: scraped.value("hookshim_call_added_duration_seconds_sum", method=name) for name in took}
    assert 0 < added["Version"] < took["Version"] - SLOW
    assert SLOW < added["StopContainer"] < took["StopContainer"] - SLOW


async def test_what_was_not_forwarded_and_what_streams_adds_nothing(counted: Counted) -> None:
    """The time of hooks is no latency of hookshim's, a refusal nobody's, and a stream has no one answer."""

    async def answer(call: Call) -> Decision:
        return Answer(b"done") if call.method == START else Refusal("INVALID_ARGUMENT", "a malformed declaration")

    counted.judge.decision = answer
    assert [await counted.call(method) for method in (START, STOP)] == ["OK", "INVALID_ARGUMENT"]
    call = stream(counted.channel, EVENTS)
    await call.write(b"x")
    assert await call.read() == b"x"
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.OK
    counted.judge.decision = None
    assert await counted.call(STOP) == "OK"
    await counted.shows(
        {
            ("OK", "StartContainer"): 1,
            ("INVALID_ARGUMENT", "StopContainer"): 1,
            ("OK", "StopContainer"): 1,
            ("OK", "GetContainerEvents"): 1,
        }
    )
    scraped = counted.scrape()
    assert scraped.samples("hookshim_intercepted_calls_total") == {
        ("answer", "StartContainer"): 1,
        ("refusal", "StopContainer"): 1,
        ("pass", "StopContainer"): 1,
    }
    assert scraped.samples("hookshim_call_added_duration_seconds_count") == {("StopContainer",): 1}


async def test_an_unreachable_runtime_is_counted_as_what_the_caller_is_told(counted: Counted) -> None:
    """UNAVAILABLE, for unary calls and streams."""
    await counted.runtime.stop()
    assert [await counted.call(method) for method in (VERSION, INVENTED)] == ["UNAVAILABLE"] * 2
    expected: dict[tuple[str, ...], float] = {("UNAVAILABLE", name): 1 for name in ("Version", "other")}
    await counted.shows(expected)
