"""Exec hooks while containerd, their container or the disk fails under them: run once all the same, and told truly."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc import aio

from server.backend import Backend
from server.handlers.native import NativeExec
from server.native.caller import Caller
from server.native.execs import UnsupportedError
from server.native.outcome import OUTPUT_LIMIT
from server.native.output import FILE_LIMIT
from shim.records import Execution, Outcome, Stage
from tests.conftest import BASE, Containerds
from tests.integration.native_exec_bed import SHARED, STEPS, Bed, Stepped, SteppedOutputs
from tests.support.containerd import PrivateContainerd
from tests.support.image import FOREVER
from tests.support.waiting import PATIENCE, until

#: It takes long enough for its pid to be recorded.
COMMAND = ("sh", "-c", f"echo >>{SHARED}/log; echo said; sleep 0.1; exit 3")


@pytest.fixture(scope="module")
def breakable(containerds: Containerds) -> Iterator[PrivateContainerd]:
    """One that may be killed."""
    made = containerds.new(BASE)
    yield made
    made.end()


@pytest.fixture
def breakable_bed(breakable: PrivateContainerd, pod_name: str, tmp_path: Path) -> Iterator[Bed]:
    """A container in it."""
    yield Bed.make(breakable, pod_name, tmp_path)
    breakable.clear()


@pytest.fixture
def bed(any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path) -> Bed:
    """On every containerd of the run."""
    return Bed.make(any_containerd, pod_name, tmp_path)


class Fault:
    """Kills containerd at one step, and starts it again while the handler goes on."""

    def __init__(self, bed: Bed, step: str) -> None:
        self._bed, self._step = bed, step
        self._back: asyncio.Task[None] | None = None

    async def at(self, step: str) -> None:
        """A step of the handler's; the fault happens once."""
        if step == self._step and self._back is None:
            await asyncio.to_thread(self._bed.containerd.kill)
            self._back = asyncio.create_task(asyncio.to_thread(self._bed.containerd.launch))

    async def deliver(self, *command: str) -> tuple[Outcome, list[Execution]]:
        """The outcome, and what was committed on the way to it."""
        commits: list[Execution] = []

        async def record(execution: Execution) -> None:
            await self.at(f"before.{execution.stage}")
            commits.append(execution)
            await self.at(f"after.{execution.stage}")

        backend = Backend(self._bed.containerd.socket)
        handler = NativeExec(Caller(backend), self._bed.outputs)
        handler._execs = Stepped(Caller(backend), self.at)
        handler._outputs = SteppedOutputs(self._bed.outputs, self.at)
        try:
            async with asyncio.timeout(3 * PATIENCE):
                outcome = await handler.deliver(self._bed.attempt(*command, record=record))
        finally:
            await backend.close()
            assert self._back is not None, f"{self._step} was never passed"
            await self._back
        return outcome, commits


@pytest.mark.parametrize("step", [step for step in STEPS if "remove" not in step])
async def test_containerd_may_be_killed_at_every_step(breakable_bed: Bed, step: str) -> None:
    """It is waited for, and the hook goes on where it was: it is run once and has its own outcome."""
    outcome, commits = await Fault(breakable_bed, step).deliver(*COMMAND)
    assert (outcome.exit_status, outcome.output, len(breakable_bed.log)) == (3, b"said\n", 1)
    assert [commit.stage for commit in commits][-2:] == [Stage.RUNNING, Stage.EXITED]
    assert list(breakable_bed.outputs.iterdir()) == []


async def test_containerd_may_be_killed_while_it_starts_a_hook(breakable_bed: Bed) -> None:
    """Nobody is told whether it runs; it is run in any case, and what is reported is what ran."""
    outcome, _ = await Fault(breakable_bed, "during.start").deliver(*COMMAND)
    assert (outcome.exit_status, outcome.output) == (3, b"said\n")
    assert len(breakable_bed.log) >= 1


async def test_containerd_may_be_killed_while_a_hook_runs(breakable_bed: Bed) -> None:
    """The hook does not notice, and its end while containerd is away is known when it is back."""
    outcome, _ = await Fault(breakable_bed, "during.wait").deliver(
        "sh", "-c", f"echo >>{SHARED}/log; sleep 0.3; echo said; exit 3"
    )
    assert (outcome.exit_status, outcome.output, len(breakable_bed.log)) == (3, b"said\n", 1)


@pytest.fixture
def full_disk(bed: Bed) -> Iterator[None]:
    """The hooks' outputs have next to no room."""
    bed.outputs.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "hookshim-test", bed.outputs], check=True)
    yield
    subprocess.run(["umount", bed.outputs], check=True)


async def test_a_full_disk_keeps_no_hook_from_running(bed: Bed, full_disk: None) -> None:
    """Its output is not kept then, however much there is of it: it neither fails nor hangs."""
    outcome = await bed.deliver("sh", "-c", f"head -c 300000 /dev/zero; echo e >&2; echo >>{SHARED}/log; exit 3")
    assert list(bed.outputs.iterdir()) == []
    assert (outcome.exit_status, outcome.output, len(bed.log)) == (3, b"", 1)


async def test_a_hook_that_talks_all_the_time_fills_no_disk(bed: Bed) -> None:
    """Its files are emptied while it runs, and the end of what it said is kept."""
    talks = (
        f"echo >>{SHARED}/log; head -c 3000000 /dev/zero; until [ -e {SHARED}/go ]; do sleep 0.05; done; echo the end"
    )
    async with bed.begun("sh", "-c", talks) as task:
        stdout = bed.outputs / "hookshim-d1-1.out"
        await asyncio.to_thread(until, lambda: stdout.stat().st_size < FILE_LIMIT, "it is short again")
        (bed.shared / "go").touch()
        outcome = await task
    assert len(outcome.output) == OUTPUT_LIMIT
    assert outcome.output.endswith(b"\0the end\n")


async def test_a_hook_whose_child_keeps_its_output_open_ends_all_the_same(bed: Bed) -> None:
    """Its exit status is its end; the runtime waits two seconds for the rest, and the child lives on."""
    outcome = await bed.deliver("sh", "-c", f"sleep {FOREVER} & echo said; exit 3")
    assert (outcome.exit_status, outcome.output) == (3, b"said\n")


async def test_a_hook_that_ends_its_own_container_is_told_by_a_signal(bed: Bed) -> None:
    """Whose end that was is the engine's to find out: it watches the container."""
    async with bed.begun("sh", "-c", f"echo >>{SHARED}/log; echo said; kill -TERM 1; sleep {FOREVER}") as task:
        outcome = await task
    assert (outcome.exit_status, outcome.output) in ((137, b"said\n"), (None, b"said\n"), (None, b""))
    assert not outcome.succeeded
    until(lambda: bed.containerd.cri.state(bed.container) == "CONTAINER_EXITED", "the container has ended")


async def test_a_runtime_without_the_native_api_is_told_at_once(bed: Bed, tmp_path: Path) -> None:
    """A server that speaks gRPC and knows none of these services: nothing is begun, nothing is found."""
    server = aio.server()
    server.add_insecure_port(f"unix:{tmp_path}/other.sock")
    await server.start()
    backend = Backend(tmp_path / "other.sock")
    handler = NativeExec(Caller(backend), bed.outputs)
    for call in (handler.deliver, handler.find):
        with pytest.raises(UnsupportedError, match="UNIMPLEMENTED"):
            await call(bed.attempt("true"))
    await backend.close()
    await server.stop(None)
