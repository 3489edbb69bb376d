"""Cancelling an exec hook ends it with everything that came of it, and nothing else."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import Awaitable
from pathlib import Path

import pytest

from server.backend import Backend
from server.handlers import native
from server.handlers.native import NativeExec
from server.native import processes
from server.native.caller import Caller
from server.native.execs import ExecRef, Execs, Seen
from server.native.processes import Held, NotOursError
from shim.records import Execution, Stage
from tests.integration.native_exec_bed import SHARED, Bed, Stepped, cancelled, ended, exec_of, running
from tests.support.containerd import PrivateContainerd
from tests.support.image import FOREVER
from tests.support.waiting import until

#: Seconds that sleeps of different purpose take, by which they are told apart.
GROUP, SESSION, OTHER = (FOREVER[:-1] + digit for digit in "123")


@pytest.fixture
def bed(any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path) -> Bed:
    """On every containerd of the run."""
    return Bed.make(any_containerd, pod_name, tmp_path)


async def test_the_group_and_what_left_it_are_killed_and_nothing_else(bed: Bed) -> None:
    """A job in the background, and a grandchild in a session of its own; not another exec's nor the container's own."""
    hook = f"setsid sh -c 'sleep {SESSION} & wait' & sleep {GROUP} & echo >>{SHARED}/log; wait"
    async with bed.begun("sh", "-c", f"echo >>{SHARED}/log; sleep {OTHER}", delivery="d2") as other:
        async with bed.begun("sh", "-c", hook) as task:
            await asyncio.to_thread(until, lambda: running(bed.container, SESSION), "the grandchild runs")
            assert await cancelled(task) < native.CANCEL_SECONDS
            await asyncio.to_thread(
                until,
                lambda: not running(bed.container, SESSION) and not running(bed.container, GROUP),
                "both are gone",
            )
        assert running(bed.container, OTHER)
        assert running(bed.container, FOREVER)
        assert bed.containerd.cri.state(bed.container) == "CONTAINER_RUNNING"
        assert await exec_of(bed) is None
        assert sorted(path.name for path in bed.outputs.iterdir()) == ["hookshim-d2-1.err", "hookshim-d2-1.out"]
        await cancelled(other)
    assert not running(bed.container, OTHER)


async def test_a_hook_that_makes_processes_all_the_time_is_killed_with_all_of_them(bed: Bed) -> None:
    """They are stopped before they are killed: none gets away by being born meanwhile."""
    forks = f"echo >>{SHARED}/log; i=0; while [ $i -lt 300 ]; do setsid sleep {SESSION} & i=$((i+1)); done; wait"
    async with bed.begun("sh", "-c", forks) as task:
        await cancelled(task)
    await asyncio.to_thread(until, lambda: not running(bed.container, SESSION), "all are gone")


class Found:
    """A hook whose daemon was killed, being found by another; ``waiting`` is set when that one waits for its end."""

    def __init__(self, bed: Bed, handler: NativeExec, execution: Execution | None) -> None:
        self.waiting = asyncio.Event()
        handler._execs = Stepped(handler._execs._caller, self._at)
        attempt = bed.attempt(*SLEEPS, execution=execution)
        self.task: asyncio.Task[object] = asyncio.create_task(handler.find(attempt))

    async def _at(self, step: str) -> None:
        if step == "during.wait":
            self.waiting.set()


SLEEPS = ("sh", "-c", f"echo >>{SHARED}/log; sleep {GROUP}")


def orphan(bed: Bed) -> Execution:
    """A hook that runs and whose daemon was killed, as it was committed."""

    def look() -> Execution | None:
        execution = bed.committed()
        runs = execution and execution.stage is Stage.RUNNING and running(bed.container, GROUP)
        return execution if runs else None

    process = bed.elsewhere("deliver", *SLEEPS)
    with ended(process):
        return until(look, "the hook runs, which is committed")


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_hook_that_was_found_is_killed_when_that_is_cancelled(bed: Bed, *, at_once: bool) -> None:
    """By the pid and the start time that were committed; also before anything was asked of containerd."""
    execution = await asyncio.to_thread(orphan, bed)
    async with bed.handler() as handler:
        found = Found(bed, handler, execution)
        await (asyncio.sleep(0) if at_once else found.waiting.wait())
        await cancelled(found.task)
    assert not running(bed.container, GROUP)
    assert await exec_of(bed) is None
    assert list(bed.outputs.iterdir()) == []


@pytest.mark.parametrize("known_pid", [True, False])
async def test_a_pid_whose_start_time_is_another_is_not_signalled(bed: Bed, *, known_pid: bool) -> None:
    """It is somebody else's by now, whatever the number says. One that was not committed is the runtime's word."""
    execution = await asyncio.to_thread(orphan, bed)
    assert execution.pid is not None
    assert execution.pid_started is not None
    assert execution.pid_started == processes.started(execution.pid)
    wrong = dataclasses.replace(execution, pid_started=execution.pid_started + 1)
    async with bed.handler() as handler:
        found = Found(bed, handler, wrong if known_pid else Execution(Stage.STARTING))
        await found.waiting.wait()
        await cancelled(found.task)
    assert bool(running(bed.container, GROUP)) == known_pid
    if known_pid:
        assert processes.started(execution.pid) == execution.pid_started


async def test_a_process_of_another_container_is_not_signalled(bed: Bed) -> None:
    """Its start time alone does not make it the hook's: it is in another cgroup."""
    other = bed.containerd.cri.create(bed.pod, "other", ["/bin/sleep", OTHER])
    bed.containerd.cri.start(other)
    (pid,) = until(lambda: running(other, OTHER), "its process is the command's, no longer runc's")
    with pytest.raises(NotOursError, match="cgroup"), Held(pid, processes.started(pid), bed.pid()):
        pytest.fail("it is held")
    assert running(other, OTHER)


