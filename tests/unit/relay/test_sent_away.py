"""A runtime that sends its client away, as Go's gRPC does for pings without a reason; and how not to bring it about."""

from __future__ import annotations

import pytest

from server.call import Answer, Decision, Pass
from server.relay import frames
from server.relay.calls import Leave, Over
from server.relay.faults import Code
from server.relay.message import framed
from server.relay.pair import Pair
from tests.unit.relay.talk import answer, call
from tests.unit.relay.test_found import greeted
from tests.unit.relay.wire import HELD, taken

PING = frames.frame(frames.PING, 0, 0, b"how far?")
PONG = frames.frame(frames.PING, frames.ACK, 0, b"how far?")


def held(pair: Pair, stream: int) -> None:
    """A call that is being decided."""
    pair.from_client(call(stream, HELD) + frames.frame(frames.DATA, frames.END_STREAM, stream, framed(b"stop it")))


def test_a_ping_for_an_answer_of_ours_is_not_the_runtimes() -> None:
    """A client measures its connection when something comes; the runtime, which has sent nothing, would count it."""
    pair = greeted()
    held(pair, 1)
    pair.decided(1, Answer(b"ours"))
    taken(pair)
    pair.from_client(PING)
    assert taken(pair)[:2] == (PONG, b"")
    # A client that wants to know whether the runtime is there asks once more.
    pair.from_client(PING)
    assert taken(pair)[:2] == (b"", PING)


@pytest.mark.parametrize("short", [True, False])
def test_a_ping_for_an_answer_of_the_runtimes_is_its_own(*, short: bool) -> None:
    """As it is without anything between: also when an answer of ours came before."""
    pair = greeted(short=short)
    held(pair, 1)
    pair.from_client(call(3, end=True))
    pair.decided(1, Answer(b"ours"))
    pair.from_backend(answer(3))
    taken(pair)
    pair.from_client(PING)
    assert taken(pair)[:2] == (b"", PING)


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        pytest.param(Answer(b"ours"), framed(b"ours"), id="what was done is told"),
        pytest.param(Pass(), frames.reset(5, Code.REFUSED_STREAM), id="nothing was: it may be made again"),
    ],
)
def test_a_call_that_is_being_decided_is_never_said_not_to_have_begun(decision: Decision, said: bytes) -> None:
    """A client makes a call again that GOAWAY calls unserved, and a container that was started is started twice."""
    pair = greeted()
    pair.from_client(call(1, end=True) + call(3, end=True))
    held(pair, 5)
    pair.from_client(call(7, end=True))
    taken(pair)
    pair.from_backend(frames.goaway(1, Code.ENHANCE_YOUR_CALM, "too_many_pings"))
    to_client, to_backend, happened = taken(pair)
    assert to_client == frames.goaway(5, Code.ENHANCE_YOUR_CALM, "too_many_pings") + frames.reset(
        3, Code.REFUSED_STREAM
    )
    assert to_backend == b""
    assert not [each for each in happened if isinstance(each, Leave)]
    assert [each.code for each in happened if isinstance(each, Over)] == ["UNAVAILABLE"] * 2
    pair.lose("it has closed the connection")
    taken(pair)
    pair.decided(5, decision)
    assert said in taken(pair)[0]
    assert pair.over


def test_what_begins_after_goaway_is_not_served() -> None:
    """Its client did not know, and makes it elsewhere: nobody is asked about it here, and nothing is forwarded."""
    pair = greeted()
    pair.from_client(call(1, end=True))
    pair.from_backend(frames.goaway(1, Code.ENHANCE_YOUR_CALM, "too_many_pings"))
    taken(pair)
    held(pair, 3)
    pair.from_client(call(5, end=True) + frames.window_update(5, 9) + frames.reset(5, Code.CANCEL))
    assert taken(pair)[1:] == (b"", [])
    assert list(pair.streams) == [1]


def test_a_client_without_calls_that_was_sent_away_is_let_go() -> None:
    """It makes its calls on its next connection, which it does not have before this one ends."""
    pair = greeted()
    pair.from_backend(frames.goaway(0, Code.INTERNAL_ERROR, "Cancelling all calls"))
    pair.lose("it has closed the connection")
    assert pair.over


def test_without_a_decision_goaway_goes_on_as_it_came() -> None:
    """What has not been asked about has not begun, held or not: the client may make it again, elsewhere."""
    pair = greeted()
    pair.from_client(call(1, end=True) + call(3, HELD))
    taken(pair)
    goaway = frames.goaway(1, Code.NO_ERROR, "max_age")
    pair.from_backend(goaway)
    assert taken(pair)[:2] == (goaway, b"")
    assert list(pair.streams) == [1]
