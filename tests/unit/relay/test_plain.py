"""The short way is nothing but shorter: what it does is what the long way does, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.relay import frames
from server.relay.calls import Rules
from server.relay.faults import PeerError
from server.relay.frames import DATA, Cutter
from server.relay.pair import Pair
from tests.unit.relay.talk import call
from tests.unit.relay.test_found import greeted
from tests.unit.relay.test_pair import Stress
from tests.unit.relay.wire import HELD, PLAIN, Wire, taken

#: What changes a pair.
_STEPS = frozenset({"from_client", "from_backend", "decided", "lose", "leave", "end", "gone"})


class Both:
    """A pair, and one beside it that goes the long way only; what comes out of both has to be the same."""

    def __init__(self, pair: Pair, long: Pair) -> None:
        self._pair, self._long = pair, long

    def __getattr__(self, name: str) -> Any:
        mine = getattr(self._pair, name)
        if name not in _STEPS:
            return mine

        def step(*values: Any) -> None:
            found = [_raised(way, values) for way in (mine, getattr(self._long, name))]
            assert [(each.code, str(each)) for each in found[:1] if each] == [
                (each.code, str(each)) for each in found[1:] if each
            ]
            if found[0]:
                raise found[0]

        return step

    def taken(self) -> Any:
        """What comes out of the pair."""
        found = taken(self._pair)
        assert found == taken(self._long)
        assert self._pair.streams == self._long.streams
        to_client, to_backend, happened = found
        return [to_client], [to_backend], happened


def _raised(step: Callable[..., None], values: tuple[Any, ...]) -> PeerError | None:
    try:
        step(*values)
    except PeerError as error:
        return error
    return None


def _both(rules: Rules) -> Pair:
    return Both(Pair(rules), Pair(rules, short=False))  # type: ignore[return-value] # it does what a pair does


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_both_ways_lead_to_the_same(seed: int) -> None:
    """Calls held, answered here, reset and refused, windows and tables that change: the same bytes, whatever comes."""
    Stress(seed, _both).run()


def test_an_ordinary_call_goes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one frame of it, nor of its answer, is cut out; the first answer's are, to tell of the client's table."""
    wire = Wire()
    stream = wire.ask(PLAIN, b"first")
    wire.settle()
    wire.answer(stream)
    wire.settle()
    cut: list[int] = []
    monkeypatch.setattr(Cutter, "_check", lambda _, kind, *__: cut.append(kind))
    stream = wire.ask(PLAIN, b"question")
    wire.settle()
    wire.answer(stream, b"answer")
    wire.settle()
    assert (wire.client.streams[stream].body, wire.client.streams[stream].status) == (b"answer", "0")
    assert cut == []
    wire.ask(HELD, b"question")
    wire.settle()
    assert cut == [DATA, DATA]


def test_many_bytes_are_not_copied() -> None:
    """A list of some hundred containers goes on from where it was read, but for a frame that came in two reads."""
    pair = greeted()
    pair.from_client(call(1, end=True))
    pair.taken()
    frame = frames.frame(frames.DATA, 0, 1, bytes(10_000))
    said = frame * 5
    first, second = said[:25_000], said[25_000:]
    pair.from_backend(first)
    [passed], _, _ = pair.taken()
    pair.from_backend(second)
    [completed, rest], _, _ = pair.taken()
    assert [bytes(passed), bytes(completed), bytes(rest)] == [frame * 2, frame, frame * 2]
    assert [memoryview(passed).obj is first, memoryview(rest).obj is second] == [True, True]
