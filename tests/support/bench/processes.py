"""What processes use, as /proc tells it: CPU time and resident memory of a process and all that it has started."""

from __future__ import annotations

import os
import time
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")

#: Where utime stands in what follows the command's name in /proc/PID/stat (proc(5): fields 14 and 15 of all).
_UTIME = 11

#: A process that uses no CPU for so many seconds has done what it had to do.
_STILL = 0.05

#: Seconds after which one that does not become still is measured as it is.
_PATIENCE = 5.0


def cpu_of_stat(text: str) -> float:
    """Seconds in user and kernel mode, of all threads, of a line of /proc/PID/stat."""
    # The command's name stands in parentheses, and may have spaces and parentheses itself.
    fields = text.rpartition(")")[2].split()
    return (int(fields[_UTIME]) + int(fields[_UTIME + 1])) / _TICK


def resident_of_status(text: str) -> int:
    """Bytes of VmRSS in /proc/PID/status; 0 of a process that has none, as one that has just ended."""
    for line in text.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def stands_still(pid: int) -> bool:
    """Whether every thread of the process is stopped by a signal, or it has ended."""
    try:
        threads = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:  # a thread has just ended
        return False
    return all(text.rpartition(")")[2].split()[0] in "TtZX" for text in threads)


def tree(pid: int) -> list[int]:
    """The process and all that descend from it, oldest first; none if it has ended."""
    found = [pid] if Path(f"/proc/{pid}").exists() else []
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:  # the thread has just ended
                continue
    return found


def cpu(pid: int) -> float:
    """Seconds that the process and those it has started have used so far."""
    used = 0.0
    for each in tree(pid):
        try:
            used += cpu_of_stat(Path(f"/proc/{each}/stat").read_text())
        except OSError:  # it has just ended
            continue
    return used


def resident(pid: int) -> dict[int, tuple[str, int]]:
    """By pid: the command and its resident bytes, of the process and those it has started."""
    found = {}
    for each in tree(pid):
        try:
            words = Path(f"/proc/{each}/cmdline").read_bytes().decode(errors="replace").split("\0")
            found[each] = (_short(words), resident_of_status(Path(f"/proc/{each}/status").read_text()))
        except OSError:  # it has just ended
            continue
    return found


def settle(pid: int, still: float = _STILL, within: float = _PATIENCE) -> None:
    """Wait until the process uses no CPU for ``still`` seconds, but no longer than ``within``.

    What it does for an earlier measurement is not to be in the next.
    """
    deadline = time.monotonic() + within
    before = cpu(pid)
    while time.monotonic() < deadline:
        time.sleep(still)
        if (now := cpu(pid)) == before:
            return
        before = now


def _short(words: list[str]) -> str:
    """The command as a person would say it: without its interpreter, directories, options and paths."""
    program, *rest = words[1:] if words[0].rpartition("/")[2].startswith("python") else words
    said = (word for word in rest if word and "/" not in word and not word.startswith("-"))
    return " ".join((program.rpartition("/")[2], *said))[:40]
