"""What the relay does with a call before it is forwarded: the reference's own tests, and what differs.

It differs in one thing: a call that is being decided is known to the runtime by its header fields, as their order
on a connection cannot be changed. Without a message it cannot do anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from server.call import Answer, Call, Decision, Refusal
from server.relay import RelayFront
from tests.unit import test_front_router
from tests.unit.front_bed import CREATE, EOF, PATIENCE, START, STOP, Bed, Context, failure, running_bed
from tests.unit.relay.again import again

Decide = Callable[[Call], Awaitable[Decision]]

globals().update(
    again(
        test_front_router,
        {
            # These want the runtime to see nothing at all; below they want it to see no message.
            "test_an_answer_is_given_without_the_runtime",
            "test_a_refusal_is_given_whole",
            "test_a_refusal_with_no_grpc_code_is_unknown",
            "test_a_bug_in_the_interceptor_refuses_a_start",
            "test_a_caller_that_leaves_cancels_the_decision",
        },
    )
)


class Receiving:
    """A runtime's behaviour: an echo that remembers the messages it got."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    async def __call__(self, context: Context) -> None:
        """Echo."""
        while (message := await context.read()) is not EOF:
            self.messages.append(message)
            await context.write(message)


@pytest_asyncio.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A relay whose interceptor is asked about three methods."""
    async with running_bed(tmp_path, RelayFront) as made:
        made.judge.methods = test_front_router.INTERCEPTED
        yield made


@pytest.fixture
def runtime(bed: Bed) -> Receiving:
    """What the runtime behind the relay gets."""
    bed.runtime.behaviour = behaviour = Receiving()
    return behaviour


async def last_word(bed: Bed) -> None:
    """Have the runtime answer a call of its own: what came before it on the connection has arrived."""
    bed.judge.decision = None
    assert await bed.unary(STOP)(b"last word") == b"last word"


@pytest.mark.parametrize("response", [b"", b"\xffx\xffx", bytes(3 << 20)], ids=["none", "noise", "3 MiB"])
async def test_an_answer_is_given_without_the_runtime(bed: Bed, runtime: Receiving, response: bytes) -> None:
    """An answer of any size reaches the caller as it is, and the runtime gets no message."""

    async def answer(_: Call) -> Decision:
        return Answer(response)

    bed.judge.decision = answer
    assert await bed.unary(STOP)(b"request") == response
    await last_word(bed)
    assert runtime.messages == [b"last word"]


@pytest.mark.parametrize("details", [b"", b"\x08\x03\x00\xff"])
@pytest.mark.parametrize(("code", "told"), [("FAILED_PRECONDITION", "FAILED_PRECONDITION"), ("ODD", "UNKNOWN")])
@pytest.mark.parametrize("message", ["PostStart handler: 100 % „nö“\n", "", "x" * 20_000])
async def test_a_refusal_is_given_whole(
    bed: Bed, runtime: Receiving, details: bytes, code: str, told: str, message: str
) -> None:
    """A refusal's code, message and binary details reach the caller, and the runtime gets no message."""

    async def refuse(_: Call) -> Decision:
        return Refusal(code, message, details)

    bed.judge.decision = refuse
    error = await failure(bed.unary(START)(b"request"))
    assert (error.code().name, error.details()) == (told, message)
    assert tuple(error.trailing_metadata()) == ((("grpc-status-details-bin", details),) if details else ())
    await last_word(bed)
    assert runtime.messages == [b"last word"]


@test_front_router.bugs
@pytest.mark.parametrize("method", [START, CREATE])
async def test_a_bug_in_the_interceptor_refuses_a_start(bed: Bed, runtime: Receiving, method: str, bug: Decide) -> None:
    """What would run a container without its hooks is INTERNAL, and not forwarded; the log has the bug."""
    bed.judge.decision = bug
    with capture_logs() as logs:
        error = await failure(bed.unary(method)(b"request"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert method in str(error.details())
    assert [(log["log_level"], log["method"], log["exc_info"]) for log in logs] == [("error", method, True)]
    await last_word(bed)
    assert runtime.messages == [b"last word"]


async def test_a_caller_that_leaves_cancels_the_decision(bed: Bed, runtime: Receiving) -> None:
    """The interceptor's coroutine is cancelled when its caller leaves, and no message is forwarded."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(_: Call) -> Decision:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    bed.judge.decision = hang
    call = bed.unary(STOP)(b"request")
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
        call.cancel()
        await cancelled.wait()
    await last_word(bed)
    assert runtime.messages == [b"last word"]
