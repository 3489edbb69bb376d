"""What a run hook's command is given, what is made of its end, and that nothing of it is left when it is cancelled."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.handlers.processes import process
from server.handlers.run import OUTPUT_LIMIT, RunHandler
from shim.actions import ExecAction, RunAction
from shim.ports import Attempt
from shim.records import CONTAINER, KUBELET, POD, RULE, Ending, Hook, Outcome
from tests.support.waiting import until
from tests.unit.handler_bed import PATIENCE, attempt

#: What a program that says who it is writes.
REPORT = """
import json, os, sys
print(json.dumps({
    "stdin": json.load(sys.stdin), "environment": dict(os.environ), "cwd": os.getcwd(), "argv": sys.argv[1:],
    "session": os.getsid(0) == os.getpid(), "files": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
    "umask": os.umask(0), "uid": os.getuid(),
}))
"""


def run(*command: str, number: int = 1, hook: Hook = Hook.PRE_STOP, ending: Ending | None = None) -> Attempt:
    """An attempt of a rule's command."""
    made = attempt(RunAction(command), source=f"{RULE}a", hook=hook, ending=ending)
    return Attempt(f"run{os.getpid()}", number, hook, made.handler, made.container, None, made.source, ending=ending)


async def deliver(made: Attempt) -> Outcome:
    """Deliver, but do not hang."""
    async with asyncio.timeout(PATIENCE):
        return await RunHandler().deliver(made)


async def written(path: Path) -> list[int]:
    """The numbers in a file, once its last line is complete."""

    def complete() -> list[str]:
        lines = path.read_text().splitlines() if path.exists() else []
        return lines[:-1] if lines and lines[-1] == "end" else []

    lines = await asyncio.to_thread(until, complete, f"the end of {path}")
    return [int(line) for line in lines]


def survivors(pids: list[int]) -> list[int]:
    """Those that run still, and are killed: a test that fails leaves nobody behind."""
    found = alive(pids)
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return found


def open_files() -> list[int]:
    """This process's, that of listing them aside."""
    return sorted(int(entry.name) for entry in Path("/proc/self/fd").iterdir())[:-1]


def alive(pids: list[int]) -> list[int]:
    """Those that run still; a zombie does not."""
    return [pid for pid in pids if (found := process(pid)) is not None and not found.zombie]


def started(*command: str, **variables: str) -> subprocess.Popen[bytes]:
    """A process of the test's own, in a session of its own."""
    environment = {**os.environ, **variables}
    return subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)


@asynccontextmanager
async def going(made: Attempt, handler: RunHandler) -> AsyncIterator[asyncio.Task[Outcome]]:
    """A delivery that is under way, and is ended with the block."""
    task = asyncio.create_task(handler.deliver(made))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=PATIENCE)


async def test_a_command_learns_whom_it_is_about() -> None:
    """As JSON on its standard input, and in variables; a postStop also how the container ended."""
    ending = Ending(started=True, exit_code=137, reason="OOMKilled", finished_at=1767225600.5, started_at=1767225599.0)
    made = run(sys.executable, "-c", REPORT, "$(x)", "a b", number=3, hook=Hook.POST_STOP, ending=ending)
    outcome = await deliver(made)
    assert (outcome.error, outcome.exit_status) == ("", 0)
    told = json.loads(outcome.output)
    assert told["argv"] == ["$(x)", "a b"]
    assert told["stdin"] == {
        "hook": "postStop",
        "delivery": made.delivery_id,
        "attempt": 3,
        "containerId": "c1",
        "containerName": "web",
        "podName": "pod",
        "podNamespace": "ns",
        "podUid": "uid",
        "sandboxId": "s1",
        "exitCode": 137,
        "reason": "OOMKilled",
        "startedAt": "2025-12-31T23:59:59.000Z",
        "finishedAt": "2026-01-01T00:00:00.500Z",
    }
    assert {name: value for name, value in told["environment"].items() if name.startswith("HOOKSHIM_")} == {
        "HOOKSHIM_HOOK": "postStop",
        "HOOKSHIM_DELIVERY": made.delivery_id,
        "HOOKSHIM_ATTEMPT": "3",
        "HOOKSHIM_CONTAINER_ID": "c1",
        "HOOKSHIM_CONTAINER_NAME": "web",
        "HOOKSHIM_POD_NAME": "pod",
        "HOOKSHIM_POD_NAMESPACE": "ns",
        "HOOKSHIM_POD_UID": "uid",
        "HOOKSHIM_SANDBOX_ID": "s1",
        "HOOKSHIM_EXIT_CODE": "137",
        "HOOKSHIM_REASON": "OOMKilled",
        "HOOKSHIM_STARTED_AT": "2025-12-31T23:59:59.000Z",
        "HOOKSHIM_FINISHED_AT": "2026-01-01T00:00:00.500Z",
    }


