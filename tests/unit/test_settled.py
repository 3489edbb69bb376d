"""What was loaded is out of the collector's sight, and what comes after that is not."""

from __future__ import annotations

import gc
import subprocess
import sys
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


def test_a_daemon_loads_nothing_that_draws() -> None:
    """Tables and tracebacks in colour are for the other commands; a daemon has none of it in its memory."""
    looks = "import sys, server.daemon; print(sorted({'rich', 'pygments', 'structlog'} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", looks], check=True, capture_output=True, text=True, timeout=60)
    assert found.stdout == "['structlog']\n"
