"""A disk that fails under a running daemon: full in the middle of a group commit, or found broken by the kernel."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.hookshimd import Hookshim
from tests.support.receiver import Receiver
from tests.support.stage import Stage
from tests.support.waiting import until

#: Bytes: enough for an ext4, and for the journal of a few containers.
SIZE = 16 << 20


class LoopDisk:
    """An ext4 of its own under a daemon's state directory, which the kernel can be made to find broken."""

    def __init__(self, place: Path, image: Path) -> None:
        self.place = place
        self._image = image
        place.mkdir(mode=0o700)
        with image.open("wb") as file:
            file.truncate(SIZE)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        self.mount()

    def mount(self) -> None:
        """Mount it; what the kernel has found broken is repaired first."""
        subprocess.run(["e2fsck", "-p", self._image], check=False, stdout=subprocess.DEVNULL)
        subprocess.run(["mount", "-o", "loop,errors=remount-ro", self._image, self.place], check=True)
        self.place.chmod(0o700)

    def fill(self, leave: int) -> None:
        """Take all of its room but about ``leave`` bytes."""
        with (self.place / "ballast").open("wb", buffering=0) as ballast:
            with suppress(OSError):
                while True:
                    ballast.write(b"x" * 4096)
            ballast.truncate(ballast.tell() - leave)
            os.fsync(ballast.fileno())

    def empty(self) -> None:
        """Give the room back."""
        (self.place / "ballast").unlink()

    def fail(self) -> None:
        """Have the kernel find an error in it, and mount it read-only, files that are open for writing or not."""
        device = Path(f"/sys/dev/block/{os.major(self._dev)}:{os.minor(self._dev)}").resolve().name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1")
        until(lambda: not self._writable(), "the disk is read-only")

    def _writable(self) -> bool:
        try:
            (self.place / "probe").touch()
        except OSError as error:
            return error.errno != errno.EROFS
        return True

    @property
    def _dev(self) -> int:
        return self.place.stat().st_dev

    def unmount(self) -> None:
        """Take it away."""
        subprocess.run(["umount", self.place], check=True)


@pytest.fixture
def daemon(hookshim: MakeHookshim, containerd: PrivateContainerd) -> Hookshim:
    """A daemon that is not started yet."""
    return hookshim(containerd, start=False)


@pytest.fixture
def disk(daemon: Hookshim, tmp_path: Path) -> Iterator[LoopDisk]:
    """The disk under the daemon's state directory."""
    made = LoopDisk(daemon.state_dir, tmp_path / "disk.img")
    yield made
    daemon.kill()
    made.unmount()


@pytest.fixture
def stage(daemon: Hookshim, disk: LoopDisk, pod_name: str, tmp_path: Path, receiver: Receiver) -> Stage:
    """A pod behind that daemon."""
    daemon.start()
    return Stage(daemon, pod_name, tmp_path, receiver)


def test_a_disk_that_breaks_under_the_daemon_keeps_nothing_from_being_stopped(stage: Stage, disk: LoopDisk) -> None:
    """Hooks run unrecorded, loudly; nothing with hooks is started; when the disk is repaired, all is as before."""
    running = stage.container({"preStop": stage.hook("preStop", "exec")})
    hooked = stage.container({"postStart": stage.hook("postStart", "httpGet")}, ["sleep", "3600"], name="hooked")
    plain = stage.container({}, ["sleep", "3600"], name="plain")
    stage.cri.start(running)
    stage.log.wait_for("started")
    disk.fail()
    with pytest.raises(CRIError) as refused:
        stage.cri.start(hooked)
    assert refused.value.code.name == "UNAVAILABLE"
    assert "is not started, because its hooks cannot be recorded" in refused.value.message
    assert stage.cri.state(hooked) == "CONTAINER_CREATED"
    stage.cri.start(plain)
    stage.cri.stop(plain, 0)
    stage.cri.stop(running, 10)
    assert stage.log.words() == ["started", "preStop begins", "preStop ends", "TERM", "finished"]
    assert "the journal cannot be written" in stage.daemon.log.read_text()
    stage.daemon.kill()
    disk.unmount()
    disk.mount()
    stage.daemon.start()
    stage.cri.start(hooked)
    assert stage.calls("postStart") == 1
    assert stage.cri.state(hooked) == "CONTAINER_RUNNING"


def test_a_disk_that_fills_up_in_a_group_commit_starts_what_it_has_recorded_and_nothing_else(
    stage: Stage, disk: LoopDisk
) -> None:
    """Many starts at once on the last blocks: each has its record and its hook, or was refused and can be repeated."""
    names = [f"c{number}" for number in range(24)]
    made = {
        name: stage.container({"postStart": stage.hook(name, "httpGet")}, ["sleep", "3600"], name=name)
        for name in names
    }
    # Room for some pages of a transaction, and not for all.
    disk.fill(leave=16 << 10)

    def start(name: str) -> str:
        try:
            stage.cri.start(made[name])
        except CRIError as error:
            return "full" if error.code.name == "UNAVAILABLE" and "full" in error.message else str(error)
        return "OK"

    with ThreadPoolExecutor(len(names)) as callers:
        answers = dict(zip(names, callers.map(start, names), strict=True))
    assert set(answers.values()) <= {"OK", "full"}
    assert "full" in answers.values(), "there was room for all of them"
    for name, answer in answers.items():
        started = answer == "OK"
        assert stage.cri.state(made[name]) == ("CONTAINER_RUNNING" if started else "CONTAINER_CREATED"), name
        assert stage.calls(name) == int(started), name
    disk.empty()
    for name in (name for name, answer in answers.items() if answer != "OK"):
        stage.cri.start(made[name])
        assert stage.calls(name) == 1, name
    until(lambda: sorted(stage.deliveries()) == [("postStart", "delivered")] * len(names), "each has its one record")
