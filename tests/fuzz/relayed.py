"""Fuzzing of the relay: what two peers may say to it, in any pieces.

``python -m tests.fuzz.relayed SECONDS DIRECTORY`` keeps its inputs in the directory.

An input is a list of things said: a byte (whose lowest bit is the side, the others the size of the pieces), two bytes
with a length, and so much of HTTP/2.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["server.relay"]):
    from server.call import Answer, Pass, Refusal
    from server.relay import frames, literals
    from server.relay.calls import Ask, Rules
    from server.relay.faults import Code, PeerError
    from server.relay.pair import Pair

HELD = "/runtime.v1.RuntimeService/StopContainer"
PLAIN = "/runtime.v1.RuntimeService/Version"

_DECISIONS = (Pass(), Answer(b"answer"), Refusal("ABORTED", "refused", b"details"))

#: What came out: for the client, for the backend, asked; and the code that it ended with.
Outcome = tuple[bytes, bytes, list[Ask], str]


def said(data: bytes) -> Iterator[tuple[bool, int, bytes]]:
    """The things said: whether by the client, the size of the pieces, the bytes."""
    at = 0
    while at + 3 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 3])
        yield bool(data[at] & 1), (data[at] >> 1) + 1, data[at + 3 : at + 3 + size]
        at += 3 + size


def outcome(data: bytes, *, whole: bool) -> Outcome:
    """What a pair makes of it; in pieces, unless it is to be ``whole``. Only a peer's error may be raised in it."""
    pair = Pair(Rules(lambda: frozenset({HELD}), lambda: None, lambda: 0.0))
    client, backend, asks, code = b"", b"", [], ""
    for from_client, piece, text in said(data):
        read = pair.from_client if from_client else pair.from_backend
        step = (len(text) or 1) if whole else piece
        try:
            for at in range(0, len(text), step):
                read(text[at : at + step])
        except PeerError as error:
            code = error.code.name
        to_client, to_backend, happened = pair.taken()
        client, backend = client + to_client, backend + to_backend
        new = [each for each in happened if isinstance(each, Ask)]
        asks += new
        if code:
            break
        for ask in new:
            pair.decided(ask.stream, _DECISIONS[ask.stream // 2 % 3])
    return client, backend, asks, code


def check(data: bytes) -> None:
    """What comes out does not depend on how it came in, and is whole frames. Raises what is wrong."""
    found = outcome(data, whole=True)
    assert found == outcome(data, whole=False)
    for text in (found[0], found[1].removeprefix(frames.PREFACE)):
        at = 0
        while at < len(text):
            at += frames.PREFIX_SIZE + int.from_bytes(text[at : at + 3])
        assert at == len(text)


def seeds() -> list[bytes]:
    """Inputs to begin with: a connection's beginning and some calls."""
    empty, ack = frames.frame(frames.SETTINGS, 0, 0), frames.frame(frames.SETTINGS, frames.ACK, 0)
    begin = [(1, frames.PREFACE + empty), (0, empty + ack), (1, ack)]
    calls = []
    for stream, method in ((1, PLAIN), (3, HELD), (5, HELD), (7, HELD)):
        fields = literals.encode([(b":method", b"POST"), (b":path", method.encode()), (b"grpc-timeout", b"1S")])
        body = frames.frame(frames.DATA, frames.END_STREAM, stream, b"\0\0\0\0\1x")
        answer = frames.headers(stream, literals.encode([(b":status", b"200")]), end=False) + body
        calls.append((1, frames.headers(stream, fields, end=False) + body + frames.window_update(stream, 9)))
        calls.append((0, answer + frames.window_update(0, 9) + frames.headers(stream, b"\x20\x88", end=True)))
    ends = [
        (1, frames.reset(7, Code.CANCEL)),
        (0, frames.goaway(7, Code.NO_ERROR)),
        (0, frames.frame(frames.PING, 0, 0, bytes(8))),
    ]
    ways = [begin, begin + calls, begin + calls + ends, begin + calls[:4] + ends]
    return [b"".join(bytes([side | 6]) + len(text).to_bytes(2) + text for side, text in way) for way in ways]


def main(seconds: str, directory: str) -> None:
    """Fuzz for so long; does not return. What is found is printed, with the input, and kept in the directory."""
    corpus = Path(directory)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10", f"-artifact_prefix={corpus}/"]
    atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", str(corpus)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:3])
