"""What a daemon does with its memory before it serves."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

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


def faults(mode: str) -> int:
    """Of a process that has settled, or has not."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM, mode], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is glibc's to be told")
def test_large_answers_do_not_cost_new_pages_each() -> None:
    """Memory that has been used for one is there for the next; without being told, it would be given back."""
    assert faults("as it is") > 10_000
    assert faults("settled") < 1_000