async def test_a_command_inherits_nothing_but_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No open file, not even one that may be inherited, no variable, directory, umask or session of hookshim's."""
    monkeypatch.setenv("HOOKSHIM_LOG_LEVEL", "debug")
    monkeypatch.setenv("S3CRET", "1")
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "open").open("wb") as kept:
        os.set_inheritable(kept.fileno(), True)  # noqa: FBT003 - its only argument
        before = os.umask(0o077)
        try:
            outcome = await deliver(run(sys.executable, "-c", REPORT))
        finally:
            os.umask(before)
    told = json.loads(outcome.output)
    assert told["files"] == [0, 1, 2]
    assert {name for name in told["environment"] if not name.startswith("HOOKSHIM_")} - {"LC_CTYPE"} == {"PATH", "LANG"}
    assert "HOOKSHIM_LOG_LEVEL" not in told["environment"]
    assert (told["cwd"], told["session"], told["umask"], told["uid"]) == ("/", True, 0o022, os.getuid())


async def test_a_hook_that_has_no_end_to_tell_tells_none() -> None:
    """A PreStop's document has no field for an exit code that does not exist yet."""
    told = json.loads((await deliver(run("cat"))).output)
    assert told["hook"] == "preStop"
    assert "exitCode" not in told


async def test_what_nobody_knows_is_an_empty_variable() -> None:
    """A shell script may run with `set -u`."""
    script = 'set -u; echo "[$HOOKSHIM_EXIT_CODE][$HOOKSHIM_REASON][$HOOKSHIM_STARTED_AT][$HOOKSHIM_FINISHED_AT]"'
    outcome = await deliver(run("sh", "-c", script, hook=Hook.POST_STOP))
    assert outcome.output == b"[][Unknown][][]\n"


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("kill -9 $$", 137), ("kill -15 $$", 143)])
async def test_a_command_that_fails_fails_the_hook(script: str, status: int) -> None:
    """In the kubelet's words; what it said is kept and in no text."""
    outcome = await deliver(run("sh", "-c", f"echo s3cret; echo more >&2; {script}"))
    why = f"command 'sh -c echo s3cret; echo more >&2; {script}' exited with {status}"
    where = (
        f'Run lifecycle hook ([sh -c echo s3cret; echo more >&2; {script}]) for Container "web" in Pod "pod_ns(uid)"'
    )
    assert outcome == Outcome(f"{where} failed - error: {why}", exit_status=status, output=b"s3cret\nmore\n")


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("no-such-command", "no such file or directory"),
        ("/etc", "permission denied"),
        ("/etc/passwd", "permission denied"),
        ("a\0b", "it cannot be run"),
    ],
)
async def test_a_command_that_cannot_be_started_fails_the_hook(command: str, why: str) -> None:
    """With the system's reason; nothing stays open."""
    before = open_files()
    outcome = await deliver(run(command))
    assert outcome.error.endswith(f" not started: {why}")
    assert outcome.exit_status is None
    assert open_files() == before


async def test_a_chatty_command_neither_blocks_nor_is_kept() -> None:
    """Of 64 MiB the last 4 KiB stay; stdout and stderr in the order in which they were written."""
    outcome = await deliver(run("sh", "-c", "head -c 67108864 /dev/zero; echo out; echo err >&2"))
    assert outcome.succeeded
    assert len(outcome.output) == OUTPUT_LIMIT
    assert outcome.output.endswith(b"\0out\nerr\n")


