"""Failed hooks of real containers are told to whoever listens, and nobody's start or stop waits for that."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeHookshim
from tests.sinks.api_server import ApiServer
from tests.sinks.bed import kubeconfig
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.process import Process
from tests.support.receiver import Receiver
from tests.support.stage import Stage, exec_hook
from tests.support.waiting import until

#: What it says is "secret", which its command, shown in events, does not have.
BROKEN = exec_hook(["sh", "-c", "echo sec''ret; exit 3"])

ENDS_AT_TERM = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait"]


@contextmanager
def listening(containerd: PrivateContainerd, log: Path) -> Iterator[Process]:
    """``ctr events`` of everything, once it hears something."""
    command: list[str | Path] = [
        containerd._program("ctr"),
        "--address",
        containerd.socket,
        "--namespace",
        "k8s.io",
        "events",
    ]
    process = Process(command, log)
    try:
        # It says nothing of itself: it listens when it hears what is said for this.
        def heard() -> bool:
            containerd.ctr("containers", "create", "localhost/hookshim-tests/busybox:1", "probe")
            containerd.ctr("containers", "delete", "probe")
            return "/containers/create" in log.read_text()

        until(heard, "ctr listens")
        yield process
    finally:
        process.kill()


def heard(log: Path) -> list[tuple[str, dict[str, Any]]]:
    """(topic, event) of every line about a hook."""
    lines = re.findall(r"k8s\.io (/hookshim/\S+) (\{.*\})\n", log.read_text())
    return [(topic, json.loads(event)["annotations"]) for topic, event in lines]


def fail_both(stage: Stage) -> str:
    """A container whose start fails by its hook, and whose end does."""
    container = stage.container({"postStart": BROKEN, "preStop": BROKEN})
    with pytest.raises(CRIError, match="PostStart handler"):
        stage.cri.start(container)
    return container


def test_ctr_events_shows_what_has_failed(
    hookshim: MakeHookshim,
    any_containerd: PrivateContainerd,
    pod_name: str,
    tmp_path: Path,
    receiver: Receiver,
) -> None:
    """On the bus of every containerd, readable by its own tool, and with nothing of what the handler has said."""
    stage = Stage(hookshim(any_containerd), pod_name, tmp_path, receiver)
    log = tmp_path / "events.log"
    with listening(any_containerd, log):
        container = fail_both(stage)
        until(lambda: len(heard(log)) == 2, "both are heard")
    assert [topic for topic, _ in heard(log)] == ["/hookshim/failed-post-start-hook", "/hookshim/failed-pre-stop-hook"]
    for (_, event), known in zip(heard(log), stage.daemon.events(), strict=True):
        assert {name: event[name] for name in known} == known
        assert event["container_id"] == container
    assert "secret" not in log.read_text()


def test_what_failed_while_nobody_told_it_is_told_by_the_next_daemon(
    hookshim: MakeHookshim,
    containerd: PrivateContainerd,
    pod_name: str,
    tmp_path: Path,
    receiver: Receiver,
) -> None:
    """From the journal: a daemon that was killed before it told anybody costs no event."""
    daemon = hookshim(containerd, env={"HOOKSHIM_EVENTS_CONTAINERD": "false"})
    stage = Stage(daemon, pod_name, tmp_path, receiver)
    fail_both(stage)
    daemon.kill()
    log = tmp_path / "events.log"
    with listening(containerd, log):
        daemon.start({"HOOKSHIM_EVENTS_CONTAINERD": "true"})
        until(lambda: len(heard(log)) == 2, "both are heard")


def observer(daemon_pid: int) -> int | None:
    """The pid of a daemon's observer, once it is there."""
    children = Path(f"/proc/{daemon_pid}/task/{daemon_pid}/children").read_text().split()
    for child in map(int, children):
        if b"server.observe" in Path(f"/proc/{child}/cmdline").read_bytes():
            return child
    return None


def test_a_failed_hook_is_an_event_of_its_pod_also_when_the_observer_was_killed(
    hookshim: MakeHookshim,
    containerd: PrivateContainerd,
    pod_name: str,
    tmp_path: Path,
    receiver: Receiver,
) -> None:
    """With a kubeconfig, by the daemon's observer; the next observer goes on where the killed one was."""
    with ApiServer(token="secret") as api:
        config = kubeconfig(tmp_path / "kubeconfig", api.url, token="secret")
        daemon = hookshim(
            containerd, env={"HOOKSHIM_EVENTS_KUBECONFIG": str(config), "HOOKSHIM_EVENTS_NODE_NAME": "n1"}
        )
        stage = Stage(daemon, pod_name, tmp_path, receiver)
        api.hold.clear()
        fail_both(stage)
        until(lambda: api.events, "the API server has the first")
        first = until(lambda: observer(daemon.pid), "there is an observer")
        os.kill(first, signal.SIGKILL)
        api.hold.set()
        api.wait_for(2)
        [before, after] = sorted(api.events.values(), key=lambda event: str(event["reason"]))
    known = {event["reason"]: event for event in daemon.events()}
    for event in (before, after):
        journal = known[event["reason"]]
        assert event["message"] == journal["message"]
        assert event["involvedObject"]["uid"] == journal["uid"]
        assert event["involvedObject"]["fieldPath"] == journal["field_path"] == "spec.containers{c}"
        assert (event["count"], event["source"]) == (1, {"component": "hookshim", "host": "n1"})
    assert known.keys() == {"FailedPostStartHook", "FailedPreStopHook"}


@pytest.mark.parametrize("trouble", ["silent", "stopped"])
def test_nobodys_start_or_stop_waits_for_the_api_server(
    hookshim: MakeHookshim,
    containerd: PrivateContainerd,
    pod_name: str,
    tmp_path: Path,
    receiver: Receiver,
    trouble: str,
) -> None:
    """While it is silent, or the observer is stopped, containers with failing hooks are started and stopped."""
    with ApiServer(token="secret") as api:
        config = kubeconfig(tmp_path / "kubeconfig", api.url, token="secret")
        daemon = hookshim(containerd, env={"HOOKSHIM_EVENTS_KUBECONFIG": str(config)})
        stage = Stage(daemon, pod_name, tmp_path, receiver)
        api.hold.clear()
        fail_both(stage)
        until(lambda: api.seen, "it is asked, and does not answer")
        running = until(lambda: observer(daemon.pid), "there is an observer")
        if trouble == "stopped":
            os.kill(running, signal.SIGSTOP)
        for number in range(3):
            container = stage.container({"preStop": BROKEN}, ENDS_AT_TERM, name=f"c{number}")
            stage.cri.start(container)
            stage.cri.stop(container, 1)
            assert stage.cri.state(container) == "CONTAINER_EXITED"
        began = time.monotonic()
        assert daemon.terminate() == 0
        assert time.monotonic() - began < 5
        assert [seen.status for seen in api.seen] == [201]
