"""Ends what runs of an exec of which the runtime says that it was never started.

When containerd dies, its shim kills the runc that was starting an exec for it (ttrpc ``server.go`` ends the request's
context, which go-runc's command has). The command may run by then: nobody has heard of its pid, and nothing is told of
its end. What it is known by is the environment that it was given, which all that came of it has, too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from server.native import processes
from server.native.processes import Held, NotOursError, Process

_PROC = Path("/proc")

#: Seconds for what has begun to become a command or to end, and for what was killed to be gone.
_PATIENCE = 1.0

#: Seconds between two looks.
_PAUSE = 0.01

#: What runc gives to itself in a container until it becomes the command, which has other variables.
_BECOMING = b"_LIBCONTAINER_"


@dataclass(frozen=True, slots=True)
class Ended:
    """What was killed, by pid; ``unclear`` are the container's processes that may be the exec's and were left alone."""

    killed: list[int]
    unclear: list[int]


@dataclass(frozen=True, slots=True)
class _Look:
    """The container's processes now, but its own: those of the exec, the eldest first, and of whom it is not known.

    ``bare`` have no environment: most never will, but one that is just becoming another program has none, either.
    """

    ours: list[Process]
    unclear: set[Process]
    bare: set[int]


def end(init_pid: int, environment: Mapping[str, str]) -> Ended:
    """SIGKILL every process in the cgroup of ``init_pid`` that was given all of this environment. Blocks up to 1 s.

    Nothing is to start more of them meanwhile.
    """
    given = {f"{name}={value}".encode() for name, value in environment.items()}
    killed: set[int] = set()
    until = time.monotonic() + _PATIENCE
    before = None
    while True:
        look = _look(init_pid, given)
        for process in look.ours:
            # Another may have taken it along, or it has ended by itself.
            with contextlib.suppress(NotOursError), Held(process.pid, process.started, init_pid) as held:
                killed.update(held.kill())
        settled = not look.ours and not look.unclear and look.bare in (set(), before)
        if settled or time.monotonic() > until:
            left = {process.pid for process in (*look.ours, *look.unclear)}
            return Ended(sorted(killed), sorted(left - killed))
        before = look.bare
        time.sleep(_PAUSE)


def _look(init_pid: int, given: set[bytes]) -> _Look:
    cgroups = processes.cgroups(init_pid)
    look = _Look([], set(), set())
    pids = (int(entry.name) for entry in _PROC.glob("[0-9]*")) if cgroups else ()
    for pid in pids:
        if pid == init_pid or processes.cgroups(pid) != cgroups:
            continue
        process = processes.read(pid)
        if process is None or process.ended:
            continue
        try:
            variables = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            look.unclear.add(process)
            continue
        if given <= set(variables):
            look.ours.append(process)
        elif any(variable.startswith(_BECOMING) for variable in variables):
            look.unclear.add(process)
        elif variables == [b""]:
            look.bare.add(pid)
    look.ours.sort(key=lambda process: process.started)
    return look
