"""Ends an exec with everything that came of it, on the node, and nothing else.

The runtime's own Kill reaches one process only. A pid is a number that may be another process's by now, so whoever is
signalled is held by a pidfd first and looked at afterwards: what /proc then says is about the one that is held.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PROC = Path("/proc")

#: Seconds to stop all descendants in; a stopped process makes no more of them.
_PATIENCE = 1.0

#: proc(5)'s states of a process that makes no others: stopped, traced, ended.
_STILL = frozenset("TtZXx")
_ENDED = frozenset("ZXx")


@dataclass(frozen=True, slots=True)
class Process:
    """One process as proc(5) ``stat`` shows it; ``started`` in clock ticks since boot, which makes the pid unique."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    started: int

    @property
    def ended(self) -> bool:
        """Whether it only waits for its parent to ask how."""
        return self.state in _ENDED


def read(pid: int) -> Process | None:
    """The process with this pid now, None if there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the command's name, and may itself hold blanks and parentheses.
    fields = text.rpartition(")")[2].split()
    return Process(pid, fields[0], int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def started(pid: int) -> int | None:
    """When the process with this pid now began, in clock ticks since boot; None if there is none."""
    process = read(pid)
    return process.started if process else None


def runs(pid: int, began: int) -> bool:
    """Whether this very process is still there and has not ended."""
    process = read(pid)
    return process is not None and process.started == began and not process.ended


def cgroups(pid: int) -> dict[str, str]:
    """Its cgroup in each hierarchy (version 2 has one, named ``""``), empty if there is no such process."""
    try:
        lines = (_PROC / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return {}
    return {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}


class NotOursError(Exception):
    """The pid is not, or not surely, the exec's process; nothing was signalled. The message says what differs."""


class GoneError(NotOursError):
    """It has ended by itself."""


class Held:
    """An exec's process, held: whatever its pid becomes later, this is it. Use as a context manager."""

    def __init__(self, pid: int, started: int | None, init_pid: int) -> None:
        """``started`` is what was recorded of it, ``init_pid`` the container's own process."""
        self.pid = pid
        self._started = started
        self._init_pid = init_pid
        self._cgroups: dict[str, str] = {}
        self._descriptors: dict[int, int] = {}

    def __enter__(self) -> Self:
        """Take hold of it. Raises GoneError, NotOursError if it began at another time or is not in the container."""
        process = self._hold(self.pid)
        self._cgroups = cgroups(self._init_pid)
        if process is None or (process.started == self._started and process.ended):
            self.close()
            raise GoneError(f"process {self.pid} is gone")
        problem = ""
        if process.started != self._started:
            problem = f"process {self.pid} began at {process.started}, the hook's at {self._started}"
        elif not self._cgroups or cgroups(self.pid) != self._cgroups:
            problem = f"process {self.pid} is not in the cgroup of the container's process {self._init_pid}"
        if problem:
            self.close()
            raise NotOursError(problem)
        return self

    def __exit__(self, *_: object) -> None:
        """Let go."""
        self.close()

    def close(self) -> None:
        """Let go."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def kill(self) -> list[int]:
        """SIGKILL it, its session, its descendants and theirs, as far as they are in the container. Their pids.

        All are stopped first: one that is killed leaves its children to another parent, where nobody finds them.
        """
        self._signal(self.pid, signal.SIGSTOP)
        looked_at = {self.pid}
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            # Before the look: one that is still on its way to its stop may have made another in the meantime.
            stopped = self._stopped()
            found = [process for process in self._family() if process.pid not in looked_at]
            if stopped and not found:
                break
            looked_at.update(process.pid for process in found)
            for process in found:
                if self._hold(process.pid, process.started) and self._inside(process.pid):
                    self._signal(process.pid, signal.SIGSTOP)
        killed = [pid for pid in self._descriptors if self._signal(pid, signal.SIGKILL)]
        return sorted(killed)

    def _stopped(self) -> bool:
        """Whether all that are held have stopped, or ended."""
        return all((process := read(pid)) is None or process.state in _STILL for pid in self._descriptors)

    def _family(self) -> Iterator[Process]:
        """All processes that are in its session or group, or come from it or from one that is held."""
        everyone = [found for entry in _PROC.glob("[0-9]*") if (found := read(int(entry.name)))]
        family = set(self._descriptors)
        grown = True
        while grown:
            more = {p.pid for p in everyone if self.pid in (p.session, p.group) or p.parent in family} - family
            family |= more
            grown = bool(more)
        return (process for process in everyone if process.pid in family)

    def _hold(self, pid: int, started: int | None = None) -> Process | None:
        with contextlib.suppress(OSError):
            self._descriptors[pid] = os.pidfd_open(pid)
            process = read(pid)
            if process and started in (None, process.started):
                return process
            os.close(self._descriptors.pop(pid))
        return None

    def _inside(self, pid: int) -> bool:
        """Whether it is in the container's cgroup, or below it: what the container runs may have made its own."""
        found = cgroups(pid)
        inside = found.keys() == self._cgroups.keys() and all(
            path == own or path.startswith(f"{own.rstrip('/')}/")
            for path, own in ((found[name], self._cgroups[name]) for name in found)
        )
        if not inside:
            os.close(self._descriptors.pop(pid))
        return inside

    def _signal(self, pid: int, number: signal.Signals) -> bool:
        try:
            signal.pidfd_send_signal(self._descriptors[pid], number)
        except ProcessLookupError:
            return False
        return True
