"""postStop over the ends of hookshim, containerd, node and receiver: told, and no more often than needed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from shim.failpoints import Failpoint
from tests.conftest import MakeHookshim
from tests.support import hookshimd
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.hookshimd import COMMAND, Hookshim
from tests.support.journal import ask, open_operations
from tests.support.later import later
from tests.support.reboot import in_another_boot, reboot
from tests.support.receiver import Behaviour, Receiver
from tests.support.stage import Stage, http_hook, let_end, waiting
from tests.support.waiting import until

DOWN = Behaviour(status=503)
FOREVER = ["sleep", "1000000"]


@pytest.fixture
def stage(
    hookshim: MakeHookshim, any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Stage:
    """A pod behind a daemon, on every containerd of the run."""
    return Stage(hookshim(any_containerd), pod_name, tmp_path / "stage", receiver)


def told(stage: Stage) -> list[dict[str, Any]]:
    """What the receiver was told so far."""
    return [json.loads(request.body) for request in stage.receiver.seen("/postStop")]


def declared(stage: Stage, command: list[str] | None = None, **policy: object) -> str:
    """A container with a postStop that has this policy, which runs already."""
    container = stage.container({"postStop": http_hook(stage.receiver, "/postStop") | policy}, command or waiting("go"))
    stage.cri.start(container)
    return container


def attempts(stage: Stage) -> list[tuple[float, float | None]]:
    """When each attempt of all deliveries began and ended, in seconds since the epoch."""
    return [(row[0], row[1]) for row in ask(stage.daemon, "SELECT began_at, ended_at FROM attempt ORDER BY began_at")]


def is_told(stage: Stage, state: str = "delivered") -> None:
    """Wait for the one delivery's outcome and the end of its operation."""
    until(lambda: stage.deliveries() == [("postStop", state)], f"it is {state}")
    until(lambda: open_operations(stage.daemon) == [], "nothing is open")


@pytest.mark.parametrize("how", ["ended", "removed"])
def test_what_ended_while_hookshim_was_down_is_told_when_it_is_back(
    stage: Stage, any_containerd: PrivateContainerd, how: str
) -> None:
    """Once: with exit code and times of one that is left, and the identity of one that is not.

    hookshim is killed as soon as StartContainer is answered: that it ran is on disk by then.
    """
    removed = how == "removed"
    container = declared(stage, waiting("go", "exit 4"))
    stage.daemon.kill()
    let_end(stage, "go")
    until(lambda: any_containerd.cri.state(container) == "CONTAINER_EXITED", "it has ended")
    if removed:
        any_containerd.cri.remove_pod(stage.pod)
    stage.daemon.start()
    is_told(stage)
    stage.daemon.restart()
    is_told(stage)
    [body] = told(stage)
    assert (body["containerId"], body["podName"], body["attempt"]) == (container, stage.pod_name, 1)
    assert (body["exitCode"], body["reason"]) == ((None, "Unknown") if removed else (4, "Error"))
    assert (body["startedAt"] is None) == removed
    assert body["finishedAt"] is not None


def test_one_that_ran_is_told_of_though_it_vanished_in_its_post_start(
    stage: Stage, any_containerd: PrivateContainerd
) -> None:
    """That it ran is on disk while its PostStart hangs: hookshim is killed, and finds nothing of it afterwards."""
    stage.receiver.hang("/postStart")
    hooks = {hook: http_hook(stage.receiver, f"/{hook}") for hook in ("postStart", "postStop")}
    container = stage.container(hooks, FOREVER)
    call = later(stage.cri.start, container)
    stage.receiver.wait_for("/postStart")
    until(lambda: ("end", "Ended", "forwarded", None) in open_operations(stage.daemon), "that it runs is on disk")
    stage.daemon.kill()
    assert isinstance(call.exception(30), CRIError)
    any_containerd.cri.remove_pod(stage.pod)
    stage.daemon.start()
    until(lambda: stage.deliveries() == [("postStart", "missed"), ("postStop", "delivered")], "it is told")
    assert [body["containerId"] for body in told(stage)] == [container]


POINTS = [point for point in Failpoint if point.startswith(("start.", "postStart.", "stop.", "preStop."))]


