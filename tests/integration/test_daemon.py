"""The daemon as a process: its start, its end, and what it says while it cannot serve."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.hookshimd import COMMAND, Hookshim
from tests.support.later import later
from tests.support.receiver import Receiver
from tests.support.stage import KEY, Stage, http_hook
from tests.support.waiting import until


def refusal(daemon: Hookshim) -> tuple[str, str]:
    """Code and message of what a caller of Version is told now."""
    try:
        daemon.cri.version(timeout=10)
    except CRIError as error:
        return error.code.name, error.message
    return "OK", ""


def test_the_socket_says_why_it_does_not_serve_yet(
    hookshim: MakeHookshim, new_containerd: Callable[[], PrivateContainerd]
) -> None:
    """Started before containerd: UNAVAILABLE with containerd's socket in the message, then it serves by itself."""
    containerd = new_containerd()
    containerd.stop()
    daemon = hookshim(containerd, start=False)
    daemon.start(wait=False)
    code, message = until(
        lambda: answer if "does not serve yet" in (answer := refusal(daemon))[1] else None, "the socket is there"
    )
    assert code == "UNAVAILABLE"
    assert "starting" in message or str(containerd.socket) in message
    until(lambda: str(containerd.socket) in refusal(daemon)[1], "the reason names containerd's socket")
    containerd.launch()
    daemon.wait_until_serving()


def test_containerd_may_go_away_and_come_back(
    hookshim: MakeHookshim, new_containerd: Callable[[], PrivateContainerd]
) -> None:
    """Away: UNAVAILABLE that names its socket, for plain and intercepted calls. Back: served without a restart."""
    containerd = new_containerd()
    daemon = hookshim(containerd)
    pod = daemon.cri.run_pod("p")
    container = daemon.cri.create(pod, "c", ["sleep", "3600"])
    containerd.kill()
    code, message = refusal(daemon)
    assert code == "UNAVAILABLE"
    assert str(containerd.socket) in message
    with pytest.raises(CRIError) as away:
        daemon.cri.start(container)
    assert away.value.code.name == "UNAVAILABLE"
    assert str(containerd.socket) in away.value.message
    pid = daemon.pid
    containerd.launch()
    daemon.wait_until_serving()
    daemon.cri.start(container)
    assert daemon.cri.state(container) == "CONTAINER_RUNNING"
    assert daemon.pid == pid


