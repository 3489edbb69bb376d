"""A journal to read and the command to read it with: what the tests of the command line share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from shim.records import (
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
from shim.store import FILE

AT = 1_795_250_096.5  # 2026-11-21T08:34:56.5Z, 17:34:56 where the tests' clock is
EVIL = "web\x1b]0;owned\x07\n\u202egnp"

APP = ContainerRef("c" * 64, "b" * 64, "app", "web-7d4b9c6f5-x2x7q", "production", "6f1c9c7e-uid")
ODD = ContainerRef("d" * 64, "e" * 64, EVIL, EVIL, EVIL, EVIL)

OK = Delivery(
    id="0123456789abcdef0123456789abcde1",
    operation_id="stop1",
    container=APP,
    hook=Hook.PRE_STOP,
    position=0,
    handler='{"exec": {"command": ["/bin/drain", "--all"]}}',
    state=DeliveryState.DELIVERED,
    created_at=AT,
    attempts=1,
    finished_at=AT + 0.25,
    outcome=Outcome(exit_status=0, output=b"what the handler said"),
)
FAILED = Delivery(
    id="0123456789abcdef0123456789abcde2",
    operation_id="stop2",
    container=ODD,
    hook=Hook.PRE_STOP,
    position=0,
    handler='{"httpGet": {"port": 80, "httpHeaders": [{"name": "Authorization", "value": "Bearer sesame"}]}}',
    state=DeliveryState.FAILED,
    created_at=AT + 60,
    attempts=3,
    finished_at=AT + 160,
    outcome=Outcome(f"HTTP lifecycle hook (/{EVIL}) failed - error: " + "connection refused " * 5, http_status=500),
)
OPEN = replace(
    OK,
    id="0123456789abcdef0123456789abcde3",
    operation_id="start3",
    hook=Hook.POST_START,
    state=DeliveryState.ARMED,
    attempts=0,
    created_at=AT + 200,
    finished_at=None,
    outcome=Outcome(),
)
EVENT = Event(AT + 160, "FailedPreStopHook", ODD, FAILED.id, f"HTTP lifecycle hook ({EVIL}) failed, attempt 3")

#: A daemon as far as the journal is concerned: opens it, commits once more, and waits to be killed.
DAEMON = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("UPDATE delivery SET attempts = 7 WHERE state = 'failed'")
print("open", flush=True)
sys.stdin.read()
"""


def operation(delivery: Delivery) -> Operation:
    """What a delivery belongs to."""
    start = delivery.hook is Hook.POST_START
    return Operation(
        id=delivery.operation_id,
        kind=OperationKind.START if start else OperationKind.STOP,
        reason=Reason.START_CONTAINER if start else Reason.STOP_CONTAINER,
        container=delivery.container,
        state=OperationState.ACCEPTED,
        timeout=0,
        deadline=None,
        boot_id="boot",
        created_at=delivery.created_at,
    )


@contextmanager
def daemon(state_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the journal open and has written to it."""
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON, state_dir / FILE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        try:
            yield process
        finally:
            process.kill()


def run(tmp_path: Path, *words: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command with its output caught, without this machine's settings, nine hours east of Greenwich."""
    nothing = tmp_path / "nothing.toml"
    nothing.touch()
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HOOKSHIM_") and name not in ("COLUMNS", "FORCE_COLOR")
    }
    return subprocess.run(
        [sys.executable, "-m", "server.cli", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**inherited, "HOOKSHIM_CONFIG": str(nothing), "TZ": "EAST-9", **(env or {})},
    )


def answer(tmp_path: Path, *words: str | Path, env: dict[str, str] | None = None) -> str:
    """What a command that succeeds and has nothing to remark prints."""
    done = run(tmp_path, *words, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def content(directory: Path) -> dict[str, bytes]:
    """Every file and what is in it."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}
