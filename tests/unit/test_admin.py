"""The admin socket of a real daemon that has no containerd: whose it is, what it answers, what it does not hold up."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from server import VERSION
from server.admin.client import AdminClient, AdminError
from server.admin.messages import SERVICE
from server.backend import unix_target
from server.front.address import Address
from shim.store import FILE
from tests.support.cri import CRIError
from tests.support.hookshimd import Hookshim
from tests.support.waiting import until

NOBODY = 65534

Health = health_pb2.HealthCheckResponse.ServingStatus


@pytest.fixture
def daemon() -> Iterator[Hookshim]:
    """Not started yet."""
    # not pytest's tmp_path: a unix socket's path has at most 107 bytes
    directory = Path(tempfile.mkdtemp(prefix="hookshim-a-"))
    directory.chmod(0o755)
    made = Hookshim(directory, directory / "no.sock")
    yield made
    made.close()
    shutil.rmtree(directory)


@pytest.fixture
def running(daemon: Hookshim) -> Hookshim:
    """Its admin socket is there; it waits for its containerd."""
    daemon.start(wait=False)
    until(daemon.admin.exists, "the admin socket is there")
    return daemon


@pytest.fixture
def channel(running: Hookshim) -> Iterator[grpc.Channel]:
    """A connection of any gRPC client's."""
    options = (("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1))
    with grpc.insecure_channel(unix_target(running.admin), options) as made:
        yield made


def test_the_socket_is_its_owners_alone(running: Hookshim) -> None:
    """Whoever may write to it can keep hooks from running."""
    found = running.admin.stat()
    assert (stat.filemode(found.st_mode), found.st_uid) == ("srw-------", os.geteuid())
    # It gives its rights up itself: who has none may not even be let to this Python.
    script = (
        f"import os, socket; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); "
        f"socket.socket(socket.AF_UNIX).connect({str(running.admin)!r})"
    )
    tried = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=False)
    assert "PermissionError" in tried.stderr


def test_the_socket_is_so_from_its_first_moment_on(tmp_path: Path) -> None:
    """Not made so after it is there: somebody may be quick."""
    address, modes = Address(tmp_path / "a.sock", 0o600), []
    with closing(socket.socket(socket.AF_UNIX)) as server:

        def bind(path: Path) -> None:
            server.bind(str(path))
            modes.append(stat.S_IMODE(path.stat().st_mode))

        address.bind(bind)
        server.listen()
        address.publish()
        modes.append(stat.S_IMODE(address.path.stat().st_mode))
        address.release()
    assert modes == [0o600, 0o600]


def test_a_daemon_that_does_not_serve_yet_says_why(running: Hookshim) -> None:
    """Status is answered always, and by nothing that could be waited for."""
    before = time.time()
    with AdminClient(running.admin) as client:
        status = client.status()
    assert (status.version, status.pid) == (VERSION, running.pid)
    assert (status.listen, status.containerd) == (running.socket, running.containerd)
    assert status.state_dir == running.state_dir
    assert not status.serving
    assert status.reason.startswith(f"hookshim at {running.socket} does not serve yet: ")
    assert not status.containerd_reachable
    assert str(running.containerd) in status.containerd_reason
    assert before - 60 < status.started_at <= before
    assert status.started_at - 1 < status.containerd_since <= time.time()
    assert (status.journal_ok, status.journal_reason, status.journals_set_aside) == (True, "", 0)
    assert status.open_operations == 0


def test_a_journal_that_cannot_be_had_is_told(daemon: Hookshim) -> None:
    """The status says what is wrong with it."""
    (daemon.state_dir / FILE).mkdir(parents=True)
    daemon.state_dir.chmod(0o700)
    daemon.start(wait=False)
    until(daemon.admin.exists, "the admin socket is there")
    with AdminClient(daemon.admin) as client:
        status = client.status()
    assert not status.journal_ok
    assert "unable to open database file" in status.journal_reason
    assert status.open_operations is None


def test_nothing_is_retried_or_skipped_before_it_serves(running: Hookshim) -> None:
    """What is open is not known yet; each refusal says what is waited for."""
    with AdminClient(running.admin) as client:
        with pytest.raises(AdminError, match="does not serve yet") as refused:
            client.retry("abc")
        assert (refused.value.code, refused.value.unanswered) == ("UNAVAILABLE", False)
        with pytest.raises(AdminError, match="does not serve yet"):
            client.skip("abc", "why")
        with pytest.raises(AdminError, match=f"containerd at {running.containerd} does not answer"):
            client.hooks("abc")


def test_metrics_are_prometheus_text(running: Hookshim) -> None:
    """As whoever serves them to Prometheus passes them on."""
    with AdminClient(running.admin) as client:
        assert "# TYPE hookshim_" in client.metrics()


def test_health_and_reflection_are_the_standard_ones(channel: grpc.Channel) -> None:
    """For any tool that speaks them: not healthy while it does not serve."""
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", "hookshim"):
        assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status == Health.NOT_SERVING
    with pytest.raises(grpc.RpcError) as unknown:
        health.Check(health_pb2.HealthCheckRequest(service="other"), timeout=10)
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    reflected = ProtoReflectionDescriptorDatabase(channel)
    assert {SERVICE, "grpc.health.v1.Health"} <= set(reflected.get_services())
    described = reflected.FindFileContainingSymbol(SERVICE)
    methods = [method.name for service in described.service for method in service.method]
    assert methods == ["Status", "Hooks", "RetryDelivery", "SkipDelivery", "Metrics"]


def test_whoever_watches_does_not_hold_up_the_end(running: Hookshim, channel: grpc.Channel) -> None:
    """A stream has no end of its own; the socket's name goes with the daemon."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="hookshim"))
    assert next(watch).status == Health.NOT_SERVING
    began = time.monotonic()
    assert running.terminate() == 0
    # The drain is ten seconds, for those who have something to finish.
    assert time.monotonic() - began < 8
    with pytest.raises(grpc.RpcError):
        next(watch)
    assert not running.admin.exists()


def test_a_socket_that_cannot_be_had_keeps_nothing_from_being_served(daemon: Hookshim) -> None:
    """It is logged, and hookshim goes on without."""
    daemon.admin.write_text("somebody's file")
    daemon.start(wait=False)
    until(lambda: "going on without the admin socket" in daemon.log.read_text(), "the log says so")
    with pytest.raises(CRIError, match="does not serve yet"):
        daemon.cri.version()
    assert daemon.admin.read_text() == "somebody's file"
    assert daemon.terminate() == 0


def test_a_daemon_takes_over_the_socket_of_one_that_was_killed(running: Hookshim) -> None:
    """Nobody listens there, so that it is in nobody's use."""
    running.kill()
    with AdminClient(running.admin) as client, pytest.raises(AdminError, match="nobody listens there") as unanswered:
        client.status()
    assert unanswered.value.unanswered
    running.start(wait=False)

    def answers() -> bool:
        with AdminClient(running.admin) as client:
            try:
                return client.status().pid == running.pid
            except AdminError:
                return False

    until(answers, "the new daemon answers")


def test_a_daemon_that_is_not_there_is_told_from_one_that_hangs(tmp_path: Path) -> None:
    """Each with what to look at."""
    path = tmp_path / "a.sock"
    with (
        AdminClient(path) as client,
        pytest.raises(AdminError, match=f"does not answer at {path}: there is no") as gone,
    ):
        client.status()
    assert gone.value.unanswered
    with closing(socket.socket(socket.AF_UNIX)) as silent:
        silent.bind(str(path))
        silent.listen()
        with AdminClient(path, timeout=0.3) as client, pytest.raises(AdminError, match=r"has not answered for 0\.3 s"):
            client.status()