@pytest.mark.parametrize("point", POINTS)
def test_hookshim_is_killed_between_any_two_steps(
    stage: Stage, any_containerd: PrivateContainerd, point: Failpoint
) -> None:
    """Start, PostStart, PreStop, stop, and the caller repeats what failed: told, and a second time only as such."""
    hooks = {hook: http_hook(stage.receiver, f"/{hook}") for hook in ("postStart", "preStop", "postStop")}
    container = stage.container(hooks, FOREVER)
    stage.daemon.restart({"HOOKSHIM_FAILPOINTS": f"{point}=kill"})
    killed = False
    for call, more in ((stage.cri.start, ()), (stage.cri.stop, (5,))):
        try:
            call(container, *more)
        except CRIError:
            stage.daemon.wait()
            killed = True
            stage.daemon.start()
            if any_containerd.cri.state(container) == "CONTAINER_CREATED":
                stage.cri.start(container)
    assert killed
    if any_containerd.cri.state(container) != "CONTAINER_EXITED":
        stage.cri.stop(container, 5)
    stage.cri.remove(container)
    until(lambda: ("postStop", "delivered") in stage.deliveries(), "it is told")
    until(lambda: open_operations(stage.daemon) == [], "nothing is open")
    bodies = told(stage)
    assert {body["containerId"] for body in bodies} == {container}
    assert [body["attempt"] for body in bodies] == list(range(1, len(bodies) + 1))
    assert len({body["delivery"] for body in bodies}) == 1
    # Only a kill behind the container's end can come between the request and its record.
    assert len(bodies) == 1 or point in (Failpoint.STOP_ANSWERED, Failpoint.STOP_COMMITTED)


def test_a_hookshim_that_is_killed_while_it_tells_tells_again(stage: Stage) -> None:
    """The receiver had it and nobody knows: the same delivery comes again as attempt 2, and then no more."""
    release = stage.receiver.hang("/postStop")
    container = declared(stage)
    let_end(stage, "go")
    stage.receiver.wait_for("/postStop")
    stage.daemon.restart()
    stage.receiver.wait_for("/postStop", 2)
    release.set()
    is_told(stage)
    stage.daemon.restart()
    is_told(stage)
    first, second = told(stage)
    assert (first["delivery"], first["attempt"], second["attempt"]) == (second["delivery"], 1, 2)
    assert first["containerId"] == second["containerId"] == container
    assert {name: first[name] for name in ("exitCode", "reason", "startedAt", "finishedAt")} == {
        name: second[name] for name in ("exitCode", "reason", "startedAt", "finishedAt")
    }


def test_a_receiver_that_is_down_is_tried_until_it_is_up_over_a_restart(stage: Stage) -> None:
    """With backoff: the time of the next attempt is kept by a killed hookshim, and nothing is sent before it."""
    stage.receiver.behave("/postStop", DOWN)
    declared(stage, retry={"backoffSeconds": 2, "maxBackoffSeconds": 4})
    let_end(stage, "go")
    planned = until(lambda: stage.daemon.deliveries()[0]["next_attempt_at"], "it is to be tried again")
    [(next_at,)] = ask(stage.daemon, "SELECT next_attempt_at FROM delivery")
    stage.daemon.restart()
    assert stage.daemon.deliveries()[0]["next_attempt_at"] in (planned, None)
    stage.receiver.wait_for("/postStop", 2)
    stage.receiver.behave("/postStop", Behaviour())
    is_told(stage)
    began = [at for at, _ in attempts(stage)]
    assert began[0] + 2 <= next_at <= began[1]
    assert [body["attempt"] for body in told(stage)] == list(range(1, len(began) + 1))
    assert stage.daemon.events() == []


def test_attempts_that_a_kill_cut_off_do_not_count(stage: Stage) -> None:
    """Two are asked for: one is cut off, two fail, and that is announced."""
    stage.receiver.hang("/postStop")
    declared(stage, retry={"attempts": 2, "backoffSeconds": 0.1})
    let_end(stage, "go")
    stage.receiver.wait_for("/postStop")
    stage.daemon.kill()
    stage.receiver.behave("/postStop", DOWN)
    stage.daemon.start()
    is_told(stage, "failed")
    assert len(told(stage)) == 3
    [event] = stage.daemon.events()
    assert event["reason"] == "FailedPostStopHook"
    assert "HTTP status 503, expected 2xx (attempt 3" in event["message"]


