"""An exec hook by the native API is what CRI's own exec would be, and says who it is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shim.records import Execution, Stage
from tests.integration.native_exec_bed import SHARED, Bed
from tests.support.containerd import PrivateContainerd

#: Everything that a process has from its container, as far as it can tell.
LOOK = (
    "id; pwd; env | grep -v HOOKSHIM_ | sort; hostname; cat /proc/1/cmdline; ulimit -a; umask; cat /proc/self/cgroup"
    " /proc/self/oom_score_adj /proc/self/mounts; grep -E 'Cap|NoNew|Seccomp|Groups|Uid' /proc/self/status;"
    " readlink /proc/self/ns/*; ls -l /proc/self/fd | wc -l"
)


@pytest.fixture
def bed(any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path) -> Bed:
    """On every containerd of the run, as another user in another directory."""
    envs = {"GREETING": "hello", "HOOKSHIM_DELIVERY": "the container's own"}
    return Bed.make(any_containerd, pod_name, tmp_path, user=65534, working_dir="/tmp", envs=envs)


async def test_it_sees_what_cris_exec_sees(bed: Bed) -> None:
    """User, groups, capabilities, environment, directory, limits, cgroup, mounts and namespaces are the container's."""
    outcome = await bed.deliver("sh", "-c", f"({LOOK}) >{SHARED}/native 2>&1")
    assert outcome.exit_status == 0
    said = await asyncio.to_thread(bed.containerd.cri.exec_sync, bed.container, ["sh", "-c", f"({LOOK}) 2>&1 | cat"])
    lines = (bed.shared / "native").read_text().splitlines()
    assert "uid=65534(nobody) gid=65534(nogroup)" in lines[0] or "uid=65534" in lines[0]
    assert "GREETING=hello" in lines
    assert lines == said.stdout.decode().splitlines()


async def test_it_is_told_which_delivery_and_attempt_it_is(bed: Bed) -> None:
    """What a receiver deduplicates on is ours to say, also if the container has such a variable."""
    outcome = await bed.deliver("sh", "-c", "env | grep ^HOOKSHIM_ | sort", delivery="d7", number=3)
    assert outcome.output == b"HOOKSHIM_ATTEMPT=3\nHOOKSHIM_DELIVERY=d7\n"


async def test_every_step_is_committed_before_the_next(bed: Bed) -> None:
    """Nothing is started that is not committed, and the status is on disk while containerd still knows it."""
    commits: list[tuple[Execution, int]] = []

    async def record(execution: Execution) -> None:
        commits.append((execution, len(bed.log)))

    outcome = await bed.deliver("sh", "-c", f"echo >>{SHARED}/log; sleep 0.1; exit 3", record=record)
    (starting, lines), (running, _), (exited, _) = commits
    assert (starting, lines) == (Execution(Stage.STARTING), 0)
    assert running.stage is Stage.RUNNING
    assert running.pid is not None
    assert exited == Execution(Stage.EXITED, running.pid, running.pid_started, 3)
    assert outcome.exit_status == 3


async def test_what_ends_at_once_is_recorded_with_its_end(bed: Bed) -> None:
    """Its pid, too: nobody has to find a process that has ended, so that its record is one with that of its status."""
    commits: list[Execution] = []

    async def record(execution: Execution) -> None:
        commits.append(execution)

    assert (await bed.deliver("true", record=record)).succeeded
    assert commits[0] == Execution(Stage.STARTING)
    assert (commits[-1].stage, commits[-1].exit_status) == (Stage.EXITED, 0)
    assert commits[-1].pid is not None


async def test_hooks_of_one_container_run_at_the_same_time(bed: Bed) -> None:
    """Each has an exec, files and an outcome of its own."""
    async with bed.handler() as handler:
        outcomes = await asyncio.gather(
            *(handler.deliver(bed.attempt("sh", "-c", f"echo {n}; exit {n}", delivery=f"d{n}")) for n in range(1, 9))
        )
    assert [(it.exit_status, it.output) for it in outcomes] == [(n, b"%d\n" % n) for n in range(1, 9)]
    assert list(bed.outputs.iterdir()) == []


async def test_what_can_be_removed_of_a_dead_daemon_is(bed: Bed) -> None:
    """Output of attempts that are not open any more; an open one's stays for whoever finds it."""
    bed.outputs.mkdir()
    for name in ("hookshim-a-1.out", "hookshim-b-2.out"):
        (bed.outputs / name).touch()
    async with bed.handler() as handler:
        handler.clear([("b", 2)])
    assert [path.name for path in bed.outputs.iterdir()] == ["hookshim-b-2.out"]
