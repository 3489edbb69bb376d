"""An exec hook in a real container, by the native API and by ExecSync: what it is, what becomes of it, what is said.

Whichever way it is run, its owner sees the same.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from pathlib import Path

import pytest

from server.backend import Backend
from server.handlers.exec import ExecHandler
from server.handlers.exec_sync import SyncExec
from server.handlers.native import NativeExec
from server.native.caller import Caller
from server.native.execs import UnsupportedError
from server.native.outcome import OUTPUT_LIMIT
from server.runtime import CriRuntime
from shim.actions import ExecAction, HttpGetAction, LifecycleHandler
from shim.ports import Attempt, Container, Pod
from shim.records import ContainerRef, ContainerState, Hook, Outcome
from tests.support.containerd import PrivateContainerd
from tests.support.image import FOREVER
from tests.support.waiting import PATIENCE, until

SHARED = "/shared"
MAIN = ["/bin/sh", "-c", f"trap 'exit 0' TERM; sleep {FOREVER} & wait"]


class Bench:
    """A running container, and the handler on a connection of its own to its containerd; ``native`` or not."""

    def __init__(self, containerd: PrivateContainerd, pod_name: str, directory: Path, *, native: bool) -> None:
        self.containerd = containerd
        self.native = native
        self.pod = containerd.cri.run_pod(pod_name, namespace="ns", uid="uid")
        self.shared = directory / "shared"
        self.outputs = directory / "exec"
        self.shared.mkdir()
        self.container = containerd.cri.create(
            self.pod, "main", MAIN, mounts={self.shared: SHARED}, envs={"GREETING": "hello"}, working_dir="/tmp"
        )
        containerd.cri.start(self.container)
        self.pod_name = pod_name

    def attempt(self, *command: str, budget: float | None = None) -> Attempt:
        """One attempt of a PostStart with this command."""
        pod = Pod(self.pod, self.pod_name, "ns", "uid", {}, (), host_network=False)
        ref = ContainerRef(self.container, self.pod, "main", self.pod_name, "ns", "uid")
        container = Container(ref, ContainerState.RUNNING, {}, pod)
        return Attempt("d1", 1, Hook.POST_START, LifecycleHandler(ExecAction(command)), container, budget)

    async def deliver(self, *command: str, budget: float | None = None) -> Outcome:
        """Deliver it, but do not hang. To be called inside the running loop, which a connection belongs to."""
        backend = Backend(self.containerd.socket)
        try:
            async with asyncio.timeout(2 * PATIENCE):
                return await self.handler(backend).deliver(self.attempt(*command, budget=budget))
        finally:
            await backend.close()

    def handler(self, backend: Backend) -> ExecHandler:
        """What the daemon has, on this connection."""
        native = NativeExec(Caller(backend), self.outputs) if self.native else None
        return ExecHandler(CriRuntime(backend), native)

    def failure(self, command: str, why: str) -> str:
        """The kubelet's sentence."""
        pod = f"{self.pod_name}_ns(uid)"
        return f'Exec lifecycle hook ([{command}]) for Container "main" in Pod "{pod}" failed - error: {why}'

    def lines(self) -> int:
        """How many lines hooks have written to the shared file."""
        path = self.shared / "log"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture(params=["native", "ExecSync"])
def bench(request: pytest.FixtureRequest, any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path) -> Bench:
    """On every containerd of the run, both ways."""
    return Bench(any_containerd, pod_name, tmp_path, native=request.param == "native")


@pytest.fixture
def sync_bench(any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path) -> Bench:
    """On every containerd of the run, by ExecSync."""
    return Bench(any_containerd, pod_name, tmp_path, native=False)


async def begun(bench: Bench, *command: str) -> asyncio.Task[Outcome]:
    """A hook that is running when the test goes on: its command has written a line."""
    task = asyncio.create_task(bench.deliver(*command))
    await asyncio.to_thread(until, lambda: bench.lines() > 0, "the hook has begun")
    return task


