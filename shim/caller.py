"""Whoever waits for an answer, and may leave: what they asked for is taken back, unless it was accepted already."""

from __future__ import annotations

from shim.errors import CallerLeftError


class Caller:
    """One call's caller. ``left`` and ``accepted`` each become true once, in whichever order."""

    def __init__(self) -> None:
        self.left = False
        self.accepted = False

    def accept(self) -> None:
        """Accept what is asked for; to be called with nothing awaited before the commit.

        Raises CallerLeftError if they have left and nothing of his call (for a pod, of any container) was accepted.
        """
        if self.left and not self.accepted:
            raise CallerLeftError("the caller left before its call was accepted: nothing was done")
        self.accepted = True
