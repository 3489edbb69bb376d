"""The journal's disk: full, read-only, or lying. It keeps nothing from being stopped, and hides nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.hookshimd import Hookshim
from tests.support.metrics import scrape
from tests.support.receiver import Receiver
from tests.support.stage import Stage
from tests.support.waiting import until


class SmallDisk:
    """A tmpfs of one MiB with a daemon's state directory on it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", place], check=True)

    def fill(self) -> None:
        """Leave not a byte."""
        with (self.place / "ballast").open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(b"x" * 4096)
            except OSError:
                return

    def empty(self) -> None:
        """Give the room back."""
        (self.place / "ballast").unlink()

    def remount(self, how: str) -> None:
        """``ro`` or ``rw``."""
        subprocess.run(["mount", "-o", f"remount,{how}", self.place], check=True)

    def close(self) -> None:
        """Take it away."""
        subprocess.run(["umount", "--lazy", self.place], check=True)


@pytest.fixture
def daemon(hookshim: MakeHookshim, containerd: PrivateContainerd) -> Hookshim:
    """A daemon that is not started yet."""
    return hookshim(containerd, start=False)


@pytest.fixture
def disk(daemon: Hookshim) -> Iterator[SmallDisk]:
    """The disk under the daemon's state directory."""
    made = SmallDisk(daemon.state_dir)
    yield made
    daemon.kill()
    made.close()


@pytest.fixture
def stage(daemon: Hookshim, disk: SmallDisk, pod_name: str, tmp_path: Path, receiver: Receiver) -> Stage:
    """A pod behind that daemon."""
    daemon.start()
    return Stage(daemon, pod_name, tmp_path, receiver)


def log_of(daemon: Hookshim) -> list[str]:
    """The events of the daemon's log."""
    return [json.loads(line)["event"] for line in daemon.log.read_text().splitlines()]


def test_a_full_disk_keeps_nothing_from_being_stopped(stage: Stage, disk: SmallDisk) -> None:
    """The hook runs and the stop goes on without a record; the record is written when there is room."""
    container = stage.container({"preStop": stage.hook("preStop", "exec")})
    stage.cri.start(container)
    stage.log.wait_for("started")
    disk.fill()
    stage.cri.stop(container, 10)
    assert stage.log.words() == ["started", "preStop begins", "preStop ends", "TERM", "finished"]
    assert stage.cri.state(container) == "CONTAINER_EXITED"
    assert "the journal cannot be written: going on without a record" in log_of(stage.daemon)
    full = scrape(stage.daemon)
    assert (full.value("hookshim_journal_writable"), full.value("hookshim_deliveries_total")) == (0, 0)
    assert full.value("hookshim_journal_commit_failures_total") > 0
    disk.empty()
    until(lambda: stage.deliveries() == [("preStop", "delivered")], "the record is written")
    empty = scrape(stage.daemon)
    assert (empty.value("hookshim_journal_writable"), empty.value("hookshim_deliveries_total")) == (1, 1)


def test_a_full_disk_keeps_a_container_with_a_post_start_from_starting(stage: Stage, disk: SmallDisk) -> None:
    """UNAVAILABLE that says why; nothing is started. A container without hooks does not notice."""
    hooked = stage.container({"postStart": stage.hook("postStart", "exec")})
    plain = stage.container({}, ["sleep", "3600"], name="plain")
    disk.fill()
    with pytest.raises(CRIError) as refused:
        stage.cri.start(hooked)
    assert refused.value.code.name == "UNAVAILABLE"
    assert "full" in refused.value.message
    assert stage.cri.state(hooked) == "CONTAINER_CREATED"
    stage.cri.start(plain)
    stage.cri.stop(plain, 0)
    assert stage.cri.state(plain) == "CONTAINER_EXITED"
    disk.empty()
    stage.cri.start(hooked)
    assert stage.calls("postStart") == 1


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_daemon_starts_on_a_disk_that_takes_nothing(stage: Stage, disk: SmallDisk, trouble: str) -> None:
    """Full or read-only from the start: it serves, and a stop runs its hook; recovery follows when the disk is well."""
    container = stage.container({"preStop": stage.hook("preStop", "exec")})
    stage.cri.start(container)
    stage.log.wait_for("started")
    assert stage.daemon.terminate() == 0
    if trouble == "full":
        (disk.place / "hookshim.lock").unlink()
        (disk.place / "hookshim.lock").touch(0o600)
        disk.fill()
    else:
        disk.remount("ro")
    stage.daemon.start()
    stage.cri.stop(container, 10)
    assert stage.log.words() == ["started", "preStop begins", "preStop ends", "TERM", "finished"]
    if trouble == "full":
        disk.empty()
    else:
        disk.remount("rw")
    until(lambda: stage.deliveries() == [("preStop", "delivered")], "the record is written", 60)


