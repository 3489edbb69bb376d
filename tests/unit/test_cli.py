"""The command line as a person meets it: each command as a process, what it prints where, and its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server import VERSION
from shim.changes import InsertDelivery, InsertEvent, InsertOperation
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
from shim.store import FILE, Store

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


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A state directory with a journal of three deliveries and an event, and no daemon."""
    directory = tmp_path / "state dir?#%"
    directory.mkdir(mode=0o700)
    store = Store.open(directory / FILE)
    groups = [(InsertOperation(operation(each)), InsertDelivery(each)) for each in (OK, FAILED, OPEN)]
    assert store.commit([*groups, (InsertEvent(EVENT),)]) == [None] * 4
    store.close()
    return directory


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
        "state": "delivered",
        "attempts": 1,
        "created_at": "2026-11-21T08:34:56.500Z",
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
        ("newer", "hookshim: the journal {path} has version 99, this hookshim reads up to 1\n"),
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
    assert done.stderr == expected.format(path=directory / FILE)


def test_options_are_taken_before_and_after_the_command_and_the_later_wins(tmp_path: Path, state_dir: Path) -> None:
    """As people type them; between two, the one nearer to the command's own."""
    ways: list[list[str | Path]] = [
        ["--state-dir", state_dir, "deliveries", "--json"],
        ["deliveries", "--json", "--state-dir", state_dir],
        ["--state-dir", tmp_path / "none", "deliveries", "--json", "--state-dir", state_dir],
    ]
    for words in ways:
        assert len(json.loads(answer(tmp_path, *words))) == 3


def test_check_config_prints_toml_with_every_value_and_its_source(tmp_path: Path) -> None:
    """What it prints can be used as the file, and gives the same values."""
    file = tmp_path / "my config.toml"
    file.write_text('[log]\nformat = "json"\n')
    words: list[str | Path] = ["--config", file, "--listen", "/run/a.sock", "check-config", "--drain-seconds", "3"]
    printed = answer(tmp_path, *words, env={"HOOKSHIM_STATE_DIR": "/srv/h"})
    assert printed.splitlines() == [
        'state_dir = "/srv/h"  # HOOKSHIM_STATE_DIR',
        'listen = "/run/a.sock"  # --listen',
        'containerd = "/run/containerd/containerd.sock"  # default',
        "drain_seconds = 3.0  # --drain-seconds",
        "default_grace_seconds = 30.0  # default",
        'zero_timeout = "run"  # default',
        'on_corrupt = "replace"  # default',
        "retention_hours = 24.0  # default",
        "",
        "[log]",
        'level = "info"  # default',
        f'format = "json"  # {file}',
    ]
    copy = tmp_path / "copy.toml"
    copy.write_text(printed)
    assert tomllib.loads(answer(tmp_path, "check-config", "--config", copy)) == tomllib.loads(printed)


@pytest.mark.parametrize(("command", "status"), [("check-config", 1), ("serve", 2), ("deliveries", 2), ("events", 2)])
def test_a_wrong_configuration_is_listed_and_nothing_is_done(tmp_path: Path, command: str, status: int) -> None:
    """Every problem a line on stderr, no traceback; check-config's exit code is an answer, the others' a refusal."""
    file = tmp_path / "config.toml"
    file.write_text('drain_seconds = "x"\ncolour = 1\nstate_dir = "STATE"'.replace("STATE", str(tmp_path / "state")))
    done = run(tmp_path, "--config", file, command)
    assert (done.returncode, done.stdout) == (status, "")
    first, *problems = done.stderr.splitlines()
    assert first == "hookshim: the configuration has 2 problems:"
    assert problems[0] == f'  {file}: drain_seconds: expected a number of seconds, 0 or more; found "x"'
    assert problems[1].startswith(f"  {file}: colour: unknown key; known are state_dir, ")
    assert len(problems) == 2
    assert not (tmp_path / "state").exists()


def test_a_control_character_in_what_was_typed_is_shown_as_an_escape(tmp_path: Path) -> None:
    """Also where the text comes from is not the terminal's business."""
    done = run(tmp_path, "deliveries", "--state-dir", "/\x1b[31m")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "\\u001b[31m" in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["deliveriez"], "No such command 'deliveriez'"),
        (["deliveries", "--jsom"], "No such option"),
        (["deliveries", "--limit", "0"], "Invalid value for '--limit'"),
        (["deliveries", "--limit", "x"], "Invalid value for '--limit'"),
        (["serve", "now"], "Got unexpected extra argument (now)"),
        (["--state-dir"], "Option '--state-dir' requires an argument"),
    ],
)
def test_wrong_usage_is_exit_2_and_says_what_is_wrong(tmp_path: Path, words: list[str], expected: str) -> None:
    """On stderr, without a traceback."""
    done = run(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_version_tells_hookshims_and_pythons(tmp_path: Path) -> None:
    """As text, as JSON, and as the option that people try first."""
    python = ".".join(map(str, sys.version_info[:3]))
    assert answer(tmp_path, "version") == f"hookshim {VERSION} (Python {python})\n"
    assert json.loads(answer(tmp_path, "version", "--json")) == {"hookshim": VERSION, "python": python}
    assert answer(tmp_path, "--version") == f"hookshim {VERSION}\n"


@pytest.mark.parametrize("command", ["serve", "deliveries", "events", "check-config", "version"])
def test_every_command_explains_itself_and_its_defaults(tmp_path: Path, command: str) -> None:
    """--help and -h; each setting with its variable and default."""
    text = answer(tmp_path, command, "--help")
    assert text == answer(tmp_path, command, "-h")
    unwrapped = " ".join(text.split())
    if command != "version":
        assert "[HOOKSHIM_STATE_DIR; default: /var/lib/hookshim]" in unwrapped
    if command in ("serve", "check-config"):
        assert "[HOOKSHIM_DRAIN_SECONDS; default: 10]" in unwrapped
    assert f"  {command} " in answer(tmp_path, "--help")


def test_serve_says_in_one_line_why_it_cannot_begin(tmp_path: Path) -> None:
    """A state directory in use: who has it, and exit 1."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from server.lock import StateLock\n"
        "with StateLock(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "s"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        done = run(tmp_path, "serve", "--state-dir", tmp_path / "s", "--listen", tmp_path / "h.sock")
        other.communicate(b"")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"hookshim: the state directory {tmp_path / 's'} is in use by pid {other.pid} (")
    assert (done.returncode, done.stdout) == (1, "")


def test_a_bug_in_the_daemon_is_logged_with_its_traceback_and_exit_1(tmp_path: Path) -> None:
    """As one structured line, where the rest of the log is; this is what a report of the bug needs."""
    script = (
        "import sys, server.daemon\n"
        "def run(config): raise KeyError('oops')\n"
        "server.daemon.run = run\n"
        "from server import cli\n"
        "sys.argv = ['hookshim', 'serve', '--state-dir', sys.argv[1]]\n"
        "cli.main()\n"
    )
    env = {**os.environ, "HOOKSHIM_CONFIG": os.devnull}
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False, env=env
    )
    record: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    assert (record["level"], record["exception"][0]["exc_type"]) == ("critical", "KeyError")
    assert done.returncode == 1


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
