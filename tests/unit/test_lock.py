"""The lock: one daemon a state directory, told who the other is, in a directory that is its owner's alone."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.lock import LOCK_NAME, StateDirectoryError, StateLock, StateLockedError

#: Takes the lock, starts a child that outlives it, and waits.
HOLDER = """
import subprocess, sys
from pathlib import Path
from server.lock import StateLock
with StateLock(Path(sys.argv[1])):
    child = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, close_fds=False)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(state_dir: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Another process that has the lock, and the pid of a child of it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, state_dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process, child
        finally:
            process.kill()
            os.kill(child, signal.SIGKILL)


def mode(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_the_directory_is_made_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    """0700, its parents 0755, the lock file 0600."""
    state_dir = tmp_path / "a/b/state"
    before = os.umask(0o277)
    try:
        with StateLock(state_dir):
            pass
    finally:
        os.umask(before)
    assert [mode(path) for path in (tmp_path / "a", tmp_path / "a/b", state_dir)] == [0o755, 0o755, 0o700]
    assert mode(state_dir / LOCK_NAME) & 0o077 == 0


@pytest.mark.parametrize("files", [[], [LOCK_NAME, "journal.db"]], ids=["empty", "hookshim's"])
def test_a_directory_that_is_open_to_others_is_closed(tmp_path: Path, files: list[str]) -> None:
    """An empty directory and one that hookshim has used before become 0700."""
    tmp_path.chmod(0o755)
    for name in files:
        (tmp_path / name).touch()
    with StateLock(tmp_path):
        assert mode(tmp_path) == 0o700


def test_a_directory_with_other_things_in_it_is_refused_not_closed(tmp_path: Path) -> None:
    """Whoever names /var/lib by mistake does not lock everybody else out of it."""
    tmp_path.chmod(0o755)
    (tmp_path / "dpkg").mkdir()
    with pytest.raises(StateDirectoryError) as refused:
        StateLock(tmp_path).acquire()
    assert str(refused.value) == (
        f"the state directory {tmp_path} is open to others (mode 0755) and holds things that are not hookshim's; "
        "give hookshim a directory of its own (--state-dir), or chmod this one to 0700"
    )
    assert mode(tmp_path) == 0o755
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_directory_like_tmp_is_refused_even_if_empty(tmp_path: Path) -> None:
    """A sticky directory is shared on purpose."""
    tmp_path.chmod(0o1777)
    with pytest.raises(StateDirectoryError, match=r"is open to others \(mode 1777\)"):
        StateLock(tmp_path).acquire()
    assert mode(tmp_path) == 0o1777


def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    """Its owner could change the journal, and with it what is run in containers. Needs root, as the daemon does."""
    os.chown(tmp_path, 65534, -1)
    with pytest.raises(StateDirectoryError, match="belongs to user 65534, and hookshim runs as user 0: "):
        StateLock(tmp_path).acquire()


@pytest.mark.parametrize("what", ["a file", "below a file"])
def test_what_is_no_directory_is_refused(tmp_path: Path, what: str) -> None:
    """In one line that names it."""
    file = tmp_path / "file"
    file.touch()
    state_dir = file if what == "a file" else file / "state"
    with pytest.raises(StateDirectoryError, match=f"the state directory {state_dir} cannot be used: Not a directory"):
        StateLock(state_dir).acquire()


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """The holder's line never lands in a file somewhere else."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / LOCK_NAME).symlink_to(elsewhere)
    with pytest.raises(StateDirectoryError, match="cannot be used"):
        StateLock(tmp_path / "state").acquire()
    assert elsewhere.read_text() == "precious"


def test_a_second_daemon_is_told_who_has_the_lock_and_what_to_do(tmp_path: Path) -> None:
    """Its pid, command and start, and two ways on."""
    with holder(tmp_path) as (process, _):
        with pytest.raises(StateLockedError) as refused:
            StateLock(tmp_path).acquire()
        text = str(refused.value)
    assert text.startswith(f"the state directory {tmp_path} is in use by pid {process.pid} ({sys.executable} -c ")
    assert re.search(r"\) since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ; stop that daemon, or give this one ", text)
    assert text.isprintable()


def test_a_killed_daemon_leaves_no_lock_even_if_a_child_of_it_lives(tmp_path: Path) -> None:
    """The kernel lets go with the process; nothing is inherited, and no file has to be removed."""
    with holder(tmp_path) as (process, child):
        process.kill()
        process.wait()
        os.kill(child, 0)
        with StateLock(tmp_path):
            holds = json.loads((tmp_path / LOCK_NAME).read_text())
    assert holds["pid"] == os.getpid()


def test_the_lock_can_be_taken_again_after_its_end(tmp_path: Path) -> None:
    """Within one process too, and releasing twice is nothing."""
    lock = StateLock(tmp_path)
    with lock:
        other = StateLock(tmp_path)
        with pytest.raises(StateLockedError, match=f"in use by pid {os.getpid()} "):
            other.acquire()
        other.release()
    lock.release()
    with lock:
        pass


@pytest.mark.parametrize("text", ["", "garbage\x1b[31m", "[]", '{"pid": 1}', "\n"])
def test_a_lock_file_that_tells_nothing_is_no_obstacle(tmp_path: Path, text: str) -> None:
    """Whoever holds the lock holds it; a holder that has not written yet is called another process."""
    with holder(tmp_path):
        (tmp_path / LOCK_NAME).write_text(text)
        with pytest.raises(StateLockedError, match="in use by another process that has not said which; "):
            StateLock(tmp_path).acquire()
    with StateLock(tmp_path):
        pass
