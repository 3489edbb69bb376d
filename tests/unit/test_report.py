"""``hookshim deliveries`` and ``events`` as a person meets them: tables, JSON, and a journal in any shape."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shim.store import FILE, VERSION, Store
from tests.unit.cli_bed import (
    EVENT,
    EVIL,
    FAILED,
    OK,
    OPEN,
    answer,
    content,
    daemon,
    run,
)
from tests.unit.records import write_version_1


def test_deliveries_as_json_have_the_documented_fields(tmp_path: Path, state_dir: Path) -> None:
    """An array, newest last; times in UTC or null; neither handler output nor its headers."""
    found = json.loads(answer(tmp_path, "deliveries", "--json", "--state-dir", state_dir))
    assert [delivery["id"] for delivery in found] == [OK.id, FAILED.id, OPEN.id]
    assert found[0] == {
        "id": OK.id,
        "container_id": "c" * 64,
        "container": "app",
        "sandbox_id": "b" * 64,
        "pod": "web-7d4b9c6f5-x2x7q",
        "namespace": "production",
        "uid": "6f1c9c7e-uid",
        "hook": "preStop",
        "position": 0,
        "handler": "exec",
        "source": "container",
        "state": "delivered",
        "attempts": 1,
        "created_at": "2026-11-21T08:34:56.500Z",
        "next_attempt_at": None,
        "finished_at": "2026-11-21T08:34:56.750Z",
        "exit_status": 0,
        "http_status": None,
        "error": "",
    }
    assert found[1]["handler"] == "httpGet"
    assert found[1]["error"] == FAILED.outcome.error
    assert found[2]["finished_at"] is None
    assert found[2]["state"] == "armed"
    assert "sesame" not in json.dumps(found)
    assert "what the handler said" not in json.dumps(found)


def test_events_as_json_have_the_documented_fields(tmp_path: Path, state_dir: Path) -> None:
    """As Kubernetes names them, with the delivery they are about."""
    assert json.loads(answer(tmp_path, "--state-dir", state_dir, "events", "--json")) == [
        {
            "at": "2026-11-21T08:37:36.500Z",
            "type": "Warning",
            "reason": "FailedPreStopHook",
            "namespace": EVIL,
            "pod": EVIL,
            "uid": EVIL,
            "container": EVIL,
            "container_id": "d" * 64,
            "field_path": f"spec.containers{{{EVIL}}}",
            "delivery_id": FAILED.id,
            "message": EVENT.message,
        }
    ]


@pytest.mark.parametrize("columns", ["80", "300"])
def test_the_tables_fit_and_cut_no_id_and_show_no_control_character(
    tmp_path: Path, state_dir: Path, columns: str
) -> None:
    """At 80 columns (also what a pipe gets) and on a wide terminal; local times; a name from a pod is only text."""
    env = {"COLUMNS": columns} if columns != "80" else {}
    table = answer(tmp_path, "deliveries", "--state-dir", state_dir, env=env)
    listed = answer(tmp_path, "events", "--state-dir", state_dir, env=env)
    for text in (table, listed):
        lines = text.splitlines()
        assert all(line.isprintable() for line in lines)
        assert all(len(line) <= int(columns) for line in lines)
        assert "\\x1b]0;owned\\x07\\n\\u202egnp" in "".join("".join(lines).split())
    for delivery in (OK, FAILED, OPEN):
        assert delivery.id in table
        assert delivery.state in table
    for shown in ("production/web-7d4b9c6f5-x2x7q", "preStop", "exec", "11-21 17:34:56", "0.2 s", "0:01:40"):
        assert shown in table
    assert "FailedPreStopHook" in listed


def test_a_wide_terminal_gets_a_line_for_each_delivery(tmp_path: Path, state_dir: Path) -> None:
    """Then it can be searched line by line."""
    table = answer(tmp_path, "deliveries", "--state-dir", state_dir, env={"COLUMNS": "400"})
    header, *rows = table.splitlines()
    expected = ["id", "pod", "container", "hook", "handler", "state", "tries", "created", "took", "error"]
    assert header.split() == expected
    assert [row.split()[0] for row in rows] == [OK.id, FAILED.id, OPEN.id]


def test_limit_keeps_the_newest(tmp_path: Path, state_dir: Path) -> None:
    """Still the newest last."""
    found = json.loads(answer(tmp_path, "deliveries", "--json", "--limit", "2", "--state-dir", state_dir))
    assert [delivery["id"] for delivery in found] == [FAILED.id, OPEN.id]


def test_a_reader_that_stops_early_is_no_error(tmp_path: Path, state_dir: Path) -> None:
    """``hookshim deliveries | head -1`` prints a line and no traceback."""
    nothing = tmp_path / "nothing.toml"
    nothing.touch()
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "server.cli", "deliveries", "--config", nothing, "--state-dir", state_dir],
            stdout=output,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.stderr == b""


@pytest.mark.parametrize("command", ["deliveries", "events"])
def test_a_state_directory_without_a_journal_is_empty_and_says_where_it_looked(tmp_path: Path, command: str) -> None:
    """On stderr; stdout has the empty array for programs and nothing for people; nothing is made."""
    expected = (
        f"no {command}: there is no journal at {tmp_path / 'none' / FILE} "
        "(no daemon has used this state directory; see --state-dir)\n"
    )
    for words, printed in ((["--json"], "[]\n"), ([], "")):
        done = run(tmp_path, command, "--state-dir", tmp_path / "none", *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, printed, expected)
    assert not (tmp_path / "none").exists()


def test_a_journal_without_deliveries_is_told_from_none(tmp_path: Path) -> None:
    """The person learns that it is the right place."""
    Store.open(tmp_path / FILE).close()
    done = run(tmp_path, "deliveries", "--state-dir", tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"no deliveries yet in {tmp_path / FILE}\n"


@pytest.mark.parametrize("shape", ["ended", "running", "killed", "copied"])
def test_reading_works_in_whatever_shape_a_daemon_leaves_the_journal_and_alters_nothing(
    tmp_path: Path, state_dir: Path, shape: str
) -> None:
    """The last commit is seen; no file is made, removed or changed. "copied": without SQLite's -shm."""
    with daemon(state_dir) as process:
        if shape == "ended":
            process.communicate(b"")
        elif shape != "running":
            process.kill()
            process.wait()
        if shape == "copied":
            (state_dir / f"{FILE}-shm").unlink()
        before = content(state_dir)
        found = json.loads(answer(tmp_path, "deliveries", "--json", "--state-dir", state_dir))
        assert content(state_dir) == before
    assert [delivery["attempts"] for delivery in found] == [1, 7, 0]
    beside = {"ended": set(), "copied": {f"{FILE}-wal"}}.get(shape, {f"{FILE}-wal", f"{FILE}-shm"})
    assert set(before) == {FILE} | beside


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("garbage", "hookshim: the journal {path} cannot be read: file is not a database\n"),
        ("newer", "hookshim: the journal {path} has version 99, this hookshim reads up to {version}\n"),
        ("file", "hookshim: the journal {path} cannot be read: Not a directory\n"),
    ],
)
def test_a_journal_that_cannot_be_read_is_one_line_and_exit_1(tmp_path: Path, damage: str, expected: str) -> None:
    """What and where, without a traceback."""
    directory = tmp_path / "state"
    if damage == "file":
        directory.touch()
    else:
        directory.mkdir()
        store = Store.open(directory / FILE)
        store._db.execute("PRAGMA user_version = 99")
        store.close()
    if damage == "garbage":
        (directory / FILE).write_bytes(b"no journal" * 1000)
    done = run(tmp_path, "deliveries", "--json", "--state-dir", directory)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == expected.format(path=directory / FILE, version=VERSION)


def test_an_older_versions_journal_is_read_and_left_as_it_is(tmp_path: Path) -> None:
    """Its own daemon may still be running, or be wanted back."""
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    write_version_1(state_dir / FILE)
    before = content(state_dir)
    [found] = json.loads(answer(tmp_path, "deliveries", "--json", "--state-dir", state_dir))
    assert (found["id"], found["state"], found["attempts"]) == ("d1", "failed", 1)
    assert content(state_dir) == before


def test_reading_survives_a_writer_that_never_pauses(tmp_path: Path, state_dir: Path) -> None:
    """Beside a busy daemon every answer is one state of the journal, and the daemon goes on."""
    script = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('PRAGMA wal_autocheckpoint = 10')\n"
        "print('open', flush=True)\n"
        "while True: db.execute('UPDATE delivery SET attempts = attempts + 1 WHERE attempts > 0')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, state_dir / FILE], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        try:
            for _ in range(5):
                found = json.loads(answer(tmp_path, "deliveries", "--json", "--state-dir", state_dir))
                assert found[1]["attempts"] == found[0]["attempts"] + 2
            assert writer.poll() is None
        finally:
            writer.kill()
    assert writer.wait() == -signal.SIGKILL