@pytest.mark.parametrize("damage", ["header", "pages", "wal"])
def test_a_damaged_journal_is_set_aside_and_the_node_goes_on(
    daemon: Hookshim, pod_name: str, tmp_path: Path, receiver: Receiver, damage: str
) -> None:
    """Flipped bytes: renamed, announced in the log and by ``deliveries``, and a new journal serves the next hook.

    A truncated WAL is only a shorter history: it is no damage, and nothing is set aside.
    """
    daemon.start()
    stage = Stage(daemon, pod_name, tmp_path, receiver)
    first = stage.container({"preStop": stage.hook("first", "httpGet")}, ["sleep", "3600"], name="first")
    stage.cri.start(first)
    stage.cri.stop(first, 0)
    journal = daemon.state_dir / "journal.db"
    if damage == "wal":
        daemon.kill()
        wal = journal.with_name("journal.db-wal")
        os.truncate(wal, wal.stat().st_size // 2)
    else:
        daemon.terminate()
        spoil(journal, 0 if damage == "header" else 4096)
    daemon.start()
    second = stage.container({"preStop": stage.hook("second", "httpGet")}, ["sleep", "3600"], name="second")
    stage.cri.start(second)
    stage.cri.stop(second, 0)
    assert stage.calls("second") == 1
    assert stage.deliveries()[-1] == ("preStop", "delivered")
    aside = list(daemon.state_dir.glob("journal.db.corrupt-*"))
    announced = "the journal was damaged; a new one is begun" in log_of(daemon)
    assert (len(aside), announced) == ((0, False) if damage == "wal" else (1, True))
    damaged = [event["message"] for event in daemon.events() if event["reason"] == "JournalDamaged"]
    assert [str(place) in message for place, message in zip(aside, damaged, strict=True)] == [True] * len(aside)
    scraped = scrape(daemon)
    assert scraped.value("hookshim_journals_set_aside_total") == len(aside)
    assert scraped.value("hookshim_events_total", reason="JournalDamaged") == len(aside)


def test_a_damaged_journal_can_be_refused(daemon: Hookshim) -> None:
    """``on_corrupt = "refuse"``: the daemon says which file, ends with 1, and touches nothing."""
    daemon.start()
    daemon.terminate()
    journal = daemon.state_dir / "journal.db"
    spoil(journal, 0)
    before = journal.read_bytes()
    daemon.env["HOOKSHIM_ON_CORRUPT"] = "refuse"
    daemon.start(wait=False)
    assert daemon.wait() == 1
    assert str(journal) in daemon.tail()
    assert journal.read_bytes() == before
    assert [path.name for path in daemon.state_dir.glob("journal.db*")] == ["journal.db"]


def spoil(journal: Path, offset: int) -> None:
    """Overwrite a page's worth of bytes."""
    with journal.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * 4096)


def test_a_journal_of_an_earlier_moment_is_recovered_from(stage: Stage) -> None:
    """Any prefix of the past will do: an older copy of the journal repeats a hook at most, and nothing is stuck."""
    container = stage.container({"preStop": stage.hook("preStop", "httpGet")})
    stage.cri.start(container)
    stage.log.wait_for("started")
    stage.daemon.terminate()
    past = stage.daemon.state_dir.with_name("past")
    shutil.copytree(stage.daemon.state_dir, past)
    stage.daemon.start()
    stage.cri.stop(container, 10)
    stage.daemon.kill()
    for path in stage.daemon.state_dir.glob("journal.db*"):
        path.unlink()
    shutil.copy(past / "journal.db", stage.daemon.state_dir)
    stage.daemon.start()
    stage.cri.stop(container, 10)
    assert stage.cri.state(container) == "CONTAINER_EXITED"
    assert stage.calls("preStop") == 1
