"""An exec hook whose Start was lost with containerd while its command ran already: nobody has heard of its pid.

When containerd dies, the shim kills the runc that was starting an exec for it. Whether the command runs by then is a
matter of milliseconds; here it always does, since runc is kept from ending once it has started the command.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from server.backend import Backend
from server.handlers.native import NativeExec
from server.native.caller import Caller
from server.native.execs import Seen
from server.wire.containerd.services.tasks.v1 import tasks_pb2 as tasks
from shim.errors import RuntimeCallError
from shim.records import Execution, Stage
from tests.integration.native_exec_bed import SHARED, Bed, Stepped, cancelled, ended, exec_of, running
from tests.support.containerd import PrivateContainerd
from tests.support.image import FOREVER
from tests.support.waiting import until

#: How long the hook's processes sleep, and another's, by which they are told apart.
MINE, OTHER = (FOREVER[:-1] + digit for digit in "45")

#: What containerd says of an exec whose runc was killed, although its command runs.
NEVER_STARTED = Seen(tasks.CREATED, 0)

#: It leaves a process in a session of its own, without a parent: only what it was given says whose it is.
HOOK = f"(setsid sleep {MINE} &); echo $HOOKSHIM_ATTEMPT >>{SHARED}/log; sleep {MINE}"


@pytest.fixture
def held_runc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file: while it is there, runc starts the hook ``d1`` and does not end. For a containerd made after this."""
    hold, program = tmp_path / "hold", tmp_path / "bin" / "runc"
    runc = shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/sh
{runc} "$@" || exit
case " $* " in *" exec "*"/hookshim-d1-"*) [ ! -e {hold} ] || exec sleep {FOREVER} ;; esac
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    hold.touch()
    return hold


@pytest.fixture
def bed(held_runc: Path, own_containerd: PrivateContainerd, pod_name: str, tmp_path: Path) -> Bed:
    """On every containerd of the run, with that runc."""
    return Bed.make(own_containerd, pod_name, tmp_path)


async def restarted(bed: Bed) -> None:
    """Containerd, which has not answered the Start: the command runs, and containerd says that it was never started."""
    await asyncio.to_thread(bed.containerd.kill)
    await asyncio.to_thread(bed.containerd.launch)


async def test_a_cancelled_hook_does_not_run_on(bed: Bed) -> None:
    """It is ended with all that came of it, when containerd is back; no other hook is, nor who is in another container.

    That one was even given the same environment.
    """
    same = ["/bin/env", "HOOKSHIM_DELIVERY=d1", "HOOKSHIM_ATTEMPT=1", "sleep", MINE]
    neighbour = bed.containerd.cri.create(bed.pod, "neighbour", same)
    bed.containerd.cri.start(neighbour)
    async with bed.begun("sh", "-c", f"echo >>{SHARED}/log; sleep {OTHER}", delivery="d2") as other:
        async with bed.begun("sh", "-c", HOOK) as task:
            await asyncio.to_thread(bed.containerd.kill)
            await cancelled(task)
            assert len(running(bed.container, MINE)) == 2
            await asyncio.to_thread(bed.containerd.launch)
            await asyncio.to_thread(until, lambda: not running(bed.container, MINE), "it is killed")
        assert running(bed.container, OTHER)
        assert running(bed.container, FOREVER)
        await cancelled(other)
    assert await exec_of(bed) is None
    assert running(neighbour, MINE)


async def test_a_cancelled_hook_is_not_started_when_it_was_lost_whether_it_was_made(bed: Bed) -> None:
    """Containerd has made the exec and is gone before it says so: nothing of that is left when it is back."""
    mine: list[asyncio.Task[object]] = []

    async def at(step: str) -> None:
        if step == "after.exec":
            await asyncio.to_thread(bed.containerd.kill)
            mine[0].cancel()
            raise RuntimeCallError("UNAVAILABLE", "the answer is lost")

    backend = Backend(bed.containerd.socket)
    handler = NativeExec(Caller(backend), bed.outputs)
    handler._execs = Stepped(Caller(backend), at)
    mine.append(asyncio.create_task(handler.deliver(bed.attempt("sh", "-c", HOOK))))
    with pytest.raises(asyncio.CancelledError):
        await mine[0]
    await asyncio.to_thread(bed.containerd.launch)
    await asyncio.to_thread(until, lambda: not list(bed.outputs.iterdir()), "it is cleared up")
    await backend.close()
    assert await exec_of(bed) is None
    assert bed.log == []


async def test_a_hook_is_ended_before_it_is_started_anew(bed: Bed, held_runc: Path) -> None:
    """It never runs twice at the same time, and the second run's outcome is the hook's."""
    twice = f"[ -e {SHARED}/log ] && {{ echo >>{SHARED}/log; exit 3; }}; {HOOK}"
    async with bed.begun("sh", "-c", twice) as task:
        await asyncio.to_thread(bed.containerd.kill)
        await asyncio.to_thread(held_runc.unlink)
        await asyncio.to_thread(bed.containerd.launch)
        outcome = await task
    assert (outcome.exit_status, len(bed.log)) == (3, 2)
    assert not running(bed.container, MINE)


async def test_a_hook_is_ended_when_the_next_daemon_does_not_find_it(bed: Bed) -> None:
    """That one sends it anew: the daemon was killed, too, and all that is known is that a Start was to be sent."""
    process = await asyncio.to_thread(bed.elsewhere, "deliver", "sh", "-c", HOOK)
    with ended(process):
        await asyncio.to_thread(until, lambda: bed.log, "the hook has begun")
        assert bed.committed() == Execution(Stage.STARTING)
    await restarted(bed)
    assert await exec_of(bed) == NEVER_STARTED
    assert len(running(bed.container, MINE)) == 2
    async with bed.handler() as handler:
        assert await handler.find(bed.attempt("sh", "-c", HOOK, execution=bed.committed())) is None
    assert not running(bed.container, MINE)
    assert await exec_of(bed) is None