def running(word: str) -> list[Path]:
    """The processes of this machine with this word in their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        if word.encode() in words:
            found.append(process)
    return found


async def test_exit_status_0_is_success_with_stdout_then_stderr(bench: Bench) -> None:
    """It runs with the container's environment and directory, and what it said is kept."""
    outcome = await bench.deliver("sh", "-c", 'echo e >&2; echo "$GREETING from $PWD"')
    assert outcome == Outcome(exit_status=0, output=b"hello from /tmp\ne\n")


async def test_the_command_is_run_as_given_without_a_shell(bench: Bench) -> None:
    """Words are words: no variable, glob or blank in them means anything, and an empty one stays."""
    outcome = await bench.deliver("printf", "[%s]", "$GREETING", "$(GREETING)", "*", "a b", "", "é\n")
    assert outcome.output == "[$GREETING][$(GREETING)][*][a b][][é\n]".encode()


async def test_another_exit_status_is_a_failure_in_the_kubelets_words(bench: Bench) -> None:
    """They end at the status: what the handler said is in the record, not in the text."""
    outcome = await bench.deliver("sh", "-c", "echo s3cret; echo s3cret >&2; exit 3")
    why = "command 'sh -c echo s3cret; echo s3cret >&2; exit 3' exited with 3"
    assert outcome.error == bench.failure("sh -c echo s3cret; echo s3cret >&2; exit 3", why)
    assert (outcome.exit_status, outcome.output) == (3, b"s3cret\ns3cret\n")


async def test_what_a_handler_says_is_in_no_text(bench: Bench) -> None:
    """Neither its stdout nor its stderr, also when a signal has ended it."""
    outcome = await bench.deliver("sh", "-c", "printf 's3%s' cret | tee /proc/self/fd/2; kill -TERM $$")
    assert outcome.exit_status == 128 + 15
    assert b"s3cret" in outcome.output
    assert "s3cret" not in outcome.error


async def test_the_end_of_a_long_output_is_kept(bench: Bench) -> None:
    """4 KiB of it; where a failure explains itself is at the end."""
    outcome = await bench.deliver("sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo end >&2; exit 1")
    assert outcome.exit_status == 1
    assert outcome.output == b"x" * (OUTPUT_LIMIT - 4) + b"end\n"
    assert "xxx" not in outcome.error


async def test_a_program_that_is_not_there_fails_in_the_runtimes_words(bench: Bench) -> None:
    """There is no exit status; the runtime says what it looked for."""
    outcome = await bench.deliver("/no/such", "word")
    assert outcome.error.startswith(bench.failure("/no/such word", "failed to exec in container: "))
    assert 'exec: "/no/such": stat /no/such: no such file or directory' in outcome.error
    assert (outcome.exit_status, outcome.output) == (None, b"")


async def test_control_characters_of_a_command_are_escaped_in_its_texts(bench: Bench) -> None:
    """They go to a terminal, to a log line and into a kubelet's event."""
    for command in (["sh", "-c", "exit 1", "\x1b[2J\n"], ["\x1b[2J\n"]):
        outcome = await bench.deliver(*command)
        assert outcome.error.isprintable()
        assert r"\x1b[2J\n" in outcome.error


async def test_the_runtime_ends_a_command_at_the_budget_rounded_up(sync_bench: Bench) -> None:
    """With ExecSync: for a daemon that is no longer there to do it; the text says after how long."""
    bench = sync_bench
    # Nobody else's on this machine, where the same test may run for another containerd.
    seconds = str(int(FOREVER) - os.getpid())
    outcome = await bench.deliver("sleep", seconds, budget=0.2)
    assert outcome == Outcome(error=bench.failure(f"sleep {seconds}", "timed out after 1 s"))
    until(lambda: not running(seconds), "the command is gone")


async def test_cancelling_ends_the_call_and_not_the_channel(bench: Bench) -> None:
    """The next command is run; by ExecSync it is containerd that kills the first, which it does not always do."""
    task = await begun(bench, "sh", "-c", f"echo >>{SHARED}/log; exec sleep {FOREVER}")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await bench.deliver("echo", "next") == Outcome(exit_status=0, output=b"next\n")


