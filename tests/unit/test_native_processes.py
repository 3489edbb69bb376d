"""Who belongs to a hook's process, on the node, and who is never signalled."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.native import processes
from server.native.processes import GoneError, Held, NotOursError, started
from server.native.run import exec_name
from tests.support.waiting import PATIENCE, until

#: More seconds than any test takes, in this run alone: by them its processes are told from another's.
LONG = f"9{os.getpid():09}"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """What a test has started and not ended is ended here."""
    yield
    for pid in sleeping():
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads its session, with a job, a grandchild in a session of its own, and one without a parent."""
    left = f"setsid sh -c 'echo $$ >{tmp_path}/left; exec sleep {LONG}'"
    orphan = f"sh -c 'sleep {LONG} & echo $! >{tmp_path}/orphan'"
    script = f"{left} & sleep {LONG} & echo $! >{tmp_path}/job; {orphan}; wait"
    made = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    yield made
    made.kill()
    made.wait(PATIENCE)


def written(path: Path) -> int:
    """The pid in this file."""
    return int(until(lambda: path.read_text().strip() if path.exists() else "", f"{path.name} is written"))


def alive(pid: int) -> bool:
    """Whether it runs (a zombie does not)."""
    try:
        return "\nState:\tZ" not in (Path("/proc") / str(pid) / "status").read_text()
    except FileNotFoundError:
        return False


def test_a_session_and_its_descendants_are_killed(leader: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """All of them are named, and nobody else is touched."""
    family = {leader.pid, *(written(tmp_path / name) for name in ("job", "left", "orphan"))}
    bystander = subprocess.Popen(["sleep", LONG])
    try:
        with Held(leader.pid, processes.started(leader.pid), os.getpid()) as held:
            assert set(held.kill()) == family
        assert leader.wait(PATIENCE) == -signal.SIGKILL
        until(lambda: not any(alive(pid) for pid in family), "all are gone")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait(PATIENCE)


def test_none_is_born_while_they_are_killed(tmp_path: Path) -> None:
    """They are stopped before the first is killed, whose children would have another parent then."""
    forks = f"i=0; while [ $i -lt 1000 ]; do setsid sleep {LONG} & i=$((i+1)); done; wait"
    leader = subprocess.Popen(["sh", "-c", forks], start_new_session=True)
    try:
        until(lambda: len(sleeping()) > 20, "there are some")
        with Held(leader.pid, processes.started(leader.pid), os.getpid()) as held:
            held.kill()
        until(lambda: not alive(leader.pid), "it is gone")
        until(lambda: not sleeping(), "all are gone")
    finally:
        leader.kill()
        leader.wait(PATIENCE)


def sleeping() -> list[int]:
    """The processes of this run that sleep so long."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        if words[:2] == [b"sleep", LONG.encode()]:
            found.append(int(process.name))
    return found


def test_a_process_that_began_at_another_time_is_not_held(leader: subprocess.Popen[bytes]) -> None:
    """The pid was given to somebody else; and what was never recorded is nobody's."""
    started = processes.started(leader.pid)
    assert started is not None
    for wrong in (started - 1, None):
        with pytest.raises(NotOursError, match="began at"), Held(leader.pid, wrong, os.getpid()):
            pytest.fail("it is held")
    assert leader.poll() is None


def test_a_process_that_is_gone_is_not_held() -> None:
    """Its number may be anybody's soon."""
    gone = subprocess.Popen(["true"])
    gone.wait(PATIENCE)
    with pytest.raises(NotOursError, match="is gone"), Held(gone.pid, 1, os.getpid()):
        pytest.fail("it is held")


def test_a_process_that_has_ended_and_is_not_reaped_is_not_held() -> None:
    """It is still there for its parent alone."""
    ended = subprocess.Popen(["true"])
    until(lambda: not alive(ended.pid), "it has ended")
    with pytest.raises(GoneError), Held(ended.pid, started(ended.pid), os.getpid()):
        pytest.fail("it is held")
    ended.wait(PATIENCE)


def test_a_container_that_is_gone_has_no_processes(leader: subprocess.Popen[bytes]) -> None:
    """Without its own process there is no cgroup to compare with."""
    gone = subprocess.Popen(["true"])
    gone.wait(PATIENCE)
    with pytest.raises(NotOursError, match="cgroup"), Held(leader.pid, processes.started(leader.pid), gone.pid):
        pytest.fail("it is held")
    assert leader.poll() is None


def test_nothing_stays_open(leader: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """A daemon that kills hooks for years does not run out of descriptors."""
    written(tmp_path / "left")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(NotOursError), Held(leader.pid, 1, os.getpid()):
        pytest.fail("it is held")
    with Held(leader.pid, processes.started(leader.pid), os.getpid()) as held:
        held.kill()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_command_may_be_named_like_the_fields_after_it(tmp_path: Path) -> None:
    """A name with blanks and parentheses does not shift what is read of a process."""
    program = tmp_path / ") S 1 1 1 ("
    shutil.copy(shutil.which("sleep") or "", program)
    made = subprocess.Popen([program, LONG])
    try:
        found = processes.read(made.pid)
        assert found is not None
        assert (found.pid, found.parent, found.group) == (made.pid, os.getpid(), os.getpgid(made.pid))
    finally:
        made.kill()
        made.wait(PATIENCE)


def test_an_exec_is_named_as_containerd_allows() -> None:
    """At most 76 characters of its own alphabet, also for the longest delivery id and with what a repeat adds."""
    name = f"{exec_name('f' * 32, 10**9)}.3"
    assert len(name) <= 76
    assert re.fullmatch(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*", name)
