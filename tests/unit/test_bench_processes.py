"""What a process uses is read from the kernel as it is, for all that it has started, too."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support.bench import processes
from tests.support.waiting import until

#: Starts a child of its own, works for a while, says so, and waits.
BUSY = """
import subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
while time.process_time() < 0.3:
    pass
print(child.pid, flush=True)
sys.stdin.read()
child.kill()
child.wait()
"""


@pytest.fixture
def busy() -> Iterator[tuple[int, int]]:
    """The pids of a process that has used 0.3 s, and of its child."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())


def test_cpu_time_is_read_behind_any_name() -> None:
    """A command may be called as it likes, with spaces and parentheses."""
    stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 1 2 3 4 150 50 7 8 20 0 1 0 100 1000 10"
    assert processes.cpu_of_stat(stat) == 200 / os.sysconf("SC_CLK_TCK")


def test_resident_memory_is_in_bytes() -> None:
    """The kernel's kB are 1024 bytes; a process without memory has none."""
    assert processes.resident_of_status("Name:\tx\nVmHWM:\t  900 kB\nVmRSS:\t  500 kB\n") == 512_000
    assert processes.resident_of_status("Name:\tx\nState:\tZ (zombie)\n") == 0


def test_a_process_is_counted_with_what_it_has_started(busy: tuple[int, int]) -> None:
    """What a daemon's children use is the daemon's cost."""
    assert processes.tree(busy[0]) == list(busy)
    assert set(processes.resident(busy[0])) == set(busy)
    assert all(size > 0 for _, size in processes.resident(busy[0]).values())


def test_the_cpu_that_was_used_is_counted(busy: tuple[int, int]) -> None:
    """What it has used so far is there, and no more than that."""
    assert 0.25 <= processes.cpu(busy[0]) < 10


def test_a_process_that_is_gone_uses_nothing() -> None:
    """An end between two looks is no error."""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert (processes.tree(gone.pid), processes.cpu(gone.pid), processes.resident(gone.pid)) == ([], 0.0, {})


def test_settling_waits_for_whoever_works() -> None:
    """What a process still does for an earlier call is over when the next is measured."""
    work = "import time\nwhile time.process_time() < 1: pass\ntime.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", work]) as process:
        try:
            until(lambda: processes.cpu(process.pid) > 0.1, "it works")
            processes.settle(process.pid, still=0.5, within=60)
            assert processes.cpu(process.pid) > 0.9
        finally:
            process.kill()


def test_settling_gives_up_on_whoever_never_rests() -> None:
    """A daemon that spins is measured as it is, in the end."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            until(lambda: processes.cpu(process.pid) > 0.1, "it works")
            began = time.monotonic()
            processes.settle(process.pid, still=0.5, within=0.6)
            assert 0.6 <= time.monotonic() - began < 30
        finally:
            process.kill()
