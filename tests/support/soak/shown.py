"""``hookshim`` as it is installed, which can be asked what it waits for: a daemon that hangs answers nobody else.

At SIGUSR1 its event loop writes what its tasks wait for and what its connections hold, at SIGUSR2 every thread where
it is, also if the loop is held up. To be run as a script: ``shown.py ARGUMENTS``, as ``hookshim ARGUMENTS``.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from server.cli import main

#: Names the file that is written to. No HOOKSHIM_…: hookshim refuses such variables that it does not know.
PLACE = "SOAK_SHOWN"

#: What is written last.
END = "that is all"


def chain(task: asyncio.Task[Any]) -> str:
    """Where a task is, from its own function to the innermost that it awaits."""
    places: list[str] = []
    at: Any = task.get_coro()
    while at is not None:
        frame = getattr(at, "cr_frame", None) or getattr(at, "gi_frame", None) or getattr(at, "ag_frame", None)
        if frame is None:
            places.append(type(at).__name__)
            break
        places.append(f"{frame.f_code.co_qualname} line {frame.f_lineno}")
        at = getattr(at, "cr_await", None) or getattr(at, "gi_yieldfrom", None) or getattr(at, "ag_await", None)
    return " > ".join(places)


def tasks() -> Iterator[str]:
    """All tasks of the running loop, those that are alike in one line."""
    alike = Counter(f"{task.get_name()}: {chain(task)}" for task in asyncio.all_tasks())
    for text, count in sorted(alike.items()):
        yield text if count == 1 else f"{count} times: {text}"


def connections() -> Iterator[str]:
    """The relay's connections: their calls, what is held, and what each side is not read for."""
    if "server.relay.connection" not in sys.modules:
        return
    kind = sys.modules["server.relay.connection"].Connection
    for found in gc.get_objects():
        if not isinstance(found, kind):
            continue
        pair, client, backend = found._pair, found.client, found._backend
        calls = pair._calls
        streams = [
            f"{number} {call.request.method} {call.state.value}{', begun' if call.begun else ''}"
            for number, call in calls.streams.items()
        ]
        yield (
            f"calls {streams}, lost {calls.lost!r}, leaving {calls.leaving}, served {calls.served}; "
            f"client not read for {sorted(client._held)}, has a socket {client.transport is not None}, "
            f"backend not read for {sorted(backend._held)}, has a socket {backend.transport is not None}; "
            f"waiting for room: up {sizes(calls.up)}, down {sizes(calls.down)}"
        )


def sizes(lane: Any) -> dict[int, int]:
    """How many pieces of each stream wait in a lane of the relay."""
    return {stream: len(queue) for stream, queue in lane.queues.items()}


def show(*_: object) -> None:
    """Write what the loop's tasks and connections are at. A signal's handler, run inside the loop."""
    lines = [f"tasks of pid {os.getpid()}:", *tasks(), "connections of the relay:", *connections(), END]
    with Path(os.environ[PLACE]).open("a") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    # Kept open: what is written when the loop is held up cannot open a file.
    threads = Path(f"{os.environ[PLACE]}.threads").open("a")  # noqa: SIM115 - as said
    faulthandler.register(signal.SIGUSR2, threads)
    signal.signal(signal.SIGUSR1, show)
    main()