def test_it_is_given_up_when_its_time_is_over(
    hookshim: MakeHookshim, any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> None:
    """HOOKSHIM_POST_STOP_HOURS after the end: failed, with an event, and nothing is sent from then on."""
    daemon = hookshim(any_containerd, env={"HOOKSHIM_POST_STOP_HOURS": "0.001"})
    stage = Stage(daemon, pod_name, tmp_path, receiver)
    receiver.behave("/postStop", DOWN)
    container = declared(stage, retry={"backoffSeconds": 0.5, "maxBackoffSeconds": 1})
    let_end(stage, "go")
    is_told(stage, "failed")
    sent = len(told(stage))
    assert sent > 2
    began = [at for at, _ in attempts(stage)]
    assert began[-1] - stage.cri.status(container).finished_at / 1e9 <= 3.6
    [event] = daemon.events()
    assert (event["reason"], event["container"]) == ("FailedPostStopHook", "c")
    receiver.behave("/postStop", Behaviour())
    daemon.restart()
    assert open_operations(daemon) == []
    assert daemon.terminate() == 0
    assert len(told(stage)) == sent


def test_a_containerd_that_is_killed_in_between_hides_no_end(
    new_containerd: Callable[[], PrivateContainerd],
    hookshim: MakeHookshim,
    pod_name: str,
    tmp_path: Path,
    receiver: Receiver,
) -> None:
    """It ends while containerd is away, which sends no event of that; told when it is back, with its exit code."""
    containerd = new_containerd()
    stage = Stage(hookshim(containerd), pod_name, tmp_path, receiver)
    declared(stage, waiting("go", "exit 6"))
    containerd.kill()
    let_end(stage, "go")
    containerd.launch()
    is_told(stage)
    assert [body["exitCode"] for body in told(stage)] == [6]


def test_a_reboot_ends_a_container_and_is_told(
    new_containerd: Callable[[], PrivateContainerd],
    hookshim: MakeHookshim,
    pod_name: str,
    tmp_path: Path,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that ran, and one whose receiver was down: both are told once in the next boot, nothing is missed."""
    containerd = new_containerd()
    stage = Stage(hookshim(containerd), pod_name, tmp_path / "stage", receiver)
    receiver.behave("/postStop", DOWN)
    ended = declared(stage)
    running = stage.container({"postStop": http_hook(receiver, "/running")}, FOREVER, name="running")
    stage.cri.start(running)
    let_end(stage, "go")
    receiver.wait_for("/postStop")
    stage.daemon.kill()
    reboot(containerd)
    monkeypatch.setattr(hookshimd, "COMMAND", in_another_boot(COMMAND, tmp_path))
    receiver.behave("/postStop", Behaviour())
    before = len(told(stage))
    stage.daemon.start()
    until(lambda: stage.deliveries() == [("postStop", "delivered")] * 2, "both are told")
    [request] = receiver.seen("/running")
    assert json.loads(request.body)["containerId"] == running
    assert [body["containerId"] for body in told(stage)] == [ended] * (before + 1)
    assert stage.daemon.events() == []


@pytest.fixture
def small_disk(hookshim: MakeHookshim, any_containerd: PrivateContainerd) -> Iterator[Hookshim]:
    """A daemon with a tmpfs of one MiB under its state directory."""
    daemon = hookshim(any_containerd, start=False)
    daemon.state_dir.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", daemon.state_dir], check=True)
    daemon.start()
    yield daemon
    daemon.kill()
    subprocess.run(["umount", "--lazy", daemon.state_dir], check=True)


def test_a_full_disk_keeps_nobody_from_being_told(
    small_disk: Hookshim, pod_name: str, tmp_path: Path, receiver: Receiver
) -> None:
    """Told once without a record, loudly; when there is room again the record is written, and nothing is sent again."""
    stage = Stage(small_disk, pod_name, tmp_path, receiver)
    declared(stage)
    ballast = small_disk.state_dir / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    let_end(stage, "go")
    receiver.wait_for("/postStop")
    until(lambda: "going on without a record" in small_disk.log.read_text(), "it is said")
    assert stage.deliveries() == [("postStop", "armed")]
    ballast.unlink()
    is_told(stage)
    small_disk.restart()
    is_told(stage)
    assert [body["exitCode"] for body in told(stage)] == [0]
