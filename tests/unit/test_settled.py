"""What was loaded is out of the collector's sight, what comes after it is not, and large answers have their memory."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

from server.settled import settle

#: Allocates and frees as large answers do, and prints how many pages the kernel had to find meanwhile.
_PROGRAM = """
import resource, sys
from server.settled import settle
if sys.argv[1] == "settled":
    settle()
def use():
    kept = [bytes(210_000) for _ in range(4)]
    del kept
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


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


def faults(mode: str) -> int:
    """Of a process that has settled, or has not."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM, mode], check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_large_answers_do_not_cost_new_pages_each() -> None:
    """Memory that has been used for one is there for the next; without being told, it would be given back."""
    assert faults("as it is") > 10_000
    assert faults("settled") < 1_000
