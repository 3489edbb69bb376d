"""A daemon as far as the journal is concerned: it commits a failed hook with its event for each line that it reads.

Run as ``python -m tests.cli.writer JOURNAL``; a line is the number of a delivery, and is repeated when it is committed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from shim.changes import InsertDelivery, InsertEvent, InsertOperation
from shim.records import ContainerRef, DeliveryState, Event, Outcome
from shim.store import Store
from tests.cli.bed import AT, WEB, commit, delivery, operation


class Writer:
    """The process, to be told what to commit."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def write(self, number: int) -> None:
        """Have it committed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == f"{number}\n"


@contextmanager
def writer(journal: Path) -> Iterator[Writer]:
    """A writer until the end of the block, then killed as a daemon can be."""
    command = [sys.executable, "-m", "tests.cli.writer", str(journal)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            yield Writer(process)
        finally:
            process.kill()


def failed(store: Store, number: int) -> None:
    """A hook of a container of its own that has failed, and the event of it."""
    container: ContainerRef = replace(WEB, id=f"{number:064x}")
    one = delivery(number, container, DeliveryState.FAILED, outcome=Outcome("it failed"))
    told = Event(AT + number, "FailedPreStopHook", container, one.id, f"number {number}")
    commit(store, (InsertOperation(operation(one)), InsertDelivery(one), InsertEvent(told)))


def _main() -> None:
    store = Store.open(Path(sys.argv[1]))
    print("open", flush=True)  # noqa: T201  # what the test waits for
    for line in sys.stdin:
        failed(store, int(line))
        print(line, end="", flush=True)  # noqa: T201  # what the test waits for


if __name__ == "__main__":
    _main()
