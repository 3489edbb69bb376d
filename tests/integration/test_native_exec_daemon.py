"""A daemon that is killed or drained in the middle of an exec hook: it is run once, and its outcome kept."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.hookshimd import Hookshim
from tests.support.later import later
from tests.support.receiver import Receiver
from tests.support.signals import INSIDE
from tests.support.stage import Stage, exec_hook
from tests.support.waiting import PATIENCE, until


class Waiting:
    """A pod whose hook writes a line and waits until it is let go; a daemon in front of it."""

    def __init__(self, daemon: Hookshim, stage: Stage, directory: Path) -> None:
        self.daemon, self.stage, self.directory = daemon, stage, directory
        script = f"echo begins >>{INSIDE}/waiting; until [ -e {INSIDE}/go ]; do sleep 0.05; done; echo over; exit "
        self.hooks = {status: exec_hook(["sh", "-c", script + str(status)]) for status in (0, 3)}

    @property
    def runs(self) -> int:
        """How often the hook has begun."""
        path = self.directory / "waiting"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def begun(self) -> None:
        """The hook runs now, and that is on disk."""
        until(lambda: self.runs, "the hook runs")

    def go(self) -> None:
        """Let it go."""
        (self.directory / "go").touch()

    def ended(self, hook: str, state: str) -> dict[str, object]:
        """Its delivery, once it is in this state."""
        return until(
            lambda: next((it for it in self.daemon.deliveries() if (it["hook"], it["state"]) == (hook, state)), None),
            f"{hook} is {state}",
        )


@pytest.fixture
def waiting(
    containerd: PrivateContainerd, hookshim: MakeHookshim, receiver: Receiver, pod_name: str, tmp_path: Path
) -> Waiting:
    """In front of containerd 1.6."""
    daemon = hookshim(containerd, env={"HOOKSHIM_DRAIN_SECONDS": "0.5"})
    stage = Stage(daemon, pod_name, tmp_path, receiver)
    return Waiting(daemon, stage, next(iter(stage.log.mounts)))


def forgotten(call: Future[None]) -> None:
    """The caller whose daemon has ended is told so."""
    with contextlib.suppress(CRIError):
        call.result(PATIENCE)


def test_a_pre_stop_that_outlives_its_daemon_is_run_once(waiting: Waiting) -> None:
    """The next daemon waits for it, and stops the container when it has ended."""
    container = waiting.stage.container({"preStop": waiting.hooks[0]})
    waiting.stage.cri.start(container)
    call = later(waiting.stage.cri.stop, container, 60)
    waiting.begun()
    waiting.daemon.restart()
    forgotten(call)
    assert waiting.stage.cri.state(container) == "CONTAINER_RUNNING"
    waiting.go()
    delivery = waiting.ended("preStop", "delivered")
    until(lambda: waiting.stage.cri.state(container) == "CONTAINER_EXITED", "it is stopped")
    assert (waiting.runs, delivery["attempts"]) == (1, 1)


def test_a_post_start_that_fails_after_its_daemon_was_killed_ends_its_container(waiting: Waiting) -> None:
    """Its exit status is found, not lost with the daemon."""
    container = waiting.stage.container({"postStart": waiting.hooks[3]})
    call = later(waiting.stage.cri.start, container)
    waiting.begun()
    waiting.daemon.restart()
    forgotten(call)
    waiting.go()
    delivery = waiting.ended("postStart", "failed")
    until(lambda: waiting.stage.cri.state(container) == "CONTAINER_EXITED", "it is stopped")
    assert (waiting.runs, delivery["attempts"]) == (1, 1)


def test_a_hook_that_outlives_the_drain_goes_on(waiting: Waiting) -> None:
    """SIGTERM ends the daemon and not what it waits for; the next one finds it."""
    container = waiting.stage.container({"preStop": waiting.hooks[0]})
    waiting.stage.cri.start(container)
    call = later(waiting.stage.cri.stop, container, 60)
    waiting.begun()
    assert waiting.daemon.terminate() == 0
    forgotten(call)
    waiting.daemon.start()
    waiting.go()
    delivery = waiting.ended("preStop", "delivered")
    assert (waiting.runs, delivery["attempts"]) == (1, 1)


def test_a_hook_that_ends_while_no_daemon_runs_is_not_repeated(waiting: Waiting) -> None:
    """Its exit status is kept by containerd, and what it said by its files."""
    container = waiting.stage.container({"preStop": waiting.hooks[3]})
    waiting.stage.cri.start(container)
    call = later(waiting.stage.cri.stop, container, 60)
    waiting.begun()
    waiting.daemon.kill()
    forgotten(call)
    waiting.go()
    waiting.daemon.start()
    delivery = waiting.ended("preStop", "failed")
    assert (waiting.runs, delivery["attempts"]) == (1, 1)
    assert list((waiting.daemon.state_dir / "exec").iterdir()) == []


def test_a_stop_kills_a_post_start_that_was_found_again(waiting: Waiting) -> None:
    """Found or not, it is ended like any other."""
    container = waiting.stage.container({"postStart": waiting.hooks[0]})
    call = later(waiting.stage.cri.start, container)
    waiting.begun()
    waiting.daemon.restart()
    forgotten(call)
    waiting.stage.cri.stop(container, 10)
    waiting.ended("postStart", "failed")
    assert waiting.stage.cri.state(container) == "CONTAINER_EXITED"
    assert waiting.runs == 1
