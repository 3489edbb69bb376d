"""The daemon as a service manager sees it: started when it serves, alive while it answers, never killed for others."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeHookshim
from tests.deploy.manager import ServiceManager
from tests.support.containerd import PrivateContainerd
from tests.support.hookshimd import Hookshim
from tests.support.waiting import until

#: Seconds of the watchdog; hookshim looks at itself twice in that time.
WATCHDOG = 4.0


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    """A service manager's socket."""
    with ServiceManager(tmp_path / "notify") as made:
        yield made


@pytest.fixture
def front(request: pytest.FixtureRequest) -> dict[str, str]:
    """Which front door the daemon has: the one that a test's parameter names, else the default."""
    return {"HOOKSHIM_FRONT": request.param} if hasattr(request, "param") else {}


both_fronts = pytest.mark.parametrize("front", ["grpc", "relay"], indirect=True)


@pytest.fixture
def alone(manager: ServiceManager, front: dict[str, str]) -> Iterator[Hookshim]:
    """A daemon with a watchdog and without a containerd."""
    with tempfile.TemporaryDirectory(prefix="hookshim-d-") as directory:
        environment = manager.environment(WATCHDOG) | front
        daemon = Hookshim(Path(directory), Path(directory) / "nobody.sock", environment)
        daemon.start(wait=False)
        try:
            until(lambda: daemon.socket.exists() or daemon.exit_status is not None, "the socket is there")
            assert daemon.running, daemon.tail()
            yield daemon
        finally:
            daemon.close()
            print(daemon.log.read_text(errors="replace"))  # noqa: T201 - pytest shows it with a failure


def status(text: str) -> Callable[[dict[str, str]], bool]:
    """Messages whose status has this text."""
    return lambda message: text in message.get("STATUS", "")


def test_it_is_ready_when_it_serves_and_not_before(
    hookshim: MakeHookshim, new_containerd: Callable[[], PrivateContainerd], manager: ServiceManager
) -> None:
    """Without containerd the status names what it waits for; READY comes when a call gets through, and once."""
    containerd = new_containerd()
    containerd.stop()
    daemon = hookshim(containerd, env=manager.environment(), start=False)
    daemon.start(wait=False)
    manager.wait_for("the reason", status(str(containerd.socket)))
    assert not [message for message in manager.messages() if "READY" in message]
    containerd.launch()
    ready = manager.wait_for("READY", lambda message: message.get("READY") == "1")
    assert ready["STATUS"] == f"Serving at {daemon.socket}, in front of {containerd.socket}"
    assert daemon.cri.version(timeout=10).runtime_name == "containerd"
    assert daemon.terminate() == 0
    assert len([message for message in manager.messages() if "READY" in message]) == 1


def test_it_says_that_it_ends_and_how_long_that_may_take(alone: Hookshim, manager: ServiceManager) -> None:
    """STOPPING at SIGTERM, with time for the whole drain, whatever the manager's own patience is."""
    assert alone.terminate() == 0
    [stopping] = [message for message in manager.messages() if "STOPPING" in message]
    assert "10 s" in stopping["STATUS"]
    assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 10e6


@both_fronts
def test_the_absence_of_containerd_does_not_starve_the_watchdog(alone: Hookshim, manager: ServiceManager) -> None:
    """UNAVAILABLE with hookshim's own reason is an answer."""
    for _ in range(2):
        manager.forget()
        manager.wait_for("WATCHDOG", lambda message: message.get("WATCHDOG") == "1", WATCHDOG)
    assert not [message for message in manager.messages() if "READY" in message]


@both_fronts
def test_a_containerd_that_answers_nothing_does_not_starve_the_watchdog(
    hookshim: MakeHookshim,
    new_containerd: Callable[[], PrivateContainerd],
    manager: ServiceManager,
    front: dict[str, str],
) -> None:
    """A frozen containerd freezes the calls through hookshim. Killing hookshim would help nobody."""
    containerd = new_containerd()
    daemon = hookshim(containerd, env=manager.environment(WATCHDOG) | front)
    os.kill(containerd.pid, signal.SIGSTOP)
    try:
        manager.wait_for("the reason", status("takes calls and does not answer"))
        manager.forget()
        manager.wait_for("WATCHDOG", lambda message: message.get("WATCHDOG") == "1", WATCHDOG)
    finally:
        os.kill(containerd.pid, signal.SIGCONT)
    manager.forget()
    manager.wait_for("a good status", lambda message: message.get("STATUS", "").endswith(f"of {containerd.socket}"))
    assert daemon.running


def test_a_daemon_that_hangs_starves_the_watchdog(alone: Hookshim, manager: ServiceManager) -> None:
    """Stopped, as with an event loop that hangs; it is fed again when it goes on."""
    manager.wait_for("WATCHDOG", lambda message: "WATCHDOG" in message)
    os.kill(alone.pid, signal.SIGSTOP)
    try:
        assert manager.silent_for("WATCHDOG", WATCHDOG)
    finally:
        os.kill(alone.pid, signal.SIGCONT)
    manager.forget()
    manager.wait_for("WATCHDOG", lambda message: "WATCHDOG" in message)


def test_a_socket_that_no_client_finds_starves_the_watchdog(alone: Hookshim, manager: ServiceManager) -> None:
    """Its name is gone: the daemon lives, and is of no use. It is fed again when the name is back."""
    manager.wait_for("WATCHDOG", lambda message: "WATCHDOG" in message)
    aside = alone.socket.with_name("aside")
    alone.socket.rename(aside)
    until(lambda: "own socket does not answer" in alone.tail(), "the log says so")
    assert manager.silent_for("WATCHDOG", WATCHDOG)
    aside.rename(alone.socket)
    manager.forget()
    manager.wait_for("WATCHDOG", lambda message: "WATCHDOG" in message)
