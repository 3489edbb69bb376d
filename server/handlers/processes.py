"""The processes of a ``run`` hook, found and killed: its own group is not all of them, since a child may leave it.

They are known by the delivery's identity in their environment, by their session, and by their parents. Only a process
that has left all three behind is not found. Signals go through a pidfd that was opened before the process was judged:
a number alone may be another process's by then.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Rounds of looking and killing: each finds what the one before it saw being born.
ROUNDS = 50
#: Seconds between two rounds.
PAUSE = 0.02

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A process as proc(5) has it. ``started`` in clock ticks since boot; ``zombie``: ended, and not reaped."""

    pid: int
    parent: int
    session: int
    started: int
    zombie: bool


def process(pid: int) -> Process | None:
    """What this number is now; None if it is nobody's."""
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The name may hold anything, parentheses too.
    state, parent, _group, session, *more = text.rpartition(b")")[2].split()
    return Process(pid, int(parent), int(session), int(more[15]), state in (b"Z", b"X"))


def end_all(mark: bytes, leader: Process | None) -> bool:
    """Kill every process with ``mark`` (``NAME=value``) in its environment, in ``leader``'s session, or below these.

    True once none is alive; False if one does not die. Blocks for a second at most (and what reading /proc takes).
    """
    for _ in range(ROUNDS):
        if not _kill_once(mark, leader):
            return True
        time.sleep(PAUSE)
    return False


def _kill_once(mark: bytes, leader: Process | None) -> int:
    """How many were found alive, and killed."""
    pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    everyone = {pid: found for pid in pids if (found := process(pid)) is not None and not found.zombie}
    session = leader.pid if leader is not None and _same_or_gone(leader) else 0
    doomed = {
        found.pid
        for found in everyone.values()
        if found.pid != os.getpid() and ((session and found.session == session) or mark in _environment(found.pid))
    }
    _add_children(doomed, everyone)
    for pid in doomed:
        _kill(everyone[pid])
    return len(doomed)


def _add_children(doomed: set[int], everyone: Mapping[int, Process]) -> None:
    grown = True
    while grown:
        children = {found.pid for found in everyone.values() if found.parent in doomed} - doomed
        doomed |= children
        grown = bool(children)


def _same_or_gone(leader: Process) -> bool:
    """Whether a session by this number is still the leader's: another process's number would make it another's."""
    now = process(leader.pid)
    return now is None or now.started == leader.started


def _environment(pid: int) -> list[bytes]:
    with suppress(OSError):
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    return []


def _kill(found: Process) -> None:
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(found.pid)
        try:
            now = process(found.pid)
            if now is not None and now.started == found.started:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)