async def test_a_command_whose_container_ends_is_seen_killed(bench: Bench) -> None:
    """With 137, which alone does not tell whose end it was."""
    task = await begun(bench, "sh", "-c", f"echo >>{SHARED}/log; echo begun; sleep {FOREVER}")
    await asyncio.to_thread(bench.containerd.cri.stop, bench.container, 0)
    outcome = await task
    assert (outcome.exit_status, outcome.output) == (137, b"begun\n")


async def test_a_container_that_has_ended_runs_no_command(bench: Bench) -> None:
    """The runtime's words say the state it is in."""
    await asyncio.to_thread(bench.containerd.cri.stop, bench.container, 0)
    outcome = await bench.deliver("true")
    assert outcome.error.startswith(bench.failure("true", "failed to exec in container: "))
    assert "container is in CONTAINER_EXITED state" in outcome.error or "not found" in outcome.error
    assert outcome.exit_status is None


@pytest.mark.parametrize("native", [True, False])
async def test_a_command_is_sent_when_containerd_is_back(
    own_containerd: PrivateContainerd, pod_name: str, tmp_path: Path, *, native: bool
) -> None:
    """A hook that is due while containerd restarts is not lost to it."""
    bench = Bench(own_containerd, pod_name, tmp_path, native=native)
    own_containerd.kill()
    task = asyncio.create_task(bench.deliver("sh", "-c", f"echo >>{SHARED}/log"))
    await asyncio.to_thread(own_containerd.launch)
    assert await task == Outcome(exit_status=0)
    assert bench.lines() == 1


async def test_a_command_whose_status_is_lost_with_containerd_is_sent_again(
    own_containerd: PrivateContainerd, pod_name: str, tmp_path: Path
) -> None:
    """With ExecSync, at least once: that the connection ended is not the hook's outcome."""
    bench = Bench(own_containerd, pod_name, tmp_path, native=False)
    first = f"echo >>{SHARED}/log; [ $(wc -l <{SHARED}/log) -gt 1 ] || sleep {FOREVER}"
    task = await begun(bench, "sh", "-c", first)
    await asyncio.to_thread(own_containerd.restart)
    assert await task == Outcome(exit_status=0)
    assert bench.lines() == 2


async def test_another_kind_of_action_is_a_bug(bench: Bench) -> None:
    """It is said, not recorded as the hook's failure."""
    wrong = dataclasses.replace(bench.attempt("true"), handler=LifecycleHandler(HttpGetAction(80)))
    backend = Backend(bench.containerd.socket)
    with pytest.raises(TypeError, match="HttpGetAction"):
        await bench.handler(backend).deliver(wrong)
    await backend.close()


async def test_a_container_that_the_native_api_does_not_have_is_run_by_execsync(sync_bench: Bench) -> None:
    """Another namespace or another kind of shim is none of ours: nothing was begun, and ExecSync's word counts."""
    bench = dataclasses.replace(sync_bench.attempt("true").container.ref, id="nobody")
    attempt = sync_bench.attempt("true")
    attempt = dataclasses.replace(attempt, container=dataclasses.replace(attempt.container, ref=bench))
    backend = Backend(sync_bench.containerd.socket)
    native = NativeExec(Caller(backend), sync_bench.outputs)
    for call in (native.deliver, native.find):
        with pytest.raises(UnsupportedError):
            await call(attempt)
    handler = ExecHandler(CriRuntime(backend), native)
    assert await handler.deliver(attempt) == await SyncExec(CriRuntime(backend)).deliver(attempt)
    assert await handler.find(attempt) is None
    await backend.close()


async def test_what_execsync_runs_is_never_found(sync_bench: Bench) -> None:
    """It has died with its daemon, as far as anybody can know."""
    backend = Backend(sync_bench.containerd.socket)
    assert await sync_bench.handler(backend).find(sync_bench.attempt("true")) is None
    await backend.close()
