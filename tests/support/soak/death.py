"""Ends a container as a node's kernel or owner may: SIGKILL to its process from outside, no call made."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

from tests.support import leftovers
from tests.support.soak.insist import CALL
from tests.support.soak.moves import Death, Manner
from tests.support.soak.story import Story

#: Seconds between two looks for the process.
_LOOK = 0.005


class Slayer:
    """Kills processes of containers. ``runc`` is where runc keeps its containers' states."""

    def __init__(self, runc: Path, over: threading.Event) -> None:
        self._runc = runc
        self._over = over

    def slay(self, story: Story, death: Death, never: threading.Event) -> None:
        """Kill the container's process once there is one, as told, and note it; not once ``never`` is set."""
        deadline = time.monotonic() + CALL
        while (pid := self._pid(story.container)) is None:
            if self._over.is_set() or never.wait(_LOOK) or time.monotonic() > deadline:
                return
        if never.wait(death.after) or self._over.is_set():
            return
        if death.manner is Manner.OOM:
            # the process itself last: it takes its pid namespace with it
            for other in _members(story.container) - {pid}:
                _kill(other, story.container)
        at = time.time_ns()
        if _kill(pid, story.container):
            story.struck = at

    def _pid(self, container: str) -> int | None:
        """The pid of the container's process, from when runc has made it."""
        try:
            state = json.loads((self._runc / "k8s.io" / container / "state.json").read_text())
        except (OSError, ValueError):  # not yet, no more, or just being written
            return None
        return int(state["init_process_pid"]) or None


def _members(container: str) -> set[int]:
    """The pids in the container's cgroups."""
    found: set[int] = set()
    for path in leftovers.cgroups(frozenset({container})):
        with suppress(OSError):
            found.update(int(line) for line in (path / "cgroup.procs").read_text().split())
    return found - {0}


def _kill(pid: int, container: str) -> bool:
    """SIGKILL a process of that container's cgroup and no other; whether it was there."""
    with suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            # looked at behind the pidfd: the number may have become another process's
            if container in Path(f"/proc/{pid}/cgroup").read_text():
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                return True
        finally:
            os.close(handle)
    return False
