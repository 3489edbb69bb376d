"""What the kernel knows of a process and of a unix socket, for whoever wonders where a call hangs. Linux."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

#: Seconds between two looks at the time that threads have used.
_BETWEEN = 0.5

#: The fields of ``/proc/PID/stat`` behind the name that are looked at (proc(5)): state, utime and stime.
_STATE, _TIMES = 0, slice(11, 13)


def threads(pid: int) -> list[str]:
    """The threads of a process, those that are alike in one line: name, state, what the kernel has it wait in.

    And how much of a processor each has used in half a second, as one that runs in circles does.
    """
    before = {task: _used(task) for task in _tasks(pid)}
    time.sleep(_BETWEEN)
    ticks = os.sysconf("SC_CLK_TCK")
    alike = Counter[str]()
    for task in _tasks(pid):
        with suppress(OSError, ValueError, IndexError):
            used = (_used(task) - before.get(task, _used(task))) / ticks / _BETWEEN
            state = _stat(task)[_STATE]
            waits = (task / "wchan").read_text() or "-"
            alike[f"{(task / 'comm').read_text().strip()}: {state}, in {waits}, {used:.0%} of a processor"] += 1
    return [f"{count} x {text}" for text, count in sorted(alike.items())] or [f"there is no process {pid}"]


def kernel_stack(pid: int) -> list[str]:
    """Where the main thread is in the kernel."""
    return Path(f"/proc/{pid}/stack").read_text().splitlines()


def unix_sockets(paths: Sequence[Path], pid: int) -> list[str]:
    """What ``ss -xp`` says of these sockets, of the process's, and of all that are connected to them.

    The numbers are bytes in its queues; of one that listens, the first is how many connections wait to be accepted.
    The path is the one by which a socket was bound: it may have been renamed since.
    """
    done = subprocess.run(["ss", "-axpH"], check=True, capture_output=True, text=True, timeout=10)
    rows = [line.split(None, 8) for line in done.stdout.splitlines()]
    #: A row: kind, state, bytes to be read, bytes to be sent, path, number, path of the other, its number, processes.
    rows = [row for row in rows if len(row) > 8]
    ours = [row for row in rows if row[4] in map(str, paths) or f"pid={pid}," in row[8]]
    others = {row[7] for row in ours} - {"0"}
    shown = [*ours, *(row for row in rows if row[5] in others and row not in ours)]
    return [
        "kind state to-read to-send path number other its-number processes",
        *(" ".join(row).rstrip() for row in shown),
    ]


def _tasks(pid: int) -> Iterator[Path]:
    with suppress(OSError):
        yield from Path(f"/proc/{pid}/task").iterdir()


def _stat(task: Path) -> list[str]:
    return (task / "stat").read_text().rpartition(")")[2].split()


def _used(task: Path) -> int:
    with suppress(OSError, ValueError):
        return sum(map(int, _stat(task)[_TIMES]))
    return 0