def test_an_accepted_stop_is_finished_when_containerd_is_back(
    hookshim: MakeHookshim,
    new_containerd: Callable[[], PrivateContainerd],
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    """It dies while PreStop runs: the caller is told UNAVAILABLE, and the container is stopped all the same."""
    containerd = new_containerd()
    stage = Stage(hookshim(containerd), "p", tmp_path, receiver)
    container = stage.container({"preStop": http_hook(receiver, "/stop")})
    stage.cri.start(container)
    stage.log.wait_for("started")
    release = receiver.hang("/stop")
    stop = later(stage.cri.stop, container, 60)
    receiver.wait_for("/stop")
    containerd.kill()
    release.set()
    error = stop.exception(60)
    assert isinstance(error, CRIError)
    assert error.code.name == "UNAVAILABLE"
    containerd.launch()
    until(lambda: containerd.cri.state(container) == "CONTAINER_EXITED", "the stop is finished")
    assert stage.log.words() == ["started", "TERM", "finished"]
    assert len(receiver.seen("/stop")) == 1


def test_sigterm_drains_and_exits_with_0(
    hookshim: MakeHookshim, containerd: PrivateContainerd, receiver: Receiver, tmp_path: Path, pod_name: str
) -> None:
    """A stop in flight is finished and answered, new calls find nobody, and the socket file is gone."""
    stage = Stage(hookshim(containerd), pod_name, tmp_path, receiver)
    container = stage.container({"preStop": http_hook(receiver, "/stop")})
    stage.cri.start(container)
    stage.log.wait_for("started")
    release = receiver.hang("/stop")
    stop = later(stage.cri.stop, container, 30)
    receiver.wait_for("/stop")
    os.kill(stage.daemon.pid, signal.SIGTERM)
    until(lambda: not stage.daemon.socket.exists(), "the socket is gone")
    release.set()
    stop.result(30)
    assert stage.daemon.wait() == 0
    assert stage.deliveries() == [("preStop", "delivered")]


def test_what_does_not_end_in_the_drain_is_left_to_the_journal(
    hookshim: MakeHookshim, containerd: PrivateContainerd, receiver: Receiver, tmp_path: Path, pod_name: str
) -> None:
    """A hook that hangs does not hold SIGTERM for longer than the drain; the next daemon sends it again."""
    daemon = hookshim(containerd, options=["--drain-seconds", "0.5"])
    stage = Stage(daemon, pod_name, tmp_path, receiver)
    container = stage.container({"preStop": http_hook(receiver, "/stop")})
    stage.cri.start(container)
    stage.log.wait_for("started")
    release = receiver.hang("/stop")
    stop = later(stage.cri.stop, container, 60)
    receiver.wait_for("/stop")
    assert daemon.terminate() == 0
    error = stop.exception(30)
    assert isinstance(error, CRIError)
    assert error.code.name == "UNAVAILABLE"
    assert stage.deliveries() == [("preStop", "delivering")]
    assert containerd.cri.state(container) == "CONTAINER_RUNNING"
    daemon.start()
    receiver.wait_for("/stop", count=2)
    release.set()
    until(lambda: containerd.cri.state(container) == "CONTAINER_EXITED", "the stop is finished")
    assert stage.log.words() == ["started", "TERM", "finished"]


def test_a_drain_ends_when_there_is_nothing_left_to_finish(
    hookshim: MakeHookshim, containerd: PrivateContainerd
) -> None:
    """SIGTERM with nothing in flight ends the daemon long before the drain is over."""
    daemon = hookshim(containerd, options=["--drain-seconds", "60"])
    began = time.monotonic()
    assert daemon.terminate(within=30) == 0
    assert time.monotonic() - began < 30


def test_one_daemon_a_state_directory(hookshim: MakeHookshim, containerd: PrivateContainerd) -> None:
    """The second one says who holds it, and ends with 1; the first one goes on."""
    daemon = hookshim(containerd)
    second = subprocess.run(
        [COMMAND, "--state-dir", daemon.state_dir, "serve", "--listen", daemon.directory / "second.sock"],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode == 1
    assert f"{daemon.pid}" in second.stderr
    assert str(daemon.state_dir) in second.stderr
    assert "Traceback" not in second.stderr
    assert refusal(daemon) == ("OK", "")


def test_a_living_socket_is_not_taken_over(hookshim: MakeHookshim, containerd: PrivateContainerd) -> None:
    """Two state directories, one socket: the second daemon is refused, and the first one goes on."""
    daemon = hookshim(containerd)
    other = daemon.directory / "other"
    second = subprocess.run(
        [COMMAND, "--state-dir", other, "serve", "--listen", daemon.socket, "--containerd", containerd.socket],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode == 1
    assert f"another process listens at {daemon.socket}" in second.stderr
    assert refusal(daemon) == ("OK", "")


def test_socket_and_state_are_roots_alone(hookshim: MakeHookshim, containerd: PrivateContainerd) -> None:
    """0660 for the socket (a stale one is replaced), 0700 for the state directory, nothing in it readable by others."""
    daemon = hookshim(containerd)
    daemon.restart()
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o660
    assert stat.S_IMODE(daemon.state_dir.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) & 0o077 for path in daemon.state_dir.iterdir()}
    assert set(modes.values()) == {0}
    assert "journal.db" in modes


def test_events_are_in_the_log_and_no_output_is(
    hookshim: MakeHookshim, containerd: PrivateContainerd, pod_name: str
) -> None:
    """A failed hook is one warning that names pod and container; what the handler said is nowhere in the log."""
    daemon = hookshim(containerd)
    pod = daemon.cri.run_pod(pod_name)
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo s3c''ret; exit 4"]}}}
    container = daemon.cri.create(pod, "c", ["sleep", "3600"], annotations={KEY: json.dumps(hook)})
    daemon.cri.start(container)
    daemon.cri.stop(container, 3)
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines()]
    [event] = [line for line in lines if line["event"] == "FailedPreStopHook"]
    assert (event["level"], event["pod"], event["container_name"]) == ("warning", pod_name, "c")
    assert event["field_path"] == "spec.containers{c}"
    assert event["message"].endswith(f"exited with 4 (attempt 1, delivery {event['delivery']})")
    assert "s3cret" not in daemon.log.read_text()
