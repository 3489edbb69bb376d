"""An exec hook whose daemon is killed, at every step, is found again by the next one: run once, its outcome told."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from server.backend import Backend
from server.handlers.native import NativeExec
from server.native.caller import Caller
from server.native.execs import ExecRef, Execs, Seen
from server.wire.containerd.services.tasks.v1 import tasks_pb2 as tasks
from shim.errors import RuntimeCallError
from shim.records import Execution, Stage
from tests.integration.native_exec_bed import RUNS, SHARED, STEPS, Bed, Stepped, ended
from tests.support.containerd import PrivateContainerd
from tests.support.image import FOREVER
from tests.support.waiting import PATIENCE, until

#: It takes long enough for its pid to be recorded.
COMMAND = ("sh", "-c", f"echo $HOOKSHIM_ATTEMPT >>{SHARED}/log; echo said; sleep 0.1; exit 3")


@pytest.fixture
def bed(any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path) -> Bed:
    """On every containerd of the run."""
    return Bed.make(any_containerd, pod_name, tmp_path)


def killed(bed: Bed, *command: str, die: str) -> None:
    """A delivery that is SIGKILLed at this step."""
    process = bed.elsewhere("deliver", *command, die=die)
    with ended(process):
        assert process.wait(PATIENCE) == -signal.SIGKILL


@pytest.mark.parametrize("step", STEPS)
def test_a_hook_is_run_once_whatever_step_its_daemon_dies_at(bed: Bed, step: str) -> None:
    """What never ran is not found and is fenced off; what ran is found with its exit status and is not repeated."""
    killed(bed, *COMMAND, die=step)
    found = bed.result(bed.elsewhere("find", *COMMAND))
    assert (found is not None) == (step in RUNS)
    attempt = "1"
    if found is None:
        assert bed.log == []
        attempt = "2"
        found = bed.result(bed.elsewhere("deliver", *COMMAND, number=2))
    assert found is not None
    assert (found["exit_status"], bed.log) == (3, [attempt])
    # Only its record is missing when the files are gone: what it said went with them.
    assert found["output"] == ("" if step == "after.remove" else "said\n")
    assert list(bed.outputs.iterdir()) == []


@pytest.mark.parametrize("milliseconds", [0, 1, 3, 6, 10, 15, 20, 30])
def test_a_start_without_an_answer_is_never_a_second_run(bed: Bed, milliseconds: int) -> None:
    """Its daemon dies while the runtime starts it: it has run, or it never will."""
    killed(bed, *COMMAND, die=f"during.start+{milliseconds / 1000}")
    found = bed.result(bed.elsewhere("find", *COMMAND))
    if found is None:
        found = bed.result(bed.elsewhere("deliver", *COMMAND, number=2))
    assert found is not None
    assert (found["exit_status"], found["output"], len(bed.log)) == (3, "said\n", 1)


def test_a_hook_that_still_runs_is_waited_for(bed: Bed) -> None:
    """Its daemon is killed in the middle; the next one's answer comes with the hook's end, and has its output."""
    waits = f"echo begun; echo >>{SHARED}/log; until [ -e {SHARED}/go ]; do sleep 0.05; done; echo over >&2; exit 4"
    process = bed.elsewhere("deliver", "sh", "-c", waits)
    with ended(process):
        until(lambda: bed.log, "the hook has begun")
        until(lambda: (it := bed.committed()) and it.stage is Stage.RUNNING, "that is committed")
    finder = bed.elsewhere("find", "sh", "-c", waits)
    with ended(finder):
        assert finder.poll() is None
        (bed.shared / "go").touch()
        found = bed.result(finder)
    assert found is not None
    assert (found["exit_status"], found["output"], len(bed.log)) == (4, "begun\nover\n", 1)


def test_two_daemons_that_die_in_a_row_change_nothing(bed: Bed) -> None:
    """The one that found it is killed too."""
    killed(bed, *COMMAND, die="after.start")
    process = bed.elsewhere("find", *COMMAND, die="before.delete")
    with ended(process):
        assert process.wait(PATIENCE) == -signal.SIGKILL
    found = bed.result(bed.elsewhere("find", *COMMAND))
    assert found is not None
    assert (found["exit_status"], bed.log) == (3, ["1"])


async def test_a_status_that_was_committed_is_the_outcome_though_containerd_forgot_it(bed: Bed) -> None:
    """The container may have ended since, and be gone: what is on disk counts."""
    await asyncio.to_thread(bed.containerd.cri.stop, bed.container, 0)
    await asyncio.to_thread(bed.containerd.cri.remove, bed.container)
    async with bed.handler() as handler:
        execution = Execution(Stage.EXITED, 1, 1, 0)
        found = await handler.find(bed.attempt("true", execution=execution))
    assert found is not None
    assert (found.error, found.exit_status) == ("", 0)


@pytest.mark.parametrize("stage", [Stage.STARTING, Stage.RUNNING])
async def test_a_hook_that_ended_with_its_container_is_not_sent_again(bed: Bed, stage: Stage) -> None:
    """Nobody knows how it ended; the text says so, and there is no status that could be taken for its own."""
    process = await asyncio.to_thread(bed.elsewhere, "deliver", "sh", "-c", f"echo >>{SHARED}/log; sleep {FOREVER}")
    with ended(process):
        await asyncio.to_thread(until, lambda: bed.log, "the hook has begun")
    await asyncio.to_thread(bed.containerd.cri.stop, bed.container, 0)
    async with bed.handler() as handler:
        found = await handler.find(bed.attempt("true", execution=Execution(stage, 1, 1)))
    assert found is not None
    assert "the container has ended, and with it what is known of the hook" in found.error
    assert found.exit_status is None
    assert list(bed.outputs.iterdir()) == []


async def test_an_attempt_that_nobody_began_is_not_found(bed: Bed) -> None:
    """Nor is one in a container that containerd does not have, or no longer has."""
    async with bed.handler() as handler:
        assert await handler.find(bed.attempt("true")) is None
        assert await handler.find(bed.attempt("true", execution=Execution(Stage.STARTING))) is None


async def test_what_is_not_found_is_never_started_late(bed: Bed) -> None:
    """A Start of the dead daemon's may still be on its way: it finds nothing to start."""
    await asyncio.to_thread(killed, bed, *COMMAND, die="before.start")
    backend = Backend(bed.containerd.socket)
    execs, ref = Execs(Caller(backend)), ExecRef(bed.container, "hookshim-d1-1")
    assert await execs.look(ref) == Seen(tasks.CREATED, 0)
    async with bed.handler() as handler:
        assert await handler.find(bed.attempt(*COMMAND, execution=bed.committed())) is None
    with pytest.raises(RuntimeCallError, match="NOT_FOUND"):
        await execs.start(ref)
    assert bed.log == []
    await backend.close()


