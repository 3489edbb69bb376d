"""Frames are the same however their bytes come, and what breaks RFC 9113 is named by its code."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.relay import frames, settings
from server.relay.faults import Code, PeerError
from server.relay.frames import Cutter, Frame


def cut(data: bytes, places: list[int]) -> tuple[list[Frame], Code | None]:
    """The frames in bytes that come in pieces, and the error that they end with."""
    cutter = Cutter()
    found: list[Frame] = []
    edges = [0, *sorted(places), len(data)]
    try:
        for start, end in itertools.pairwise(edges):
            for frame in cutter.feed(data[start:end]):
                found.append(frame)  # noqa: PERF402 - what came before an error counts
    except PeerError as error:
        return found, error.code
    return found, None


_PAYLOADS = st.binary(max_size=60)
_GOOD = st.one_of(
    st.builds(frames.frame, st.just(frames.DATA), st.sampled_from([0, 1]), st.integers(1, 9), _PAYLOADS),
    st.builds(frames.frame, st.integers(10, 255), st.integers(0, 255), st.integers(0, 9), _PAYLOADS),
    st.builds(
        lambda stream, block, end: frames.headers(stream, block, end=end),
        st.integers(1, 9),
        st.binary(max_size=60) | st.binary(min_size=16384, max_size=33000),
        st.booleans(),
    ),
    st.builds(frames.reset, st.integers(1, 9), st.sampled_from(Code)),
    st.builds(frames.window_update, st.integers(0, 9), st.integers(1, frames.LARGEST)),
)


@given(st.lists(_GOOD, max_size=6), st.data())
def test_frames_are_the_same_wherever_their_bytes_are_cut(parts: list[bytes], data: st.DataObject) -> None:
    """Any frames, in any pieces: what is read are all of them, and their bytes are what was sent."""
    sent = b"".join(parts)
    places = data.draw(st.lists(st.integers(0, len(sent)), max_size=8))
    found, error = cut(sent, places)
    assert error is None
    assert b"".join(frame.raw for frame in found) == sent
    assert found == cut(sent, [])[0]


@given(st.binary(max_size=200), st.data())
def test_nonsense_is_the_same_nonsense_wherever_it_is_cut(sent: bytes, data: st.DataObject) -> None:
    """Bytes that nobody has meant come to the same frames and the same error, and to no other exception."""
    places = data.draw(st.lists(st.integers(0, len(sent)), max_size=8))
    assert cut(sent, places) == cut(sent, [])


@given(st.binary(max_size=40), st.integers(0, 20), st.booleans())
def test_padding_and_priority_are_no_fields(block: bytes, padding: int, prioritized: bool) -> None:  # noqa: FBT001
    """RFC 9113, 6.2: what surrounds a header block is not part of it, wherever it goes on."""
    flags = frames.PADDED | (frames.PRIORITIZED if prioritized else 0)
    inside = bytes([padding]) + (bytes(5) if prioritized else b"") + block + bytes(padding)
    sent = frames.frame(frames.HEADERS, flags, 1, inside)
    sent += frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, b"more")
    [found], error = cut(sent, [])
    assert (found.block, found.raw, error) == (block + b"more", sent, None)


@given(st.binary(max_size=40), st.integers(0, 20))
def test_padding_is_no_data(data: bytes, padding: int) -> None:
    """RFC 9113, 6.1."""
    sent = frames.frame(frames.DATA, frames.PADDED, 1, bytes([padding]) + data + bytes(padding))
    [found], _ = cut(sent, [])
    assert found.data == data


def _headers(flags: int, payload: bytes = b"") -> bytes:
    return frames.frame(frames.HEADERS, flags, 1, payload)


#: By the section of RFC 9113: what breaks it, and the code.
BROKEN: list[tuple[str, bytes, Code]] = [
    ("4.2 larger than allowed", frames.frame(frames.DATA, 0, 1, bytes(16385)), Code.FRAME_SIZE_ERROR),
    ("4.3 interrupted headers", _headers(0) + frames.frame(frames.DATA, 0, 1), Code.PROTOCOL_ERROR),
    ("6.1 data of no stream", frames.frame(frames.DATA, 0, 0), Code.PROTOCOL_ERROR),
    ("6.2 headers of no stream", frames.frame(frames.HEADERS, 4, 0), Code.PROTOCOL_ERROR),
    ("6.2 more padding than headers", _headers(4 | frames.PADDED, b"\x05abc"), Code.PROTOCOL_ERROR),
    ("6.2 no room for priority", _headers(4 | frames.PRIORITIZED, b"abc"), Code.FRAME_SIZE_ERROR),
    ("6.3 priority of no stream", frames.frame(frames.PRIORITY, 0, 0, bytes(5)), Code.PROTOCOL_ERROR),
    ("6.4 reset of no stream", frames.reset(0, Code.CANCEL), Code.PROTOCOL_ERROR),
    ("6.4 reset of another size", frames.frame(frames.RST_STREAM, 0, 1, bytes(3)), Code.FRAME_SIZE_ERROR),
    ("6.5 settings of a stream", frames.frame(frames.SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
    ("6.5 settings of another size", frames.frame(frames.SETTINGS, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
    ("6.5 an acknowledgement with settings", frames.frame(frames.SETTINGS, 1, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
    ("6.6 a push", frames.frame(frames.PUSH_PROMISE, 4, 1, bytes(4)), Code.PROTOCOL_ERROR),
    ("6.7 ping of a stream", frames.frame(frames.PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    ("6.7 ping of another size", frames.frame(frames.PING, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    ("6.8 goaway of a stream", frames.frame(frames.GOAWAY, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    ("6.8 goaway without its numbers", frames.frame(frames.GOAWAY, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    ("6.9 window update of another size", frames.frame(frames.WINDOW_UPDATE, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
    ("6.10 continuation of nothing", frames.frame(frames.CONTINUATION, 4, 1), Code.PROTOCOL_ERROR),
    (
        "6.10 continuation of another stream",
        _headers(0) + frames.frame(frames.CONTINUATION, 4, 3),
        Code.PROTOCOL_ERROR,
    ),
]


@pytest.mark.parametrize(("sent", "code"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_breaks_the_rules_ends_the_connection_with_its_code(sent: bytes, code: Code) -> None:
    """By sections of RFC 9113."""
    assert cut(sent, [])[1] is code


def test_headers_without_end_are_bounded() -> None:
    """A header block that goes on and on (a CONTINUATION flood) is cut short."""
    cutter = Cutter()
    piece = frames.frame(frames.CONTINUATION, 0, 1, bytes(frames.DEFAULT_SIZE))
    flood = _headers(0) + piece * (frames.MOST_BLOCK // frames.DEFAULT_SIZE + 1)
    with pytest.raises(PeerError) as error:
        list(cutter.feed(flood))
    assert error.value.code is Code.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [(2, 2, Code.PROTOCOL_ERROR), (4, 2**31, Code.FLOW_CONTROL_ERROR), (5, 16383, Code.PROTOCOL_ERROR)],
)
def test_settings_out_of_their_range_are_an_error(name: int, value: int, code: Code) -> None:
    """RFC 9113, 6.5.2."""
    with pytest.raises(PeerError) as error:
        settings.read(name.to_bytes(2) + value.to_bytes(4))
    assert error.value.code is code


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2**32 - 1)), max_size=6))
def test_a_clients_settings_go_on_with_an_empty_table(pairs: list[tuple[int, int]]) -> None:
    """Every setting is as it was but the header table's size, which is 0."""
    sent = b"".join(name.to_bytes(2) + value.to_bytes(4) for name, value in pairs)
    made = settings.without_table(sent)
    kept = [pair for pair in pairs if pair[0] != settings.HEADER_TABLE_SIZE]
    assert made[:6] == b"\0\1\0\0\0\0"
    assert made[6:] == b"".join(name.to_bytes(2) + value.to_bytes(4) for name, value in kept)
