"""``deliveries --watch`` and ``events --follow``: every change once, whatever becomes of the daemon and its journal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from shim.changes import UpdateDelivery
from shim.records import DeliveryState, Outcome
from shim.store import FILE, Store, set_aside
from tests.cli.bed import ALL, ARMED, AT, WAITING, commit, environment, running
from tests.cli.writer import failed, writer
from tests.support.waiting import PATIENCE


def test_each_change_of_a_delivery_is_a_json_line(tmp_path: Path, state_dir: Path) -> None:
    """First what is there, then what becomes another, also when it no longer meets what was asked for."""
    sent = replace(WAITING, state=DeliveryState.DELIVERING, attempts=2, next_attempt_at=None)
    delivered = replace(sent, state=DeliveryState.DELIVERED, finished_at=AT + 3600, outcome=Outcome())
    words: list[str | Path] = [
        "deliveries",
        "--watch",
        "--json",
        "--state",
        "open",
        "--hook",
        "postStop",
        "--state-dir",
        state_dir,
    ]
    with running(tmp_path, *words) as watched, closing(Store.open(state_dir / FILE)) as store:
        first = [json.loads(watched.line()) for _ in range(2)]
        commit(store, (UpdateDelivery(sent, WAITING.state),))
        second = json.loads(watched.line())
        commit(store, (UpdateDelivery(delivered, sent.state),))
        third = json.loads(watched.line())
        commit(store, (UpdateDelivery(replace(ARMED, state=DeliveryState.PENDING), ARMED.state),))
        fourth = json.loads(watched.line())
    assert [one["id"] for one in first] == [WAITING.id, ARMED.id]
    assert [(one["id"], one["state"], one["attempts"]) for one in (second, third, fourth)] == [
        (WAITING.id, "delivering", 2),
        (WAITING.id, "delivered", 2),
        (ARMED.id, "pending", 0),
    ]


def test_no_event_is_lost_or_told_twice_over_killed_daemons(tmp_path: Path, state_dir: Path) -> None:
    """Three daemons one after another, each killed in the middle; the last ends in peace and takes the WAL with it."""
    words: list[str | Path] = [
        "events",
        "--follow",
        "--json",
        "--state-dir",
        state_dir,
        "--limit",
        "1",
        "--container",
        "app",
    ]
    told = []
    with running(tmp_path, *words) as followed:
        for daemon in range(3):
            with writer(state_dir / FILE) as journal:
                for number in range(100 + 10 * daemon, 105 + 10 * daemon):
                    journal.write(number)
                    told.append(json.loads(followed.line())["message"])
        with closing(Store.open(state_dir / FILE)) as store:
            failed(store, 200)
        told.append(json.loads(followed.line())["message"])
    numbers = [*range(100, 105), *range(110, 115), *range(120, 125), 200]
    assert told == [f"number {number}" for number in numbers]


def test_a_burst_of_events_is_told_whole_and_in_order(tmp_path: Path, state_dir: Path) -> None:
    """More than one between two looks, and beside a reader who is slow; a limit is for what was there before."""
    words: list[str | Path] = ["events", "--follow", "--json", "--state-dir", state_dir, "--limit", "1"]
    with running(tmp_path, *words) as followed, closing(Store.open(state_dir / FILE)) as store:
        assert json.loads(followed.line())["reason"] == "JournalDamaged"
        for number in range(100, 160):
            failed(store, number)
        told = [json.loads(followed.line())["message"] for _ in range(60)]
    assert told == [f"number {number}" for number in range(100, 160)]


def test_a_journal_that_is_set_aside_is_told_of_and_the_new_one_is_followed(tmp_path: Path, state_dir: Path) -> None:
    """Its numbers begin anew, and yet nothing of it is taken for known."""
    words: list[str | Path] = ["events", "--follow", "--state-dir", state_dir, "--limit", "1"]
    with running(tmp_path, *words) as followed:
        assert (
            followed.line() == "06-01 08:44:56  JournalDamaged  the node: the journal was found damaged and set aside"
        )
        aside = set_aside(state_dir / FILE, "corrupt-20261121T090000Z")
        with closing(Store.open(state_dir / FILE)) as store:
            failed(store, 1)
        line = followed.line()
        followed.process.send_signal(signal.SIGINT)
        assert followed.process.wait(PATIENCE) == 0
        assert followed.said() == (
            f"note: a damaged journal was set aside as {aside}; what it held is not shown here\n"
        )
    assert line == "06-01 08:34:57  FailedPreStopHook  production/web-7d4b9c6f5-x2x7q app: number 1"


def test_watching_begins_before_there_is_a_journal_and_ends_with_ctrl_c_in_peace(tmp_path: Path) -> None:
    """Exit 0 and no traceback; a person has a line for each change."""
    state_dir = tmp_path / "state"
    with running(tmp_path, "deliveries", "--watch", "--state-dir", state_dir) as watched:
        assert watched.process.stderr is not None
        assert watched.process.stderr.readline().startswith(b"no deliveries: there is no journal at ")
        state_dir.mkdir()
        with closing(Store.open(state_dir / FILE)) as store:
            failed(store, 1)
        line = watched.line()
        watched.process.send_signal(signal.SIGINT)
        assert watched.process.wait(PATIENCE) == 0
        assert watched.said() == ""
    assert line == (
        "0000000000000001  preStop    exec       failed      "
        "production/web-7d4b9c6f5-x2x7q app, 1 try, 0.2 s, it failed"
    )


def test_watching_ends_when_nobody_reads_any_more(tmp_path: Path, state_dir: Path) -> None:
    """As ``| head -1`` leaves it: no process stays behind on a quiet node."""
    with running(tmp_path, "events", "--follow", "--json", "--state-dir", state_dir) as followed:
        # All that there is to tell: what ends it is not that it cannot write.
        assert [json.loads(followed.line())["reason"] for _ in range(2)] == ["FailedPreStopHook", "JournalDamaged"]
        assert followed.process.stdout is not None
        followed.process.stdout.close()
        assert followed.process.wait(PATIENCE) == 0
        assert followed.said() == ""


def test_a_journal_that_cannot_be_read_at_first_is_exit_1(tmp_path: Path) -> None:
    """Later it is noted and asked again; at first it is most likely the wrong place."""
    (tmp_path / FILE).write_bytes(b"no journal" * 1000)
    with running(tmp_path, "events", "--follow", "--state-dir", tmp_path) as followed:
        assert followed.process.wait(PATIENCE) == 1
        assert "cannot be read: file is not a database" in followed.said()


@pytest.mark.parametrize("lines", [24, 6])
def test_a_terminal_has_a_table_that_changes(tmp_path: Path, state_dir: Path, lines: int) -> None:
    """The newest stands at its end and is seen, however small the terminal is; Ctrl-C leaves it there."""
    parent, child = pty.openpty()
    env = environment(tmp_path, 160, LINES=str(lines), TERM="xterm")
    command = [sys.executable, "-m", "server.cli", "deliveries", "--watch", "--state-dir", str(state_dir)]
    with subprocess.Popen(command, stdin=child, stdout=child, stderr=subprocess.PIPE, env=env) as process:
        os.close(child)
        try:
            seen = _until(parent, ALL[-1].id)
            assert (ALL[0].id in seen) == (lines == 24)
            with closing(Store.open(state_dir / FILE)) as store:
                failed(store, 200)
            assert "it failed" in _until(parent, "it failed")
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
            assert process.stderr is not None
            assert process.stderr.read() == b""
        finally:
            process.kill()
            os.close(parent)


def _until(terminal: int, text: str) -> str:
    """What the terminal shows, up to the text."""
    seen = b""
    deadline = time.monotonic() + PATIENCE
    while text.encode() not in seen:
        left = deadline - time.monotonic()
        if left < 0 or not select.select([terminal], [], [], left)[0]:
            raise TimeoutError(f"{text} was not shown, but {seen!r}")
        seen += os.read(terminal, 1 << 16)
    return seen.decode()
