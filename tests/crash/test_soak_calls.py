"""A call of the soak's that hangs is told, whatever repeats it, with what was seen of hookshim and containerd then."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from server.relay import frames
from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIClient, CRIError
from tests.support.hookshimd import Hookshim
from tests.support.later import later
from tests.support.receiver import Receiver
from tests.support.soak import system
from tests.support.soak.calls import Calls, played
from tests.support.soak.evidence import Evidence
from tests.support.soak.insist import AbandonedError, Insistence
from tests.support.soak.keeper import Keeper
from tests.support.soak.moves import Kill, Phase, Victim
from tests.support.stage import Stage, exec_hook, held_hook, let_go
from tests.support.waiting import until

#: Seconds after which a call hangs, and is overdue, in these tests; a call at a socket that answers takes a few ms.
HUNG, OVERDUE = 0.6, 0.3

WHERE = "the runtime's socket"


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Path]:
    """The socket of a runtime that lets connections in, begins HTTP/2 as it should, and never answers a call."""
    path = tmp_path / "r.sock"
    taken: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    taken.append(connection)
                    connection.sendall(frames.frame(frames.SETTINGS, 0, 0))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in taken:
            connection.close()


class Watched:
    """A client whose calls are watched, and what was under way each time that one hung."""

    def __init__(self, path: Path) -> None:
        self.under_way: list[Sequence[str]] = []
        self.calls = Calls(self._collect, HUNG, OVERDUE)
        self.client = CRIClient(path)
        self.client.connect()
        self.client.around = self.calls.through(lambda: WHERE)
        self.calls.start()

    def _collect(self, calls: Sequence[str]) -> str:
        self.under_way.append(calls)
        return "EVIDENCE"

    def close(self) -> None:
        """End the calls, and look no more."""
        self.client.close()
        self.calls.finish()


@pytest.fixture
def watched(silent: Path) -> Iterator[Watched]:
    """A watched client of the runtime that never answers."""
    made = Watched(silent)
    yield made
    made.close()


def test_a_call_that_hangs_is_told_though_it_is_repeated(watched: Watched) -> None:
    """Method, socket, round, how long and how it ended, and where it is written what was seen meanwhile."""
    over = threading.Event()

    def play() -> None:
        with played(179), pytest.raises(AbandonedError):
            Insistence(over).repeat(lambda: watched.client.version(timeout=3.0))

    playing = later(play)
    until(lambda: watched.calls.problems, "the first call is told while the second is made")
    over.set()
    playing.result(10)
    assert watched.calls.hung >= 1
    problem = watched.calls.problems[0]
    assert "a call that hung: Version at the runtime's socket (round 179, a deadline of 3 s): " in problem
    assert float(problem.partition("3 s): ")[2].partition(" s,")[0]) >= HUNG
    assert "it ended: DEADLINE_EXCEEDED" in problem
    assert "what was seen meanwhile: EVIDENCE" in problem
    # it was looked at while it hung, and not when it was over
    assert [text for text in watched.under_way[0] if "it ended: not at all yet" in text]
    assert watched.calls.slowest[0] >= HUNG
    assert watched.calls.slowest[1] == f"Version at {WHERE}"


def test_a_call_that_never_ends_is_told_at_the_end(watched: Watched) -> None:
    """A caller without a deadline would wait for ever: the soak's end tells it."""
    call = later(watched.client.call, "Version", timeout=None)
    until(lambda: watched.under_way, "it hangs")
    watched.calls.finish()
    [problem] = watched.calls.problems
    assert "Version at the runtime's socket (no round, no deadline)" in problem
    assert "it ended: not at all yet" in problem
    watched.client.close()
    assert call.result(10).code is grpc.StatusCode.CANCELLED


def test_what_a_call_waits_while_somebody_is_killed_does_not_count(watched: Watched) -> None:
    """A call may outlast a restart: it is as old as that then, however long it took."""
    with watched.calls.upset(), pytest.raises(CRIError):
        watched.client.version(timeout=2 * HUNG)
    assert watched.calls.problems == []
    assert watched.calls.slowest[0] < OVERDUE
    assert not watched.under_way


@pytest.mark.parametrize("front", ["relay"])
def test_a_kill_that_would_end_a_hanging_call_is_not_made(
    watched: Watched, containerd: PrivateContainerd, hookshim: MakeHookshim
) -> None:
    """Else the soak's next kill would end it with UNAVAILABLE, and nobody would know."""
    daemon = hookshim(containerd, start=False)
    keeper = Keeper(daemon, containerd, watched.calls, seed=1)
    keeper.start()
    try:
        call = later(watched.client.call, "Version", timeout=60.0)
        until(lambda: watched.calls.overdue, "the call is overdue")
        pid = daemon.pid
        keeper.aim(Kill(Phase.START, 0.0, Victim.HOOKSHIM, 0.0, hookshim_first=True))
        until(lambda: keeper.spared, "the kill is due")
        assert not call.done()
        assert (keeper.kills.total(), daemon.pid, daemon.running) == (0, pid, True)
        watched.client.close()
        call.result(10)
        keeper.aim(Kill(Phase.START, 0.0, Victim.HOOKSHIM, 0.0, hookshim_first=True))
        until(keeper.kills.total, "the next kill is made")
    finally:
        keeper.finish()
    assert keeper.problems == []


