"""What was loaded is out of the collector's sight, and what comes after that is not."""

from __future__ import annotations

import gc
import weakref

from server.settled import settle


class _Knot:
    def __init__(self) -> None:
        self.itself = self


def test_what_was_loaded_is_never_looked_at_again() -> None:
    """A collection leaves it alone; garbage of before is gone, and garbage of later goes."""
    before = weakref.ref(_Knot())
    try:
        settle()
        assert before() is None
        assert gc.get_freeze_count() > 1000
        after = weakref.ref(_Knot())
        gc.collect()
        assert after() is None
    finally:
        gc.unfreeze()
