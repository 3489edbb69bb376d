"""Header blocks are read as the ``hpack`` package reads them, and own ones leave no trace in a peer's table."""

from __future__ import annotations

import contextlib

import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from server.relay import huffman, literals
from server.relay.decoder import MOST_FIELDS, Decoder
from server.relay.faults import Code, PeerError
from server.relay.integers import number, numbered
from server.relay.static import STATIC, Field

Fields = tuple[Field, ...]

_NAMES = st.sampled_from([b":path", b":method", b"te", b"grpc-timeout", b"user-agent", b"x", b"x-bin"])
_TEXTS = st.one_of(
    st.sampled_from([b"/runtime.v1.RuntimeService/Version", b"POST", b"", b"trailers"]),
    st.binary(max_size=40),
    st.binary(min_size=300, max_size=1200),
)
_BLOCKS = st.lists(st.tuples(_NAMES | st.binary(min_size=1, max_size=20), _TEXTS), max_size=8)

_LIMITS = st.sampled_from([0, 31, 64, 300, 4096, 65536])

#: A new limit for the table, if there is one, and a block after it: Huffman coded or not, indexed or not.
_STEPS = st.lists(st.tuples(st.none() | _LIMITS, _BLOCKS, st.booleans(), st.booleans()), max_size=8)


def whole(fields: Fields) -> Fields:
    """The fields as they are."""
    return fields


def broken(block: bytes, decoder: Decoder[Fields] | None = None) -> Code:
    """The code that a block ends its connection with."""
    with pytest.raises(PeerError) as error:
        (decoder or Decoder(whole)).read(block)
    return error.value.code


@given(_STEPS)
def test_what_hpack_encodes_is_read_as_it_was_meant(steps: list[tuple[int | None, list[Field], bool, bool]]) -> None:
    """Any fields, in any form, with a table that grows and shrinks, also above 4096; repeated blocks too."""
    encoder, decoder = hpack.Encoder(), Decoder(whole)
    for limit, fields, coded, sensitive in steps:
        if limit is not None:
            encoder.header_table_size = limit
            decoder.announced(limit)
            decoder.acknowledged()
        for _ in range(2):
            block = encoder.encode([(*field, sensitive) for field in fields], huffman=coded)
            assert decoder.read(block) == tuple(fields)


@given(st.lists(st.tuples(st.sampled_from(["announced", "taken over", "block"]), _LIMITS, _BLOCKS), max_size=20))
def test_a_limit_may_be_on_its_way_while_blocks_are_read(
    steps: list[tuple[str, int, list[Field]]],
) -> None:
    """Limits count for the encoder from when it has them, and several may be under way: every block is understood."""
    encoder, decoder, under_way = hpack.Encoder(), Decoder(whole), []
    for step, limit, fields in steps:
        if step == "announced":
            decoder.announced(limit)
            under_way.append(limit)
            continue
        if step == "taken over" and under_way:
            # A block each: told several sizes before one, the hpack package writes more than RFC 7541, 4.2 allows.
            encoder.header_table_size = under_way.pop(0)
            decoder.acknowledged()
        assert decoder.read(encoder.encode(fields)) == tuple(fields)


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_whatever_a_block_holds_it_is_read_as_hpack_does_or_refused(blocks: list[bytes]) -> None:
    """Bytes that nobody has meant come to the same fields in both decoders, or to an error of ours."""
    ours, theirs = Decoder(whole), hpack.Decoder()
    for block in blocks:
        fields = None
        with contextlib.suppress(PeerError):
            fields = ours.read(block)
        if fields is None:
            return
        assert fields == tuple((field[0], field[1]) for field in theirs.decode(block, raw=True))


@given(st.binary(max_size=200))
def test_huffman_agrees_with_hpack(text: bytes) -> None:
    """Every string comes back from its code."""
    encoded = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)
    assert huffman.decode(encoded) == text


@pytest.mark.parametrize("coded", [b"\xff\xff\xff\xff", b"\xff", b"\x00", b"\x1f\xff", b"\x18"])
def test_a_wrong_end_of_a_huffman_code_is_an_error(coded: bytes) -> None:
    """EOS within a string, eight bits of padding, and padding that is not ones (RFC 7541, 5.2)."""
    with pytest.raises(PeerError) as error:
        huffman.decode(coded)
    assert error.value.code is Code.COMPRESSION_ERROR


