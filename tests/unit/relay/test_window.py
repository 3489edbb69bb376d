"""The ledger of a window: nobody may send more than there is room for, and nobody starves."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.relay.faults import Code, PeerError
from server.relay.frames import LARGEST
from server.relay.window import LEND, Window

_SIZES = st.integers(0, 16384) | st.integers(0, 200_000)


class Ledger(RuleBasedStateMachine):
    """A sender and a receiver that keep to what they are told, and a relay that holds, drops and injects in between.

    They count for themselves; the relay's numbers have to agree with theirs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(65535)
        #: What the sender may send and what the receiver takes, by their own count.
        self.told = self.takes = 65535
        self.waiting = 0
        self.consumed = 0
        #: What all of it comes to when nothing is under way.
        self.initial = 65535

    @precondition(lambda self: self.told > 0)
    @rule(size=_SIZES, waits=st.booleans())
    def send(self, size: int, waits: bool) -> None:  # noqa: FBT001
        """The sender sends what it may; some of it waits for a decision, and that is lent for.

        The sender may go on then: with `LEND`, or with all that the receiver takes but for what waits for room.
        """
        size = min(size, self.told)
        self.told -= size
        self.window.comes(size)
        if waits:
            self.waiting += size
            self.told += self.window.lends(self.waiting)
            assert self.told >= min(LEND, self.takes - (self.window.held - self.waiting))

    @rule(size=_SIZES)
    def decide(self, size: int) -> None:
        """Some of what waited for a decision may go on now, when there is room."""
        self.waiting -= min(size, self.waiting)

    @rule(size=_SIZES)
    def go(self, size: int) -> None:
        """What does not wait for a decision goes to the receiver, as far as there is room by the ledger."""
        size = max(0, min(size, self.window.held - self.waiting, self.window.room))
        self.window.goes(size)
        self.takes -= size
        self.consumed += size
        assert not size or self.takes >= 0

    @rule(size=_SIZES)
    def drop(self, size: int) -> None:
        """A decision was an answer: what waited for it goes nowhere."""
        size = min(size, self.waiting)
        self.waiting -= size
        self.told += self.window.drops(size)

    @rule(size=_SIZES)
    def inject(self, size: int) -> None:
        """Bytes of our own go to the receiver."""
        size = max(0, min(size, self.window.room))
        self.window.injects(size)
        self.takes -= size
        self.consumed += size
        assert not size or self.takes >= 0

    @precondition(lambda self: self.told > 0)
    @rule(size=st.integers(0, 255))
    def pad(self, size: int) -> None:
        """Of padding nothing goes on while anything is held: the sender has it back at once."""
        size = min(size, self.told)
        self.window.comes(size)
        self.told += self.window.drops(size) - size

    @rule(initial=st.sampled_from([0, 1, 100, 16384, 65535, 1 << 20]))
    def resize(self, initial: int) -> None:
        """The receiver changes the size that its windows begin with, and the sender learns of it: it may be below 0."""
        difference, self.initial = initial - self.initial, initial
        self.window.resized(difference)
        self.told += difference
        self.takes += difference

    @precondition(lambda self: self.consumed)
    @rule(size=_SIZES)
    def grant(self, size: int) -> None:
        """The receiver gives back what it has consumed; what the sender is not told of, it does not miss."""
        size = min(size, self.consumed)
        self.consumed -= size
        self.takes += size
        told = self.window.granted(size)
        self.told += told
        assert told == size or self.told >= self.takes

    @invariant()
    def the_books_agree(self) -> None:
        """The formula gives what both sides have counted."""
        assert self.window.view == self.told
        assert self.window.room == self.takes
        assert self.window.debt >= 0 <= self.window.held

    def teardown(self) -> None:
        """In the end everything comes to rest: all goes on, is consumed and given back, and both see the same."""
        self.waiting = 0
        self.resize(65535)
        for _ in range(1000):
            if self.window.settled and not self.consumed:
                break
            self.go(LARGEST)
            self.grant(LARGEST)
        assert self.window.settled
        assert self.told == self.takes == 65535


Ledger.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLedger = Ledger.TestCase


def test_lent_window_is_repaid_only_down_to_what_is_held() -> None:
    """Swallowing more of the receiver's grants stalled a connection once."""
    window = Window(65535)
    window.comes(40_000)
    assert window.lends(40_000) == 40_000
    assert window.granted(1000) == 1000
    window.goes(30_000)
    assert [window.granted(20_000), window.granted(20_000)] == [0, 10_000]
    assert window.debt == window.held == 10_000


def test_a_small_window_is_lent_for_at_once() -> None:
    """A sender whose window is smaller than what is usually lent for does not wait for ever."""
    window = Window(10)
    window.comes(10)
    assert window.view == 0
    assert window.lends(10) == 10


def test_a_window_beyond_the_largest_is_an_error() -> None:
    """RFC 9113, 6.9.1."""
    with pytest.raises(PeerError) as error:
        Window(LARGEST).granted(1)
    assert error.value.code is Code.FLOW_CONTROL_ERROR
