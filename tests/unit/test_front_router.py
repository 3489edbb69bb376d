"""What the front door does with a call before it is forwarded: the gate, the services it serves, the interceptor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from server.call import Answer, Call, Decision, Refusal
from tests.unit.front_bed import (
    CREATE,
    EVENTS,
    INVENTED,
    PATIENCE,
    START,
    STOP,
    VERSION,
    WAYS,
    Bed,
    failure,
    running_bed,
)

Decide = Callable[[Call], Awaitable[Decision]]

INTERCEPTED = frozenset({CREATE, START, STOP})
ALPHA = "/runtime.v1alpha2.RuntimeService/StopContainer"


@pytest_asyncio.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A front door whose interceptor is asked about three methods."""
    async with running_bed(tmp_path) as made:
        made.judge.methods = INTERCEPTED
        yield made


@pytest.mark.parametrize("method", [ALPHA, "/runtime.v1alpha2.ImageService/ListImages"])
async def test_alpha_is_unimplemented(bed: Bed, method: str) -> None:
    """CRI v1alpha2, which would go past every hook, is refused with the reason and never reaches the runtime."""
    error = await failure(bed.unary(method)(b""))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "v1alpha2 would go past every hook" in str(error.details())
    assert bed.runtime.seen == []


@pytest.mark.parametrize(
    "method",
    [
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/containerd.services.tasks.v1.Tasks/Kill",
        "/runtime.v10.RuntimeService/StopContainer",
        "/RUNTIME.v1.RuntimeService/StopContainer",
        "//runtime.v1.RuntimeService/StopContainer",
        "/",
    ],
)
async def test_other_services_are_unimplemented(bed: Bed, method: str) -> None:
    """What is not CRI v1 is refused, also containerd's own services and other spellings of CRI's."""
    error = await failure(bed.unary(method)(b""))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "hookshim forwards CRI v1 only" in str(error.details())
    assert bed.runtime.seen == []


@pytest.mark.parametrize("method", [*WAYS, STOP, EVENTS, ALPHA])
async def test_a_closed_gate_answers_for_everything(bed: Bed, method: str) -> None:
    """While there is a reason not to serve, every call gets it, and nobody else is asked; then all is as before."""
    bed.gate.reason = "hookshim is recovering: containerd does not answer"
    error = await failure(bed.unary(method)(b"x"))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, bed.gate.reason)
    assert bed.judge.asked == []
    assert bed.runtime.seen == []
    bed.gate.reason = None
    if method != ALPHA:
        assert await bed.unary(method)(b"x") == b"x"


async def test_only_the_methods_it_names_are_asked_about(bed: Bed) -> None:
    """The interceptor hears of its own methods, and of nothing else."""
    for method in (VERSION, STOP, INVENTED, START):
        await bed.unary(method)(b"")
    assert [call.method for call in bed.judge.asked] == [STOP, START]


async def test_an_invented_method_can_be_intercepted(bed: Bed) -> None:
    """A method that nobody has heard of is asked about if the interceptor names it."""
    bed.judge.methods = frozenset({INVENTED})
    await bed.unary(INVENTED)(b"")
    assert [call.method for call in bed.judge.asked] == [INVENTED]


async def test_the_interceptor_is_told_the_whole_call(bed: Bed) -> None:
    """Message, metadata and the time that is left are the caller's."""
    await bed.unary(STOP)(b"\xff odd", metadata=(("k", "1"), ("k", "2"), ("k-bin", b"\0")), timeout=3600)
    asked = bed.judge.asked[0]
    assert (asked.method, asked.request) == (STOP, b"\xff odd")
    assert tuple(asked.metadata) == (("k", "1"), ("k", "2"), ("k-bin", b"\0"))
    assert asked.seconds_left is not None
    assert 3600 - PATIENCE < asked.seconds_left < 3700
    await bed.unary(STOP)(b"")
    assert bed.judge.asked[1].seconds_left is None


async def test_a_pass_goes_on_untouched(bed: Bed) -> None:
    """A call that is passed reaches the runtime with the message it came with, and brings back its answer."""
    assert await bed.unary(STOP)(b"\xfa\xff\xff\xff\x0f\x03abc") == b"\xfa\xff\xff\xff\x0f\x03abc"
    assert [call.method for call in bed.runtime.seen] == [STOP]


async def test_an_answer_is_given_without_the_runtime(bed: Bed) -> None:
    """An answer reaches the caller as it is, and nothing is forwarded."""

    async def answer(call: Call) -> Decision:
        return Answer(call.request * 2)

    bed.judge.decision = answer
    assert await bed.unary(STOP)(b"\xffx") == b"\xffx\xffx"
    assert bed.runtime.seen == []


@pytest.mark.parametrize("details", [b"", b"\x08\x03\x00\xff"])
async def test_a_refusal_is_given_whole(bed: Bed, details: bytes) -> None:
    """A refusal's code, message and binary details reach the caller, and nothing is forwarded."""

    async def refuse(_: Call) -> Decision:
        return Refusal("FAILED_PRECONDITION", "PostStart handler: 100 % „nö“\n", details)

    bed.judge.decision = refuse
    error = await failure(bed.unary(START)(b""))
    assert (error.code(), error.details()) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "PostStart handler: 100 % „nö“\n",
    )
    assert tuple(error.trailing_metadata()) == ((("grpc-status-details-bin", details),) if details else ())
    assert bed.runtime.seen == []


async def test_a_refusal_with_no_grpc_code_is_unknown(bed: Bed) -> None:
    """A code that gRPC does not have still ends the call, with its message."""

    async def refuse(_: Call) -> Decision:
        return Refusal("UNKNOWN_OUTCOME", "nobody knows")

    bed.judge.decision = refuse
    error = await failure(bed.unary(START)(b""))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, "nobody knows")


async def _bug(_: Call) -> Decision:
    raise KeyError("a bug")


async def _cancelled_by_a_bug(_: Call) -> Decision:
    raise asyncio.CancelledError


bugs = pytest.mark.parametrize("bug", [_bug, _cancelled_by_a_bug])


@bugs
@pytest.mark.parametrize("method", [START, CREATE])
async def test_a_bug_in_the_interceptor_refuses_a_start(bed: Bed, method: str, bug: Decide) -> None:
    """What would run a container without its hooks is INTERNAL, and nothing is forwarded; the log has the bug."""
    bed.judge.decision = bug
    with capture_logs() as logs:
        error = await failure(bed.unary(method)(b""))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert method in str(error.details())
    assert bed.runtime.seen == []
    assert [(log["log_level"], log["method"], log["exc_info"]) for log in logs] == [("error", method, True)]


@bugs
async def test_a_bug_in_the_interceptor_never_keeps_a_container_from_stopping(bed: Bed, bug: Decide) -> None:
    """A stop whose hooks cannot be decided is forwarded untouched; the log has the bug."""
    bed.judge.decision = bug
    with capture_logs() as logs:
        assert await bed.unary(STOP)(b"\xffx") == b"\xffx"
    assert [call.method for call in bed.runtime.seen] == [STOP]
    assert [(log["log_level"], log["method"], log["exc_info"]) for log in logs] == [("error", STOP, True)]


async def test_a_caller_that_leaves_cancels_the_decision(bed: Bed) -> None:
    """The interceptor's coroutine is cancelled when its caller leaves, and nothing is forwarded."""
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
    call = bed.unary(STOP)(b"")
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
        call.cancel()
        await cancelled.wait()
    assert bed.runtime.seen == []
