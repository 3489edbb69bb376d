"""What fuzzing and reading have found in the relay once."""

from __future__ import annotations

import pytest

from server.relay import frames
from server.relay.calls import Over, Rules
from server.relay.decoder import Decoder
from server.relay.faults import Code, PeerError
from server.relay.pair import Pair
from tests.unit.relay.talk import ACK, SETTINGS, answer, call
from tests.unit.relay.wire import HELD, taken

#: A block that refers to what is in no table.
_BAD = b"\xbe"


def greeted(*, short: bool = True) -> Pair:
    """A pair whose peers have greeted each other."""
    pair = Pair(Rules(frozenset({HELD}), lambda: None, lambda: 0.0), short=short)
    pair.from_client(frames.PREFACE + SETTINGS)
    pair.from_backend(SETTINGS + ACK)
    pair.from_client(ACK)
    taken(pair)
    return pair


def test_an_answer_before_a_mistake_arrives() -> None:
    """A runtime that breaks its connection loses no answer that came with the mistake: its call is not UNAVAILABLE."""
    pair = greeted()
    pair.from_client(call(1, end=True) + call(3, end=True))
    taken(pair)
    with pytest.raises(PeerError):
        pair.from_backend(answer(1) + frames.headers(3, _BAD, end=True))
    pair.lose("it has broken the rules")
    to_client, _, happened = taken(pair)
    assert to_client.startswith(answer(1))
    codes = [each.code for each in happened if isinstance(each, Over)]
    assert codes == ["OK", "UNAVAILABLE"]


def test_a_call_before_a_mistake_goes_on() -> None:
    """What a client has said whole reaches the runtime also when it breaks its connection with the next frame."""
    pair = greeted()
    with pytest.raises(PeerError):
        pair.from_client(call(1, end=True) + frames.headers(3, _BAD, end=True))
    assert taken(pair)[1] == call(1, end=True)


def test_a_remembered_block_is_judged_by_the_limit_of_its_time() -> None:
    """RFC 7541, 6.3: a table made larger than the limit is an error, though the same block was none before."""
    decoder: Decoder[object] = Decoder(lambda fields: fields)
    resized = b"\x3f\xe1\x1f\x82"
    decoder.read(resized)
    decoder.announced(100)
    decoder.acknowledged()
    with pytest.raises(PeerError) as error:
        decoder.read(resized)
    assert error.value.code is Code.COMPRESSION_ERROR


def test_a_stream_that_the_runtime_refuses_is_counted_as_unavailable() -> None:
    """REFUSED_STREAM is UNAVAILABLE to a client (gRPC over HTTP/2, "Errors"), and so it is in the figures."""
    refused_stream = 7
    pair = greeted()
    pair.from_client(call(1, end=True))
    pair.from_backend(frames.frame(frames.RST_STREAM, 0, 1, refused_stream.to_bytes(4)))
    to_client, _, happened = taken(pair)
    assert to_client == frames.frame(frames.RST_STREAM, 0, 1, refused_stream.to_bytes(4))
    assert [each.code for each in happened if isinstance(each, Over)] == ["UNAVAILABLE"]


def test_fields_after_the_end_of_a_request_are_of_a_closed_stream() -> None:
    """RFC 9113, 5.1: a stream that its client has ended is half-closed; more of it is STREAM_CLOSED, fields as data."""
    pair = greeted()
    pair.from_client(call(1, end=True) + call(1, end=True))
    assert frames.reset(1, Code.STREAM_CLOSED) in taken(pair)[0]
