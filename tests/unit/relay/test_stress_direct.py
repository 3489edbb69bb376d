"""The same calls directly and through the relay, by real clients: all that a caller can see of each is the same.

And under what no test can time, GOAWAY again and again and a runtime that is killed: no call ends in a way that it does
not directly.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from grpc import aio

from server.backend import Backend
from server.call import Answer, Call, Decision, Pass, Refusal
from server.front import Gate
from server.relay import RelayFront
from tests.support.process import Process
from tests.unit.front_bed import EVENTS, INVENTED, PATIENCE, START, STOP, VERSION, Judge, client, running_bed
from tests.unit.relay.scripted import CODES, Case, perform, script
from tests.unit.relay.test_stress import Loop, on_both_loops, run

#: The interceptor is asked about these.
HELD = frozenset({STOP, START})

_METADATA = (("mine", "y" * 40_000), ("mine-bin", bytes(range(256)) * 100))
_PAIRS = [["theirs", "z" * 40_000], ["theirs-bin", bytes(range(256)).hex()]]


def _cases(method: str) -> list[Case]:
    """Calls of one method, which may be held."""
    sizes = [(0, 0), (20_000, 10), (10, 300_000), (3 << 20, 3 << 20)]
    return [
        *(Case(f"{size}/{back}", method, script(size, answers=[back])) for size, back in sizes),
        *(
            Case(
                f"status {number} after {len(answers)}",
                method,
                script(answers=answers, code=number, details="nö: 100 %\n", trailers=[["k", "v"], ["k-bin", "00ff"]]),
            )
            for number in CODES
            if number
            for answers in ([], [100])
        ),
        Case("no answer", method, script()),
        Case("large metadata", method, script(first=_PAIRS, answers=[1], trailers=_PAIRS), metadata=_METADATA),
        Case("compressed", method, script(9000, answers=[1]), compression=grpc.Compression.Gzip),
        Case("deadline", method, script(answers=[1], hangs=True), timeout=0.3, vague=True),
        Case("cancelled", method, script(hangs=True), cancels=0),
        Case("cancelled after an answer", method, script(answers=[1], hangs=True), cancels=1),
        Case("slow", method, script(answers=[20_000] * 60), slow=True),
    ]


CASES = [
    *(case for method in (VERSION, STOP, START, INVENTED) for case in _cases(method)),
    Case("undecided", STOP, script(20_000, hangs=True, undecided=True), timeout=0.3, vague=True),
    Case("undecided and cancelled", STOP, script(20_000, hangs=True, undecided=True), cancels=0),
    Case("many messages", EVENTS, script(all=True, answers=[0]), after=(bytes(20_000),) * 50),
    Case("both ways", EVENTS, script(all=True, answers=[50_000] * 50), after=(bytes(20_000),) * 50, slow=True),
]


async def decide(call: Call) -> Decision:
    """Pass, after a moment; or never."""
    if b'"undecided"' in call.request[:100]:
        await asyncio.Event().wait()
    await asyncio.sleep(len(call.request) % 7 / 1000)
    return Pass()


@on_both_loops
def test_calls_end_as_they_do_direct(tmp_path: Path, loop: Loop) -> None:
    """All at once, twice over each of two connections, with callers that do not read while others are served."""

    async def compare() -> None:
        async with running_bed(tmp_path, RelayFront) as bed, asyncio.timeout(PATIENCE):
            bed.runtime.behaviour, bed.judge.methods, bed.judge.decision = perform, HELD, decide
            straight = client(bed.runtime.path)
            at_once = asyncio.Event()
            at_once.set()
            direct = [await case.made(straight, at_once.wait) for case in CASES]
            await straight.close()
            channels = [client(bed.socket) for _ in range(2)]
            served = asyncio.Event()
            through = [
                [asyncio.ensure_future(case.made(channel, served.wait)) for case in CASES]
                for channel in channels
                for _ in range(2)
            ]
            fast = [call for calls in through for call, case in zip(calls, CASES, strict=True) if not case.slow]
            await asyncio.gather(*fast)
            served.set()
            for calls in through:
                for case, ended, wanted in zip(CASES, await asyncio.gather(*calls), direct, strict=True):
                    assert ended == wanted, f"{case.method} {case.name}"
            assert {call.method for call in bed.judge.asked} == HELD
            for channel in channels:
                await channel.close()
            while bed.front.in_flight:  # noqa: ASYNC110 - nobody tells of a cancellation that has arrived
                await asyncio.sleep(0.01)

    run(loop, compare())


class Runtime:
    """The scripted runtime as a process, which may be killed."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.socket = directory / "runtime.sock"
        self._log = directory / "runtime.log"
        self._options = options
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it serves."""
        self.socket.unlink(missing_ok=True)
        command: list[str | Path] = [sys.executable, "-m", "tests.unit.relay.scripted", self.socket, *self._options]
        self._process = Process(command, self._log)
        async with client(self.socket) as channel:
            version: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(VERSION)
            await version(script(answers=[0]), wait_for_ready=True, timeout=PATIENCE)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()


@asynccontextmanager
async def before(runtime: Runtime, directory: Path) -> AsyncIterator[Path]:
    """A relay before it; its socket."""
    backend = Backend(runtime.socket)
    await runtime.start()
    front = RelayFront(directory / "front.sock", backend, Judge(HELD, stop_or_start), Gate())
    await front.start()
    try:
        yield directory / "front.sock"
    finally:
        await front.stop(0)
        await backend.close()
        runtime.kill()


async def stop_or_start(call: Call) -> Decision:
    """As the message says, after a moment."""
    does = json.loads(call.request.rstrip(b"\0"))
    await asyncio.sleep(does["moment"] / 1000)
    match does["decide"]:
        case "answer":
            return Answer(call.request)
        case "refuse":
            return Refusal("FAILED_PRECONDITION", "refused")
        case _:
            return Pass()


PASSED = ((VERSION, "pass"), (INVENTED, "pass"), (START, "pass"))
DECIDED = (*PASSED, (STOP, "answer"), (STOP, "refuse"))

#: What a storm asks for: methods, and what is decided.
Ways = tuple[tuple[str, str], ...]


async def storm(channel: aio.Channel, ways: Ways, over: asyncio.Event) -> Counter[str]:
    """Calls, one after another, until it is over; how they have ended. Raises AssertionError for a wrong answer."""
    ended: Counter[str] = Counter()
    number = 0
    while not over.is_set():
        method, decided = ways[number % len(ways)]
        size, back = (0, 300_000)[number % 3 == 1], (0, 300_000)[number % 4 == 1]
        request = script(size, answers=[back], moment=number % 20, decide=decided)
        begin: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        number += 1
        try:
            answer = await begin(request, timeout=PATIENCE)
        except aio.AioRpcError as error:
            ended[f"{decided} {error.code().name}"] += 1
            continue
        assert answer == (request if decided == "answer" else b"%d " % len(request) + bytes(back))
        ended[f"{decided} OK"] += 1
    return ended


async def storms(direct: Path, front: Path, while_they_last: asyncio.Task[None]) -> tuple[Counter[str], Counter[str]]:
    """Storms at both sockets until something else is over: how the calls have ended, directly and through the relay."""
    over = asyncio.Event()
    places: list[tuple[Path, Ways]] = [(direct, PASSED), (front, DECIDED)]
    channels = [[client(path) for _ in range(2)] for path, _ in places]
    each = [
        [asyncio.ensure_future(storm(one, ways, over)) for one in some for _ in range(3)]
        for some, (_, ways) in zip(channels, places, strict=True)
    ]
    async with asyncio.timeout(2 * PATIENCE):
        try:
            await while_they_last
        finally:
            over.set()
        straight, through = [sum(await asyncio.gather(*some), Counter()) for some in each]
    for channel in (one for some in channels for one in some):
        await channel.close()
    return straight, through


@on_both_loops
def test_a_runtime_that_sends_clients_away_again_and_again_ends_no_call(tmp_path: Path, loop: Loop) -> None:
    """GOAWAY after each quarter of a second: calls end as they were decided, but for a client that loses a race."""

    async def go_away() -> None:
        runtime = Runtime(tmp_path, "250")
        async with before(runtime, tmp_path) as front:
            direct, through = await storms(runtime.socket, front, asyncio.create_task(asyncio.sleep(1.5)))
        # A client that is busy may find its next connection gone before it has used it.
        assert set(direct) <= {"pass OK", "pass UNAVAILABLE"}
        expected = {"pass OK", "answer OK", "refuse FAILED_PRECONDITION"}
        assert {each for each in through if not each.endswith(" UNAVAILABLE")} == expected
        assert sum(count for each, count in through.items() if each in expected) > 0.9 * through.total()

    run(loop, go_away())


@on_both_loops
def test_calls_that_a_killed_runtime_cannot_answer_are_unavailable(tmp_path: Path, loop: Loop) -> None:
    """SIGKILL again and again: each call ends as decided, rightly answered, or UNAVAILABLE; as directly."""

    async def die(runtime: Runtime) -> None:
        for _ in range(2):
            await asyncio.sleep(0.3)
            runtime.kill()
            await runtime.start()

    async def killed() -> None:
        runtime = Runtime(tmp_path)
        async with before(runtime, tmp_path) as front:
            dying = asyncio.create_task(die(runtime))
            direct, through = await storms(runtime.socket, front, dying)
        assert set(direct) == {"pass OK", "pass UNAVAILABLE"}
        assert {"pass OK", "answer OK", "refuse FAILED_PRECONDITION", "pass UNAVAILABLE"} <= set(through)
        # What nobody had asked the interceptor about yet is answered as any other.
        assert set(through) <= {*direct, "answer OK", "answer UNAVAILABLE", "refuse FAILED_PRECONDITION"} | {
            "refuse UNAVAILABLE"
        }

    run(loop, killed())