async def test_an_attempt_that_a_journal_forgot_is_adopted(bed: Bed) -> None:
    """A journal that reads shorter than it was sends it under the same name: it runs already."""
    waits = f"echo >>{SHARED}/log; until [ -e {SHARED}/go ]; do sleep 0.05; done; exit 5"
    process = await asyncio.to_thread(bed.elsewhere, "deliver", "sh", "-c", waits)
    with ended(process):
        await asyncio.to_thread(until, lambda: bed.log, "the hook has begun")
    async with bed.handler() as handler:
        task = asyncio.create_task(handler.deliver(bed.attempt("sh", "-c", waits)))
        (bed.shared / "go").touch()
        outcome = await task
    assert (outcome.exit_status, len(bed.log)) == (5, 1)


@pytest.mark.parametrize("step", ["during.start", "during.wait"])
async def test_a_hook_that_is_left_goes_on(bed: Bed, step: str) -> None:
    """A daemon that shuts down cancels what it waits for, also a start; the next one finds it."""
    waits = f"echo >>{SHARED}/log; until [ -e {SHARED}/go ]; do sleep 0.05; done; exit 6"
    there = asyncio.Event()

    async def at(now: str) -> None:
        if now == step:
            there.set()

    backend = Backend(bed.containerd.socket)
    handler = NativeExec(Caller(backend), bed.outputs)
    handler._execs = Stepped(Caller(backend), at)
    task = asyncio.create_task(handler.deliver(bed.attempt("sh", "-c", waits)))
    await there.wait()
    handler.leave()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await backend.close()
    (bed.shared / "go").touch()
    async with bed.handler() as following:
        found = await following.find(bed.attempt("sh", "-c", waits, execution=Execution(Stage.STARTING)))
    assert found is not None
    assert (found.exit_status, len(bed.log)) == (6, 1)
