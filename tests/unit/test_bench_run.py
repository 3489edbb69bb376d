"""``hack/bench`` as a whole, with a real containerd: everything is measured, told and kept, and nothing stays."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.process import Process
from tests.support.waiting import until

BENCH = [sys.executable, "-m", "tests.support.bench"]

#: The rows that have a target.
PROMISED = {
    "Version, 1 caller",
    "Version, 16 callers",
    "Version, 16 at once on 1 connection",
    "pod's cycle without hooks",
    "exec PostStart; direct: StartContainer + ExecSync",
}

#: Bytes that any Python has in memory.
SOME_MEMORY = 10_000_000


def test_a_whole_run_measures_everything_on_every_way_and_keeps_it(tmp_path: Path) -> None:
    """Every row has every way's number, every promise a verdict, and the exit status is that of all of them.

    One test: whatever looks at a run would have to make one of its own where tests run in several processes.
    """
    kept = tmp_path / "costs.md"
    bench = Process([*BENCH, "--smoke", "--json", "--write", kept], tmp_path / "log")
    try:
        exit_status = bench.wait(100)
    finally:
        if bench.exit_status is None:
            bench.terminate()  # it ends what it has started
    assert exit_status in {0, 1}, bench.tail()
    told = json.loads(bench.log.read_text())
    _every_way_is_measured(told)
    _every_promise_is_judged(told, exit_status)
    written = kept.read_text()
    assert written.startswith("# What hookshim costs\n")
    assert told["machine"]["machine"] in written
    assert all(f"| {row['title']} " in written for row in told["rows"])


def _every_way_is_measured(told: dict[str, Any]) -> None:
    """Direct is missing only where there is nothing to compare with."""
    assert told["ways"] == ["direct", "copy", "relay", "grpc"]
    assert len(told["rows"]) == 30
    for row in told["rows"]:
        assert row["missing"] == {}, row["title"]
        measured = {way for way, numbers in row["taken"].items() if all(number > 0 for number in numbers)}
        expected = {"relay", "grpc"}
        if not row["title"].startswith(("deliveries", "Version (fake)")):
            expected.add("direct")
        if row["title"].startswith("Version, "):
            expected.add("copy")
        assert measured == expected
    assert len(told["memory"]) >= 6
    assert all(usage["idle"] > SOME_MEMORY and usage["after"] > SOME_MEMORY for usage in told["memory"])


def _every_promise_is_judged(told: dict[str, Any], exit_status: int) -> None:
    """And the pods that are measured without hooks really leave no commit."""
    judged = {row["title"]: row["verdict"] for row in told["rows"] if row["verdict"]}
    assert set(judged) == PROMISED
    checks = {check["title"]: check for check in told["checks"]}
    assert checks["commits to the journal by pods without hooks"]["verdict"] == "met"
    assert checks["4 started and 4 stopped at once, of 20 pods with hooks (fake)"]["verdict"] == "met"
    verdicts = {*judged.values(), *(check["verdict"] for check in checks.values())}
    assert verdicts <= {"met", "NOT MET"}
    assert exit_status == (0 if verdicts == {"met"} else 1)


def test_interrupted_it_ends_what_it_started(tmp_path: Path) -> None:
    """SIGTERM in the middle: status 130, and no directory of a hookshim, a runtime or a journal stays."""
    # tmp_path is too long for the sockets of a containerd
    with tempfile.TemporaryDirectory(prefix="hookshim-t-") as made:
        bench = Process([*BENCH, "--smoke"], tmp_path / "log", {"TMPDIR": made})
        try:
            until(lambda: any(Path(made).glob("hookshim-b-*/state/journal.db")), "a hookshim runs", 60)
            assert bench.terminate(60) == 130, bench.tail()
        finally:
            bench.kill()
        assert list(Path(made).iterdir()) == []
