"""What is ended of an exec that the runtime does not know, and what is not. The container is the test's own cgroup."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from server.native import processes, strays
from tests.support.waiting import PATIENCE, until

#: More seconds than any test takes.
LONG = "987654321"

#: What the exec was given; the delivery is this run's alone.
GIVEN = {"HOOKSHIM_DELIVERY": f"d{os.getpid()}", "HOOKSHIM_ATTEMPT": "2"}


class Started:
    """Processes of this test, by what they were given."""

    def __init__(self) -> None:
        self._made: list[subprocess.Popen[bytes]] = []

    def __call__(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """One that is the command by now, and has this environment and nothing else."""
        made = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True)
        self._made.append(made)
        return made

    def end(self) -> None:
        """End them."""
        for made in self._made:
            made.kill()
            made.wait(PATIENCE)
            assert made.stdin
            made.stdin.close()


@pytest.fixture
def started() -> Iterator[Started]:
    """Ended with the test."""
    made = Started()
    yield made
    made.end()


def test_all_that_was_given_the_environment_is_killed(started: Started, tmp_path: Path) -> None:
    """Also what has left its session and has lost its parent: its environment is what is left to know it by."""
    orphan = tmp_path / "orphan"
    leaves = f"(setsid sh -c 'echo $$ >{orphan}.new; mv {orphan}.new {orphan}; exec sleep {LONG}' &); exec sleep {LONG}"
    hook = started("/bin/sh", "-c", leaves, PATH=os.environ["PATH"], **GIVEN)
    left = until(lambda: int(orphan.read_text()) if orphan.exists() else 0, "it has left a process")
    began = processes.started(left)
    assert began
    assert set(strays.end(os.getpid(), GIVEN).killed) == {hook.pid, left}
    until(lambda: not processes.runs(left, began), "it is gone")
    assert hook.wait(PATIENCE) < 0


@pytest.mark.parametrize(
    "other",
    [
        {**GIVEN, "HOOKSHIM_ATTEMPT": "1"},
        {**GIVEN, "HOOKSHIM_ATTEMPT": "22"},
        {**GIVEN, "HOOKSHIM_DELIVERY": "other"},
        {"HOOKSHIM_DELIVERY": GIVEN["HOOKSHIM_DELIVERY"]},
        {"SAID": " ".join(f"{name}={value}" for name, value in GIVEN.items())},
        {},
    ],
)
def test_another_environment_is_nobody_of_the_exec(started: Started, other: dict[str, str]) -> None:
    """Another attempt of the same hook, another hook, the container's own processes; one without any at all."""
    bystander, hook = started("/bin/sleep", LONG, **other), started("/bin/sleep", LONG, **GIVEN)
    assert strays.end(os.getpid(), GIVEN).killed == [hook.pid]
    assert bystander.poll() is None


def test_the_container_s_own_process_is_never_killed(started: Started) -> None:
    """Whatever it was given."""
    init = started("/bin/sleep", LONG, **GIVEN)
    assert init.pid not in strays.end(init.pid, GIVEN).killed
    assert init.poll() is None


def test_a_container_that_is_gone_has_nothing_of_it(started: Started) -> None:
    """Without its own process there is no cgroup to look in."""
    hook, gone = started("/bin/sleep", LONG, **GIVEN), started("/bin/true")
    gone.wait(PATIENCE)
    assert strays.end(gone.pid, GIVEN) == strays.Ended([], [])
    assert hook.poll() is None


def test_what_is_about_to_become_the_command_is_waited_for(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runc has been killed, and what it has put into the container goes on: it becomes the command a little later."""
    words = ["env", "-i", *(f"{name}={value}" for name, value in GIVEN.items()), "sleep", LONG]
    becomes = f"read go; exec {' '.join(words)}"
    hook = started("/bin/sh", "-c", becomes, PATH=os.environ["PATH"], _LIBCONTAINER_INITPIPE="3")
    looks: list[float] = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 1:
            assert hook.stdin
            hook.stdin.write(b"go\n")
            hook.stdin.flush()
            command = Path(f"/proc/{hook.pid}/cmdline")
            until(lambda: command.read_bytes().startswith(b"sleep"), "it is the command")

    monkeypatch.setattr(strays, "time", SimpleNamespace(sleep=pause, monotonic=time.monotonic))
    assert strays.end(os.getpid(), GIVEN).killed == [hook.pid]
    assert looks


def test_who_never_becomes_a_command_is_told_and_not_killed(started: Started) -> None:
    """It may be another's, as a probe that is being started: that is said, and not waited for without end."""
    becoming = started("/bin/sleep", LONG, _LIBCONTAINER_INITPIPE="3")
    found = strays.end(os.getpid(), GIVEN)
    assert becoming.pid in found.unclear
    assert (found.killed, becoming.poll()) == ([], None)
