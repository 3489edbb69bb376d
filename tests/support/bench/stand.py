"""The ways a call can go: straight to the backend, or through a hookshim with one front door or the other.

All of them are there for the whole run. While one is measured the others stand still (SIGSTOP): each hookshim watches
every container's end, also of those that another one ended.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.bench import processes
from tests.support.bench.figures import DIRECT
from tests.support.cri import CRIClient
from tests.support.hookshimd import Hookshim
from tests.support.waiting import until

#: The front doors that are compared, by the value of HOOKSHIM_FRONT.
FRONTS = ("relay", "grpc")


@dataclass(frozen=True, slots=True)
class Way:
    """A socket to call, a client of it, and the hookshim behind it, if it is one. ``pid``: of something else."""

    name: str
    socket: Path
    cri: CRIClient
    daemon: Hookshim | None = None
    pid: int | None = None

    @property
    def cpu(self) -> float:
        """Seconds that the processes between the client and the backend have used."""
        pid = self.daemon.pid if self.daemon else self.pid
        return processes.cpu(pid) if pid else 0.0


@dataclass(slots=True)
class Stand:
    """The ways to one backend. ``missing``: which ways could not be made, and why."""

    backend: str
    ways: list[Way] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    _directories: list[Path] = field(default_factory=list)

    def add(self, front: str, backend: Path, journals: Path | None) -> None:
        """One more hookshim in front of the backend; if it does not start, it is missing."""
        if journals is None:
            self.missing[front] = "there is no directory for its journal"
            return
        directory = Path(tempfile.mkdtemp(prefix="hookshim-b-", dir=journals))
        self._directories.append(directory)
        daemon = Hookshim(directory, backend, {"HOOKSHIM_FRONT": front})
        self.ways.append(Way(front, daemon.socket, daemon.cri, daemon))
        try:
            daemon.start()
        except (RuntimeError, TimeoutError) as error:
            daemon.close()
            self.ways.pop()
            self.missing[front] = f"it does not start: {_last_line(str(error))}"

    @contextmanager
    def alone(self, way: Way) -> Iterator[None]:
        """Every other hookshim stands still, and this one has done what it had to."""
        others = [other.daemon.pid for other in self.ways if other.daemon and other.daemon.running and other is not way]
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        try:
            # a signal is sent, not carried out, when kill returns
            until(lambda: all(processes.stands_still(pid) for pid in others), "the others stand still")
            if way.daemon:
                processes.settle(way.daemon.pid)
            yield
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """End every hookshim and remove what it kept."""
        for way in self.ways:
            if way.daemon:
                way.daemon.close()
            else:
                way.cri.close()
        for directory in self._directories:
            shutil.rmtree(directory)


@contextmanager
def stand(backend: str, socket: Path, journals: Path | None, *, direct: bool = True) -> Iterator[Stand]:
    """Every front door to a backend's socket, the journals below this directory (None: there is none), and direct."""
    made = Stand(backend, [Way(DIRECT, socket, CRIClient(socket))] if direct else [])
    try:
        for front in FRONTS:
            made.add(front, socket, journals)
        yield made
    finally:
        made.close()


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "it says nothing"
