"""The ledger of a flow-control window while frames are held, and bytes of our own sent (RFC 9113, 5.2 and 6.9).

One window, from a sender through the relay to a receiver. All numbers are bytes:

    view = room - held + debt

* ``room``: what the receiver still takes;
* ``held``: what the sender has sent and the receiver has not got;
* ``debt``: what the sender may send although the receiver has not granted it: lent, or used up by bytes of our own;
* ``view``: what the sender may still send, which is what it has been told.

What holds: the view is what the sender was told, so that a negative one is its fault (but for a stream whose initial
window has just become smaller). Nothing goes to the receiver that it has no room for. While ``debt`` is more than
``held`` the receiver's grants repay it; otherwise they all go on (repaying more would let the view fall below the
room, and a connection stall). Where it is lent, the view is at least the room less `LEND`, and more than nothing
whenever the room is: no sender starves for what is held.
"""

from __future__ import annotations

from server.relay.faults import Code, PeerError
from server.relay.frames import LARGEST

#: When so much is held that the sender was not lent for, it is; and when its view is less than this.
LEND = 16 << 10


class Window:
    """One window. Every method keeps ``view`` what the sender has been told, given that the caller tells it."""

    __slots__ = ("debt", "held", "room")

    def __init__(self, room: int) -> None:
        self.room = room
        self.held = 0
        self.debt = 0

    @property
    def view(self) -> int:
        """What the sender may still send."""
        return self.room - self.held + self.debt

    @property
    def settled(self) -> bool:
        """Whether sender and receiver see the same: then everything may pass without a look."""
        return not self.held and not self.debt

    def comes(self, size: int) -> None:
        """The sender has sent this, and it is held."""
        self.held += size

    def goes(self, size: int) -> None:
        """What was held goes on. There has to be room."""
        self.held -= size
        self.room -= size

    def drops(self, size: int) -> int:
        """What was held will never go on; how much the sender is to be granted for it."""
        self.held -= size
        repaid = min(size, max(0, self.debt - self.held))
        self.debt -= repaid
        return size - repaid

    def lends(self, waiting: int) -> int:
        """How much the sender is to be granted now; ``waiting`` is what is held for decisions, and not for room.

        What was lent for bytes that wait for room by now is theirs, and not there for others.
        """
        short = waiting - max(0, self.debt - (self.held - waiting))
        if short <= 0 or (short < LEND <= self.view):
            return 0
        self.debt += short
        return short

    def injects(self, size: int) -> None:
        """Bytes of our own go to the receiver. There has to be room."""
        self.room -= size
        self.debt += size

    def granted(self, size: int) -> int:
        """The receiver takes so much more; how much of it the sender is to be told.

        Raises PeerError (FLOW_CONTROL_ERROR) for more than a window can be.
        """
        self.room += size
        if self.room > LARGEST:
            raise PeerError(Code.FLOW_CONTROL_ERROR, f"a window is made larger than {LARGEST} bytes")
        swallowed = min(size, max(0, self.debt - self.held))
        self.debt -= swallowed
        return size - swallowed

    def resized(self, difference: int) -> None:
        """The receiver has changed the initial size of its windows, and the sender learns of it."""
        self.room += difference
