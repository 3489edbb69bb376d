"""A container that logs its signals, and hooks that log themselves into the same file: order, seen from inside.

Lines are ``SECONDS WORDS``: seconds of the boot's clock with two decimals, since that is what a shell can read
(/proc/uptime) and a test can compare with (``now``).
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import PATIENCE, until

#: Where the log's directory is mounted in the container.
INSIDE = "/signals"

_LOG = f"{INSIDE}/log"
_SAY = f'say() {{ read -r up _ </proc/uptime; echo "$up $*" >>{_LOG}; }}'


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log. ``at`` is in seconds of the boot's clock."""

    at: float
    what: str


class SignalLog:
    """The node's side of the log: mount ``mounts`` into the container that logs."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.mounts = {directory: INSIDE}
        self._path = directory / "log"

    def entries(self) -> list[Entry]:
        """The lines so far, in the order in which they were written."""
        if not self._path.exists():
            return []
        pairs = [line.split(" ", 1) for line in self._path.read_text().splitlines()]
        return [Entry(float(at), what) for at, what in pairs]

    def words(self) -> list[str]:
        """The lines so far without their times."""
        return [entry.what for entry in self.entries()]

    def wait_for(self, what: str, within: float = PATIENCE) -> Entry:
        """The first entry that says ``what``. Raises TimeoutError."""
        return until(
            lambda: next((entry for entry in self.entries() if entry.what == what), None), f"logged: {what}", within
        )


def now() -> float:
    """The boot's clock, to compare with entries; these are cut to hundredths, so up to 0.01 s early."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def logging_container(*, finish_seconds: float = 0, ignores_term: bool = False) -> list[str]:
    """The command of a container that logs ``started``, ``TERM`` and ``finished``.

    TERM ends it ``finish_seconds`` later, or never if it ignores it.
    """
    on_term = "say TERM" if ignores_term else f"say TERM; sleep {finish_seconds:g}; say finished; exit 0"
    # the trap is set before "started" is said: who has read that may send TERM
    return ["sh", "-c", f"{_SAY}; trap '{on_term}' TERM; say started; while :; do sleep 3600 & wait; done"]


def logging_hook(name: str, *, seconds: float = 0, exit_status: int = 0) -> list[str]:
    """The command of an exec hook that logs ``NAME begins``, takes its time, logs ``NAME ends`` and exits."""
    begins, ends = shlex.quote(f"{name} begins"), shlex.quote(f"{name} ends")
    return ["sh", "-c", f"{_SAY}; say {begins}; sleep {seconds:g}; say {ends}; exit {exit_status}"]