async def test_a_hook_that_is_cancelled_while_it_is_started_does_not_run_on(bed: Bed) -> None:
    """The Start is let come to its end first: it may run all the same."""
    tasks: list[asyncio.Task[object]] = []

    async def at(step: str) -> None:
        if step == "during.start":
            tasks[0].cancel()

    backend = Backend(bed.containerd.socket)
    handler = NativeExec(Caller(backend), bed.outputs)
    handler._execs = Stepped(Caller(backend), at)
    tasks.append(asyncio.create_task(handler.deliver(bed.attempt("sleep", GROUP))))
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert not running(bed.container, GROUP)
    assert await exec_of(bed) is None
    assert list(bed.outputs.iterdir()) == []
    await backend.close()


async def test_a_cancel_does_not_wait_for_a_containerd_that_is_away(
    own_containerd: PrivateContainerd, pod_name: str, tmp_path: Path
) -> None:
    """It returns within its bound; the hook is killed when containerd is back."""
    bed = await asyncio.to_thread(Bed.make, own_containerd, pod_name, tmp_path)
    async with bed.begun("sh", "-c", f"echo >>{SHARED}/log; sleep {GROUP}") as task:
        await asyncio.to_thread(own_containerd.kill)
        assert await cancelled(task) < native.CANCEL_SECONDS + 1
        assert running(bed.container, GROUP)
        await asyncio.to_thread(own_containerd.launch)
        await asyncio.to_thread(until, lambda: not running(bed.container, GROUP), "it is killed")


@pytest.mark.parametrize("step", ["before.exec", "after.exec", "before.start"])
async def test_a_hook_that_is_cancelled_before_it_is_started_never_is(bed: Bed, step: str) -> None:
    """Nothing of it is left in containerd."""
    tasks: list[asyncio.Task[object]] = []

    async def at(now: str) -> None:
        if now == step:
            tasks[0].cancel()
            await asyncio.sleep(0)

    backend = Backend(bed.containerd.socket)
    handler = NativeExec(Caller(backend), bed.outputs)
    handler._execs = Stepped(Caller(backend), at)
    command: Awaitable[object] = handler.deliver(bed.attempt("sh", "-c", f"echo >>{SHARED}/log"))
    tasks.append(asyncio.ensure_future(command))
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert await exec_of(bed) is None
    if step != "before.start":
        assert bed.log == []
    await backend.close()


class Dying(Execs):
    """Whose exec is killed by somebody else just after it was seen to run, once it is to be."""

    doomed = False

    async def look(self, ref: ExecRef) -> Seen | None:
        """The real look."""
        seen = await super().look(ref)
        if self.doomed and ref.id and seen is not None and seen.running:
            self.doomed = False
            began = processes.started(seen.pid) or 0
            os.kill(seen.pid, signal.SIGKILL)
            until(lambda: not processes.runs(seen.pid, began), "it is killed")
        return seen


async def test_a_hook_that_ends_while_it_is_being_ended_leaves_nothing(bed: Bed) -> None:
    """Neither in containerd nor in its directory."""
    backend = Backend(bed.containerd.socket)
    handler = NativeExec(Caller(backend), bed.outputs)
    execs = Dying(Caller(backend))
    handler._execs = execs
    command = bed.attempt("sh", "-c", f"echo >>{SHARED}/log; exec sleep {FOREVER}")
    task = asyncio.create_task(handler.deliver(command))
    await asyncio.to_thread(until, lambda: bed.log, "the hook has begun")
    execs.doomed = True
    await cancelled(task)
    assert await exec_of(bed) is None
    assert list(bed.outputs.iterdir()) == []
    await backend.close()