async def test_a_command_is_over_when_it_ends_whoever_holds_its_output(tmp_path: Path) -> None:
    """What it leaves in the background goes on, and is not waited for."""
    told = tmp_path / "pids"
    outcome = await deliver(run("sh", "-c", f"sleep 600 & echo $! > {told}; echo end >> {told}; echo done"))
    (left,) = await written(told)
    try:
        assert outcome == Outcome(exit_status=0, output=b"done\n")
        assert alive([left]) == [left]
    finally:
        os.kill(left, signal.SIGKILL)


#: A command with a child that ignores signals, one in a session of its own, and one that has lost its parent.
FAMILY = """
trap '' TERM INT HUP
sleep 600 & echo $! >> {told}
setsid sh -c 'trap "" TERM; echo $$ >> {told}; sleep 600; true' &
(setsid sh -c 'echo $$ >> {told}; exec sleep 600' &)
while [ $(wc -l < {told}) -lt 3 ]; do sleep 0.01; done
{more}
echo $$ >> {told}; echo end >> {told}
while :; do echo chatter; sleep 0.01; done
"""

#: One that has nothing left of its parent and its group but the session.
STRAY = f"""
({sys.executable} -c '
import os, sys
os.setpgid(0, 0)
with open(sys.argv[1], "a") as told:
    told.write("%d\\n" % os.getpid())
os.execve("/bin/sleep", ["sleep", "600"], dict())
' {{told}} &)
while [ $(wc -l < {{told}}) -lt 4 ]; do sleep 0.01; done
"""


async def test_cancelling_kills_the_command_and_all_of_its_descendants(tmp_path: Path) -> None:
    """When it returns none of them is alive and the command is reaped; nobody else is touched, nothing stays open."""
    told = tmp_path / "pids"
    script = FAMILY.format(told=told, more=STRAY.format(told=told))
    with started("sleep", "600") as bystander:
        before = open_files()
        try:
            async with going(run("sh", "-c", script), RunHandler()) as task:
                pids = await written(told)
                assert alive(pids) == pids
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    async with asyncio.timeout(PATIENCE):
                        await task
                assert survivors(pids) == []
                assert process(pids[-1]) is None
            assert open_files() == before
            assert bystander.poll() is None
        finally:
            bystander.kill()


async def test_cancelling_twice_leaves_nothing_either(tmp_path: Path) -> None:
    """The end goes on when its waiter is gone."""
    told = tmp_path / "pids"
    handler = RunHandler()
    async with going(run("sh", "-c", FAMILY.format(told=told, more="")), handler) as task:
        pids = await written(told)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*handler.ends)
    assert survivors(pids) == []


@pytest.mark.parametrize("way", ["find", "deliver"])
async def test_what_an_earlier_process_left_is_killed_before_it_is_sent_again(way: str, tmp_path: Path) -> None:
    """Two at once would do more harm than one that is repeated; a hook of another delivery is left alone."""
    told, mine = tmp_path / "pids", run("sh", "-c", "exit 0", number=2)
    script = FAMILY.format(told=told, more="")
    with (
        started("sh", "-c", script, HOOKSHIM_DELIVERY=mine.delivery_id, HOOKSHIM_ATTEMPT="1") as left,
        started("sleep", "600", HOOKSHIM_DELIVERY=f"{mine.delivery_id}0") as bystander,
    ):
        try:
            pids = await written(told)
            async with asyncio.timeout(PATIENCE):
                if way == "find":
                    assert await RunHandler().find(mine) is None
                else:
                    assert (await RunHandler().deliver(mine)).succeeded
            assert survivors(pids) == []
            assert bystander.poll() is None
        finally:
            bystander.kill()
            left.kill()


@pytest.mark.parametrize("source", [CONTAINER, POD, KUBELET])
async def test_nobody_but_a_rule_runs_a_command(source: str, tmp_path: Path) -> None:
    """Whatever got a declaration past its reader."""
    made = attempt(RunAction(("touch", str(tmp_path / "run"))), source=source)
    outcome = await deliver(made)
    assert outcome.error.endswith("error: only the node's rules may run a command")
    assert outcome.permanent
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - a test's own directory


async def test_another_kind_of_action_is_a_bug() -> None:
    """It is said, not recorded as the hook's failure."""
    with pytest.raises(TypeError, match="ExecAction"):
        await RunHandler().deliver(attempt(ExecAction(("true",))))
