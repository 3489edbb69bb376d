"""An upgrade finds a journal of any earlier version, in any daemon's life, and goes on with it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest

from shim.store import FILE, VERSION
from tests.support.hookshimd import COMMAND, Hookshim
from tests.support.waiting import until
from tests.unit.records import write_version_1


def write(path: Path, version: int) -> None:
    """A journal as that version has left it: the first one's records, and what came since brought up to it."""
    write_version_1(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        for number in range(2, version + 1):
            script = (resources.files("shim") / "sql" / f"migration_{number}.sql").read_text()
            file.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_a_daemon_takes_a_journal_of_an_earlier_version_over(tmp_path: Path, version: int) -> None:
    """It opens, is of today's version then, and shows what it has held, with the daemon and without."""
    daemon = Hookshim(tmp_path, tmp_path / "nobody.sock")
    daemon.state_dir.mkdir(mode=0o700)
    journal = daemon.state_dir / FILE
    write(journal, version)
    daemon.start(wait=False)
    try:
        until(lambda: daemon.socket.exists() or daemon.exit_status is not None, "the journal is open")
        assert daemon.exit_status is None, daemon.tail()
        [shown] = deliveries(daemon)
        assert (shown["id"], shown["state"], shown["error"]) == ("d1", "failed", "it failed")
        assert daemon.terminate() == 0
    finally:
        daemon.close()
    with closing(sqlite3.connect(journal)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert deliveries(daemon) == [shown]


def deliveries(daemon: Hookshim) -> list[dict[str, str]]:
    """What the command shows."""
    command: list[str | Path] = [COMMAND, "--state-dir", daemon.state_dir, "deliveries", "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env={**daemon.env})
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found
