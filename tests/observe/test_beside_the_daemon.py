"""The observer beside a real daemon and containerd: it is kept running, ends with the daemon, and harms no hook."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.conftest import MakeHookshim
from tests.observe.bed import SERVED
from tests.support.containerd import PrivateContainerd
from tests.support.hookshimd import Hookshim
from tests.support.later import later
from tests.support.receiver import Receiver
from tests.support.stage import Stage
from tests.support.waiting import PATIENCE, until

#: Seconds within which a daemon without work ends at SIGTERM, on a machine that is busy.
PROMPTLY = 10.0


def observer_of(daemon: Hookshim) -> int:
    """The observer's pid; waits until there is one."""

    def look() -> int | None:
        for pid in children(daemon.pid):
            with suppress(FileNotFoundError, ProcessLookupError):
                if b"server.observe" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return None

    return until(look, "there is an observer")


def children(pid: int) -> list[int]:
    """Those of every thread of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):
            found += map(int, (task / "children").read_text().split())
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended, whoever has still to hear of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def said(daemon: Hookshim, event: str) -> list[dict[str, object]]:
    """The lines of the daemon's log, the observer's too, with this event."""
    lines = (line for line in daemon.log.read_text().splitlines() if line.startswith("{") and line.endswith("}"))
    return [line for line in map(json.loads, lines) if line["event"] == event]


def where(daemon: Hookshim) -> str:
    """The address that the observer has last served at; waits for it."""
    return str(until(lambda: said(daemon, SERVED), SERVED)[-1]["listen"])


@pytest.fixture
def observed(hookshim: MakeHookshim, containerd: PrivateContainerd) -> Hookshim:
    """A daemon whose observer serves HTTP."""
    daemon = hookshim(containerd, env={"HOOKSHIM_HTTP_LISTEN": "127.0.0.1:0"})
    assert where(daemon)
    return daemon


def stopped(daemon: Hookshim, _stack: ExitStack) -> None:
    """It does not run, and is not gone."""
    os.kill(observer_of(daemon), signal.SIGSTOP)


def killed(daemon: Hookshim, _stack: ExitStack) -> None:
    """It is gone."""
    os.kill(observer_of(daemon), signal.SIGKILL)


def silent(daemon: Hookshim, stack: ExitStack) -> None:
    """Somebody asks for live updates and reads none."""
    host, _, port = where(daemon).rpartition(":")
    page = stack.enter_context(socket.create_connection((host, int(port))))
    page.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    page.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")


def without_a_port(daemon: Hookshim, stack: ExitStack) -> None:
    """Somebody else has its port."""
    taken = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    daemon.terminate()
    daemon.start({"HOOKSHIM_HTTP_LISTEN": f"127.0.0.1:{taken.getsockname()[1]}"})
    trouble = "HTTP cannot be served; it is tried until it can, and hooks and calls go on without"
    until(lambda: said(daemon, trouble), "it is told of")


@pytest.mark.parametrize("trouble", [stopped, killed, silent, without_a_port])
def test_no_hook_and_no_call_notices_what_befalls_it(
    observed: Hookshim,
    receiver: Receiver,
    tmp_path: Path,
    pod_name: str,
    trouble: Callable[[Hookshim, ExitStack], None],
) -> None:
    """Both hooks are delivered once, and the container starts and stops, while the observer is in trouble."""
    with ExitStack() as stack:
        trouble(observed, stack)
        stage = Stage(observed, pod_name, tmp_path, receiver)
        hooks = {"postStart": stage.hook("start", "httpGet"), "preStop": stage.hook("stop", "httpGet")}
        container = stage.container(hooks)
        stage.cri.start(container)
        stage.log.wait_for("started")
        stage.cri.stop(container, 30)
        assert stage.log.words() == ["started", "TERM", "finished"]
        assert (stage.calls("start"), stage.calls("stop")) == (1, 1)
        assert stage.deliveries() == [("postStart", "delivered"), ("preStop", "delivered")]


def test_one_that_has_ended_is_started_again(observed: Hookshim) -> None:
    """By itself, and it is logged."""
    first = observer_of(observed)
    os.kill(first, signal.SIGKILL)
    until(lambda: len(said(observed, SERVED)) == 2, "another one serves")
    assert observer_of(observed) != first
    [ended] = said(observed, "the observer has ended")
    assert (ended["pid"], ended["exit_status"]) == (first, -signal.SIGKILL)
    assert observed.terminate() == 0
    lines = [json.loads(line) for line in observed.log.read_text().splitlines()]
    assert [line["event"] for line in lines if line["level"] not in ("debug", "info")] == [
        "the observer has ended",
        "the observer is started again; hooks and calls go on",
    ]


def test_it_ends_with_a_daemon_that_is_killed(observed: Hookshim) -> None:
    """Also if it does not run, and so cannot read that its stdin has ended."""
    pid = observer_of(observed)
    os.kill(pid, signal.SIGSTOP)
    observed.kill()
    until(lambda: gone(pid), "the observer is gone")


def test_a_daemon_that_is_to_end_does_not_wait_for_it(observed: Hookshim) -> None:
    """Also if it does not run, and so cannot hear SIGTERM: the daemon ends with 0, and nothing of it is left."""
    pid = observer_of(observed)
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    assert observed.terminate() == 0
    assert time.monotonic() - began < PROMPTLY
    assert gone(pid)


def test_without_an_address_there_is_none(hookshim: MakeHookshim, containerd: PrivateContainerd) -> None:
    """It is not there for nothing."""
    daemon = hookshim(containerd)
    assert children(daemon.pid) == []


def get(daemon: Hookshim, path: str) -> tuple[int, str]:
    """A status and a text of the observer's."""
    connection = HTTPConnection(where(daemon), timeout=PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_the_probes_the_metrics_and_the_page_are_of_the_daemon(
    observed: Hookshim, receiver: Receiver, tmp_path: Path, pod_name: str
) -> None:
    """While a hook runs it is on the page, with its pod; after it the stop is, and how long all of it took."""
    until(lambda: get(observed, "/readyz") == (200, "ok\n"), "it is ready")
    assert get(observed, "/healthz") == (200, "ok\n")
    status, metrics = get(observed, "/metrics")
    assert status == 200
    assert "\nhookshim_" in metrics
    stage = Stage(observed, pod_name, tmp_path, receiver)
    container = stage.container({"preStop": stage.hook("stop", "httpGet")})
    stage.cri.start(container)
    stage.log.wait_for("started")
    release = receiver.hang("/stop")
    stop = later(stage.cri.stop, container, 60)
    receiver.wait_for("/stop")
    until(lambda: "</span> delivering</span>" in get(observed, "/?state=open")[1], "the running hook is shown")
    assert f"</span>{pod_name}</h3>" in get(observed, "/")[1]
    release.set()
    stop.result(PATIENCE)
    page = until(
        lambda: text if "not running +" in (text := get(observed, f"/containers/{container}")[1]) else None,
        "the stop is shown",
    )
    assert "</span> delivered</span>" in page
    assert "stop sent to the runtime +" in page
    assert 'id="banner" data-live>\n</div>' in page


def test_a_daemon_whose_containerd_is_away_is_alive_and_not_ready(
    hookshim: MakeHookshim, new_containerd: Callable[[], PrivateContainerd]
) -> None:
    """The probe says why; the page is there all the same."""
    containerd = new_containerd()
    containerd.stop()
    daemon = hookshim(containerd, env={"HOOKSHIM_HTTP_LISTEN": "127.0.0.1:0"}, start=False)
    daemon.start(wait=False)
    until(lambda: get(daemon, "/healthz")[0] == 200, "it is alive")
    status, reason = get(daemon, "/readyz")
    assert status == 503
    assert "does not serve yet" in reason
    assert "hookshim does not serve yet." in get(daemon, "/")[1]


def test_a_containerd_that_hangs_is_not_taken_for_a_daemon_that_does(
    new_containerd: Callable[[], PrivateContainerd], hookshim: MakeHookshim
) -> None:
    """Whoever restarts what is not healthy must not restart hookshim for it; the page says who does not answer."""
    containerd = new_containerd()
    daemon = hookshim(containerd, env={"HOOKSHIM_HTTP_LISTEN": "127.0.0.1:0"})
    host, _, port = where(daemon).rpartition(":")

    def asked(path: str) -> tuple[int, str]:
        connection = HTTPConnection(host, int(port), timeout=PATIENCE)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    os.kill(containerd.pid, signal.SIGSTOP)
    try:
        until(lambda: "containerd" in asked("/")[1] and "DEADLINE_EXCEEDED" in asked("/")[1], "the page says it")
        assert asked("/healthz") == (200, "ok\n")
    finally:
        os.kill(containerd.pid, signal.SIGCONT)
