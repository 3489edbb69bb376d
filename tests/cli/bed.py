"""A journal with fixed times, commands that run beside it, and answers that are kept as files.

``HOOKSHIM_GOLDEN=write`` writes the files anew, and fails the tests so that nobody takes that for a pass.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from shim.changes import BeginAttempt, Change, EndAttempt, InsertDelivery, InsertEvent, InsertOperation
from shim.records import (
    NODE,
    ContainerRef,
    Delivery,
    DeliveryState,
    Event,
    Hook,
    Operation,
    OperationKind,
    OperationState,
    Outcome,
    Reason,
)
from shim.store import FILE, Store
from tests.support.waiting import PATIENCE
from tests.unit.cli_bed import EVIL

GOLDEN = Path(__file__).with_name("golden")

AT = 1_717_230_896.5  # 2024-06-01T08:34:56.5Z, on no machine's clock still to come

WEB = ContainerRef("a1b2c3d4" * 8, "5a" * 32, "app", "web-7d4b9c6f5-x2x7q", "production", "6f1c9c7e")
DB = ContainerRef("0f9e8d7c" * 8, "6b" * 32, "db", "db-0", "production", "0a2b3c4d")
ODD = ContainerRef("dd" * 32, "7c" * 32, EVIL, EVIL, "odd", "evil-uid")


def delivery(number: int, container: ContainerRef, state: DeliveryState, **fields: object) -> Delivery:
    """The PreStop, by exec, of an operation of its own, ``number`` minutes after AT."""
    made = Delivery(
        id=f"{number:016x}",
        operation_id=f"op{number}",
        container=container,
        hook=Hook.PRE_STOP,
        position=0,
        handler='{"exec":{"command":["/bin/drain","--all"]}}',
        state=state,
        created_at=AT + 60 * number,
        attempts=1,
        finished_at=None if state.open else AT + 60 * number + 0.25,
    )
    return replace(made, **fields)  # type: ignore[arg-type]  # by their names


def operation(of: Delivery, **fields: object) -> Operation:
    """What a delivery belongs to: done if it is."""
    kinds = {
        Hook.POST_START: (OperationKind.START, Reason.START_CONTAINER),
        Hook.PRE_STOP: (OperationKind.STOP, Reason.STOP_CONTAINER),
        Hook.POST_STOP: (OperationKind.END, Reason.ENDED),
    }
    kind, reason = kinds[of.hook]
    made = Operation(
        id=of.operation_id,
        kind=kind,
        reason=reason,
        container=of.container,
        state=OperationState.ACCEPTED if of.state.open else OperationState.DONE,
        timeout=30 if kind is OperationKind.STOP else 0,
        deadline=1234.5 if kind is OperationKind.STOP else None,
        boot_id="another boot",
        created_at=of.created_at,
        finished_at=of.finished_at,
    )
    return replace(made, **fields)  # type: ignore[arg-type]  # by their names


DELIVERED = delivery(1, WEB, DeliveryState.DELIVERED, outcome=Outcome(exit_status=0, output=b"what was said"))
STARTED = delivery(
    2,
    DB,
    DeliveryState.DELIVERED,
    hook=Hook.POST_START,
    source="rule 10-register",
    handler='{"run":{"command":["/usr/local/bin/register"]},"timeoutSeconds":10}',
)
REFUSED = delivery(
    3,
    ODD,
    DeliveryState.FAILED,
    source="pod",
    attempts=2,
    handler='{"httpGet":{"path":"/drain","port":80,"httpHeaders":[{"name":"Authorization","value":"Bearer sesame"}]}}',
    finished_at=AT + 60 * 3 + 100,
    outcome=Outcome(f"HTTP lifecycle hook (/{EVIL}) failed - error: " + "connection refused " * 5, http_status=503),
)
WAITING = delivery(
    4,
    DB,
    DeliveryState.PENDING,
    hook=Hook.POST_STOP,
    handler='{"httpGet":{"url":"https://audit.example.com/ended?token=sesame"}}',
    source="rule 20-audit",
    next_attempt_at=AT + 3600,
    outcome=Outcome("httpGet: no route to host"),
)
ARMED = delivery(5, WEB, DeliveryState.ARMED, hook=Hook.POST_STOP, attempts=0)
ALL = (DELIVERED, STARTED, REFUSED, WAITING, ARMED)

TOLD = Event(AT + 60 * 3 + 100, "FailedPreStopHook", ODD, REFUSED.id, f"HTTP lifecycle hook ({EVIL}) failed, attempt 2")
DAMAGED = Event(AT + 600, "JournalDamaged", NODE, "", "the journal was found damaged and set aside")


def commit(store: Store, *groups: tuple[Change, ...]) -> None:
    """All of them, or the test is wrong."""
    assert store.commit(groups) == [None] * len(groups)


def write(state_dir: Path) -> Path:
    """The journal that the golden files show, and no daemon."""
    state_dir.mkdir(mode=0o700)
    said = Outcome("refused", http_status=503, output=b"HTTP/1.1 503 Busy\nback \x1b[31m later\n\xff")
    with closing(Store.open(state_dir / FILE)) as store:
        commit(store, *((InsertOperation(operation(one)), InsertDelivery(one)) for one in ALL))
        commit(
            store,
            (
                BeginAttempt(DELIVERED.id, 1, DELIVERED.created_at),
                EndAttempt(DELIVERED.id, 1, DELIVERED.created_at + 0.25, DELIVERED.outcome),
                BeginAttempt(REFUSED.id, 1, REFUSED.created_at),
                EndAttempt(REFUSED.id, 1, REFUSED.created_at + 2.5, Outcome("nobody there")),
                BeginAttempt(REFUSED.id, 2, REFUSED.created_at + 40),
                EndAttempt(REFUSED.id, 2, REFUSED.created_at + 100, said),
                BeginAttempt(WAITING.id, 1, WAITING.created_at),
                EndAttempt(WAITING.id, 1, WAITING.created_at + 1, WAITING.outcome),
                InsertEvent(TOLD),
                InsertEvent(DAMAGED),
            ),
        )
    return state_dir


def environment(tmp_path: Path, columns: int = 80, **more: str) -> dict[str, str]:
    """Without this machine's settings and colours, in UTC, on a terminal of so many columns."""
    nothing = tmp_path / "nothing.toml"
    nothing.touch()
    dropped = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TERM")
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("HOOKSHIM_")}
    kept = {name: text for name, text in inherited.items() if name not in dropped}
    return {**kept, "HOOKSHIM_CONFIG": str(nothing), "TZ": "UTC", "COLUMNS": str(columns), **more}


def hookshim(
    tmp_path: Path, *words: str | Path, columns: int = 80, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "server.cli", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE * 2,
        env=environment(tmp_path, columns, **(env or {})),
    )


def compare(name: str, text: str) -> None:
    """The text is what stands in the golden file."""
    path = GOLDEN / name
    if os.environ.get("HOOKSHIM_GOLDEN") == "write":
        path.write_text(text)
        raise AssertionError(f"{path} was written anew: look at it")
    assert text == path.read_text()


class Reader:
    """A command that goes on, its lines as they come."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._rest = b""

    def line(self, within: float = PATIENCE) -> str:
        """The next line. Raises TimeoutError, EOFError."""
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            if not select.select([self.process.stdout], [], [], within)[0]:
                raise TimeoutError(f"no line within {within:g} s")
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                raise EOFError
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return line.decode()

    def said(self) -> str:
        """What it has written to stderr; to be asked when it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()


@contextmanager
def running(tmp_path: Path, *words: str | Path) -> Iterator[Reader]:
    """A command that goes on until the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "server.cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
    ) as process:
        try:
            yield Reader(process)
        finally:
            process.kill()
