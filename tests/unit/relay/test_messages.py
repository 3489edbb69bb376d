"""gRPC's own words: messages in DATA, timeouts, statuses, metadata; and the states of a held call."""

from __future__ import annotations

import gzip
import itertools
import zlib
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.relay import message, words
from server.relay.held import TABLE, Event, State, after
from server.relay.message import Read, Reader, Unreadable, framed
from server.relay.request import parse, status


def read(data: bytes, encoding: bytes = b"", cuts: tuple[int, ...] = ()) -> Read:
    """What a reader makes of bytes in pieces."""
    reader = Reader(encoding)
    found: Read = None
    for start, end in itertools.pairwise([0, *sorted(cuts), len(data)]):
        if found is None:
            found = reader.feed(data[start:end])
    return found


@given(st.binary(max_size=100), st.lists(st.integers(0, 105), max_size=6))
def test_a_message_is_the_same_wherever_it_is_cut(text: bytes, cuts: list[int]) -> None:
    """The first message, whatever follows it."""
    assert read(framed(text) + b"more", cuts=tuple(cuts)) == text


def test_a_message_that_is_not_all_there_is_none() -> None:
    """Neither without its prefix nor without its end."""
    assert [read(framed(b"message")[:size]) for size in range(12)] == [None] * 12


@pytest.mark.parametrize(("encoding", "packed"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)])
def test_a_compressed_message_is_understood(encoding: bytes, packed: object) -> None:
    """The decision is made on what it says; zlib's formats are the ones that gRPC names."""
    assert callable(packed)
    body = packed(b"stop it" * 100)
    assert read(b"\1" + framed(body)[1:], encoding) == b"stop it" * 100


@pytest.mark.parametrize(
    ("data", "encoding", "code", "words_of_it"),
    [
        (b"\1\0\0\0\1x", b"", "INTERNAL", "names no compression"),
        (b"\1\0\0\0\1x", b"identity", "INTERNAL", "names no compression"),
        (b"\2\0\0\0\1x", b"gzip", "INTERNAL", "flag 2"),
        (b"\1\0\0\0\1x", b"snappy", "UNIMPLEMENTED", "snappy"),
        (b"\1\0\0\0\2no", b"gzip", "INTERNAL", "cannot be read"),
        (b"\1" + framed(gzip.compress(b"x", mtime=0)[:-9])[1:], b"gzip", "INTERNAL", "cut off"),
        (
            b"\1" + framed(gzip.compress(bytes(message.MOST_MESSAGE + 1), mtime=0))[1:],
            b"gzip",
            "RESOURCE_EXHAUSTED",
            "not of",
        ),
        (b"\0\xff\xff\xff\xff", b"", "RESOURCE_EXHAUSTED", "4294967295"),
    ],
)
def test_what_cannot_be_read_is_refused_and_says_why(data: bytes, encoding: bytes, code: str, words_of_it: str) -> None:
    """It would go past a hook; too much of it would fill the memory."""
    found = read(data, encoding)
    assert isinstance(found, Unreadable)
    assert found.code == code
    assert words_of_it in found.message


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"3S", 3),
        (b"4m", 0.004),
        (b"5u", 5e-6),
        (b"6n", 6e-9),
        (b"99999999H", 359999996400),
    ],
)
def test_timeouts_are_read(value: bytes, seconds: float) -> None:
    """All units (gRPC over HTTP/2, "Timeout")."""
    assert words.timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"1", b"S", b"-1S", b"1s", b"123456789S", b"1.5S", b" 1S", b"\xd9\xa1S"])
def test_what_is_no_timeout_is_none(value: bytes) -> None:
    """The runtime refuses such a call in its own words."""
    assert words.timeout(value) is None


@given(st.text())
def test_a_message_for_people_survives_its_encoding(text: str) -> None:
    """What any client decodes is the text, in bytes that every header may hold."""
    encoded = words.percent_encoded(text)
    assert all(0x20 <= byte < 0x7F for byte in encoded)
    assert unquote(encoded.decode()) == text.encode(errors="replace").decode()


def test_metadata_is_what_grpc_shows_its_users() -> None:
    """Text as text, binary values as bytes, however they are encoded; nonsense is left out."""
    fields = (
        (b"a", b"1"),
        (b"b-bin", b"AAE"),
        (b"b-bin", b"AAE=,Ag"),
        (b"c-bin", b"\0raw,bytes"),
        (b"d-bin", b"!"),
    )
    assert list(words.metadata(fields)) == [
        ("a", "1"),
        ("b-bin", b"\0\1"),
        ("b-bin", b"\0\1"),
        ("b-bin", b"\2"),
        ("c-bin", b"raw,bytes"),
    ]


def test_a_request_has_one_path() -> None:
    """Of two paths each side could take another: there is none then."""
    assert parse(((b":path", b"/a"), (b"grpc-timeout", b"1S"))).method == "/a"
    assert parse(((b":path", b"/a"), (b":path", b"/a"))).method is None
    assert parse(()).method is None


def test_a_status_is_known_by_its_name() -> None:
    """All of gRPC's, and UNKNOWN for any other."""
    for name, number in words.CODES.items():
        assert status(words.trailers(words.Status(name))) == name
        assert words.trailers(words.Status(name))[0] == (b"grpc-status", b"%d" % number)
    assert status(()) == status(((b"grpc-status", b"99"),)) == "UNKNOWN"


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_a_held_call_does_what_the_table_says_and_nothing_else(state: State, event: Event) -> None:
    """A transition that is not in the table raises."""
    if (state, event) in TABLE:
        assert after(state, event) is TABLE[state, event]
    else:
        with pytest.raises(RuntimeError, match="cannot meet"):
            after(state, event)


def test_states_that_are_over_meet_nothing() -> None:
    """PASSED, ANSWERED and GONE are final."""
    assert {state for state, _ in TABLE} == {State.RECEIVING, State.DECIDING}