@given(st.integers(0, 2**32), st.sampled_from([0x0F, 0x1F, 0x3F, 0x7F]))
def test_numbers_come_back(value: int, most: int) -> None:
    """A number of any size is read as it was written, and what follows it is where it should be."""
    written = numbered(value, most, 0)
    assert number(written + b"rest", 0, most) == (value, len(written))


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"\x80", id="index 0"),
        pytest.param(b"\xbe", id="an index beyond the tables"),
        pytest.param(b"\x7e\x01x", id="a name beyond the tables"),
        pytest.param(b"\xff\x80\x80\x80\x80\x80\x80", id="a number without end"),
        pytest.param(b"\xff", id="cut off in a number"),
        pytest.param(b"\x40\x05abc", id="cut off in a string"),
        pytest.param(b"\x40", id="cut off before a string"),
        pytest.param(b"\x82\x20", id="a table size within a block"),
        pytest.param(b"\x3f\xe2\x1f", id="a table above its limit"),
    ],
)
def test_a_malformed_block_is_a_compression_error(block: bytes) -> None:
    """RFC 7541, 2.3.3, 4.2, 5.1, 5.2 and 6.1: nothing is guessed."""
    assert broken(block) is Code.COMPRESSION_ERROR


def test_a_table_that_is_not_made_smaller_is_an_error() -> None:
    """RFC 7541, 4.2: after the acknowledgement of a smaller limit the next block begins with a smaller size."""
    decoder = Decoder(whole)
    decoder.announced(100)
    assert decoder.read(b"\x82") == (STATIC[1],)
    decoder.acknowledged()
    assert broken(b"\x82", decoder) is Code.COMPRESSION_ERROR
    assert decoder.read(b"\x3f\x45\x82") == (STATIC[1],)


def test_a_limit_above_4096_is_followed() -> None:
    """The encoder may use a larger table from the moment that it can know of it."""
    decoder = Decoder(whole)
    assert broken(b"\x3f\xe1\x7f", Decoder(whole)) is Code.COMPRESSION_ERROR
    decoder.announced(65536)
    assert decoder.read(b"\x3f\xe1\x7f") == ()
    for place in range(100):
        decoder.read(b"\x40\x01x\x7f\x01" + bytes([place]) * 128)
    assert decoder.read(numbered(161, 0x7F, 0x80)) == ((b"x", bytes(128)),)


def test_fields_that_a_few_bytes_make_many_are_bounded() -> None:
    """One entry, referred to again and again, cannot make the process hold more than it may."""
    decoder = Decoder(whole)
    decoder.read(b"\x40\x01x" + numbered(4000, 0x7F, 0) + b"y" * 4000)
    assert broken(b"\xbe" * (MOST_FIELDS // 4000), decoder) is Code.ENHANCE_YOUR_CALM


def test_a_repeated_block_means_another_thing_once_the_table_has_changed() -> None:
    """What is remembered of a block is forgotten with the table that it was read by."""
    decoder = Decoder(whole)
    decoder.read(b"\x40\x01x\x011")
    assert decoder.read(b"\xbe") == decoder.read(b"\xbe") == ((b"x", b"1"),)
    decoder.read(b"\x40\x01x\x012")
    assert decoder.read(b"\xbe") == ((b"x", b"2"),)


@given(_BLOCKS, st.sampled_from([0, 100, 4096]))
def test_own_blocks_need_no_table_and_leave_none(fields: list[Field], limit: int) -> None:
    """A peer reads them whatever its table's limit is, and what it reads from others later is the same."""
    peer = hpack.Decoder()
    peer.max_allowed_table_size = limit
    for _ in range(2):
        read = peer.decode(literals.encode(fields), raw=True)
        assert [(field[0], field[1]) for field in read] == fields
    assert not peer.header_table.dynamic_entries


@given(_BLOCKS)
def test_an_empty_table_is_enough_for_an_encoder_that_was_told_so(fields: list[Field]) -> None:
    """A backend that obeys passes the check, whatever it sends."""
    encoder, check = hpack.Encoder(), Decoder(whole, 0)
    encoder.header_table_size = 0
    for _ in range(3):
        assert check.read(encoder.encode(fields)) == tuple(fields)


def test_a_backend_that_keeps_a_table_is_found_out() -> None:
    """An entry of a table that has no room, or a table that is made, is a compression error."""
    encoder, check = hpack.Encoder(), Decoder(whole, 0)
    check.read(encoder.encode([(b"x", b"1")]))
    assert broken(encoder.encode([(b"x", b"1")]), check) is Code.COMPRESSION_ERROR
    assert broken(b"\x3f\xe1\x1f", Decoder(whole, 0)) is Code.COMPRESSION_ERROR