def test_a_deadline_that_has_not_passed_is_told(tmp_path: Path) -> None:
    """Whoever is told DEADLINE_EXCEEDED at once calls again, for ever: no caller of the soak's would mind."""

    def refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "so it says")
        raise AssertionError

    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Version": grpc.unary_unary_rpc_method_handler(refuse)}
    with futures.ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("runtime.v1.RuntimeService", handlers)])
        server.add_insecure_port(f"unix:{tmp_path / 'r.sock'}")
        server.start()
        watched = Watched(tmp_path / "r.sock")
        with played(3), pytest.raises(CRIError):
            watched.client.version(timeout=30.0)
        watched.close()
        server.stop(None).wait()
    [problem] = watched.calls.problems
    assert "expected: DEADLINE_EXCEEDED at the deadline; seen: Version at the runtime's socket (round 3" in problem
    assert watched.calls.hung == 0


@contextmanager
def _frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        # one of its threads has to run for all to be stopped
        until(lambda: all(": T, in " in line for line in system.threads(pid)), "it is held up")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _dumps(containerd: PrivateContainerd) -> int:
    return containerd.log.read_text().count("stack dump written to")


def _sections(file: str) -> dict[str, str]:
    parts = Path(file).read_text().split("\n== ")[1:]
    return {title: text for title, _, text in (part.partition("\n") for part in parts)}


def _found(daemon: Hookshim, containerd: PrivateContainerd, directory: Path) -> Evidence:
    """Ready to look at both; the daemon is started."""
    directory.mkdir()
    evidence = Evidence(daemon, containerd, directory)
    daemon.start()
    return evidence


def test_the_evidence_says_what_a_call_waits_for_in_hookshim(
    containerd: PrivateContainerd, hookshim: MakeHookshim, pod_name: str, receiver: Receiver, tmp_path: Path
) -> None:
    """Both serve, and the task of the call is shown with what it waits for, beside what is open in the journal."""
    evidence = _found(hookshim(containerd, start=False), containerd, tmp_path / "kept")
    daemon = evidence.daemon
    stage = Stage(daemon, pod_name, tmp_path / "signals", receiver)
    container = stage.container({"postStart": exec_hook(held_hook("hook"))})
    start = later(daemon.cri.start, container)
    stage.log.wait_for("hook begins")
    seen = _sections(evidence.collect(["StartContainer"]))
    evidence.clear()
    let_go(stage)
    start.result(30)
    assert seen["calls under way"].strip() == "StartContainer"
    assert seen["containerd, asked on a new connection"].startswith("OK in ")
    assert seen["hookshim, asked on a new connection"].startswith("OK in ")
    assert "containerd answers it" in seen["hookshim, asked at its admin socket"]
    assert f"postStart of container {container} is delivering" in seen["what is open in hookshim's journal"]
    loop = seen["what hookshim's event loop waits for"]
    [work] = [line for line in loop.splitlines() if line.startswith(f"StartContainer {container}: ")]
    assert "> Actor.start line " in work
    assert "> HookRun._attempt line " in work
    if "relay" in daemon.env.values():
        assert "/runtime.v1.RuntimeService/StartContainer deciding" in loop
    assert "in <module>" in seen["hookshim's threads, in Python"]
    assert "of a processor" in seen["hookshim's threads, in the kernel"]
    assert any(" LISTEN 0 " in line and f"pid={daemon.pid}," in line for line in seen["the sockets"].splitlines())
    assert f"ESTAB 0 0 {containerd.socket} " in seen["the sockets"]
    assert "criService" in next(text for title, text in seen.items() if title.startswith("containerd's goroutines"))
    assert "goroutine 1 [" in (tmp_path / "kept" / "hang-1-goroutines.txt").read_text()
    assert '"event":"serving"' in seen["the end of hookshim's log"].replace(" ", "")


@pytest.mark.parametrize("front", ["relay"])
@pytest.mark.parametrize("whose", ["hookshim", "containerd"])
def test_the_evidence_tells_a_hang_of_one_from_a_hang_of_the_other(
    containerd: PrivateContainerd, hookshim: MakeHookshim, tmp_path: Path, whose: str
) -> None:
    """Whichever is held up, the other one is seen to serve, and it is seen in which state its process is."""
    evidence = _found(hookshim(containerd, start=False), containerd, tmp_path / "kept")
    daemon = evidence.daemon
    before = _dumps(containerd)
    with _frozen(daemon.pid if whose == "hookshim" else containerd.pid):
        seen = _sections(evidence.collect(["Version"]))
    # held up, containerd writes it when it is not any more
    until(lambda: _dumps(containerd) > before, "containerd has written its goroutines")
    evidence.clear()
    of = {name: seen[f"{name}, asked on a new connection"] for name in ("hookshim", "containerd")}
    admin = seen["hookshim, asked at its admin socket"]
    if whose == "hookshim":
        assert of["containerd"].startswith("OK in ")
        assert not of["hookshim"].startswith("OK")
        assert admin.startswith("not to be seen: AdminError")
        assert ": T, in " in seen["hookshim's threads, in the kernel"]
        assert ": T, in " not in seen["containerd's threads, in the kernel"]
    else:
        assert not of["containerd"].startswith("OK")
        assert not of["hookshim"].startswith("OK")
        assert admin.startswith("it answers in ")
        assert ": T, in " in seen["containerd's threads, in the kernel"]
        assert ": T, in " not in seen["hookshim's threads, in the kernel"]
