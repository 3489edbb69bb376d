"""A container for exec hooks, and a process of its own that runs or finds one and can be killed at each of its steps.

``python -m tests.integration.native_exec_bed JSON`` is that process. What it commits goes to a file at once, as the
engine's commits do, so that the next one knows what a journal would know.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.backend import Backend
from server.handlers.native import NativeExec
from server.native.caller import Caller
from server.native.execs import ExecRef, Execs, Seen
from server.native.output import Output, Outputs
from shim.actions import ExecAction, LifecycleHandler
from shim.ports import Attempt, Container, Pod
from shim.records import ContainerRef, ContainerState, Execution, Hook, Outcome, Stage
from tests.support.containerd import PrivateContainerd
from tests.support.image import FOREVER
from tests.support.waiting import PATIENCE, until

SHARED = "/shared"
MAIN = ["/bin/sh", "-c", f"trap 'exit 0' TERM; sleep {FOREVER} & wait"]

#: Every place where a delivery can be torn: the steps of the protocol, before and after, until its command may run, and
#: from then on. Its end is waited for before it is started.
STILL = ["before.create", "after.create", "before.exec", "after.exec", "before.starting", "after.starting"]
STILL += ["before.wait", "before.start"]
RUNS = ["after.start", "before.running", "after.running", "after.wait", "before.exited", "after.exited"]
RUNS += ["before.delete", "after.delete", "before.remove", "after.remove"]
STEPS = STILL + RUNS

At = Callable[[str], Awaitable[None]]


class Stepped(Execs):
    """The real calls, with something done before and after each."""

    def __init__(self, caller: Caller, at: At) -> None:
        super().__init__(caller)
        self._at = at

    async def exec(self, *arguments: Any) -> None:
        """Exec."""
        await self._at("before.exec")
        await super().exec(*arguments)
        await self._at("after.exec")

    async def start(self, ref: ExecRef) -> int:
        """Start; ``during`` is when it has been sent."""
        await self._at("before.start")
        call = asyncio.create_task(super().start(ref))
        await self._at("during.start")
        pid = await call
        await self._at("after.start")
        return pid

    async def wait(self, ref: ExecRef) -> int:
        """Wait."""
        await self._at("before.wait")
        call = asyncio.create_task(super().wait(ref))
        await self._at("during.wait")
        status = await call
        await self._at("after.wait")
        return status

    async def delete(self, *arguments: Any) -> None:
        """DeleteProcess."""
        await self._at("before.delete")
        await super().delete(*arguments)
        await self._at("after.delete")


class SteppedOutputs(Outputs):
    """The real files, with something done before and after they are made."""

    def __init__(self, directory: Path, at: At) -> None:
        super().__init__(directory)
        self._at = at

    async def create(self, name: str) -> Output:
        """Make them."""
        await self._at("before.create")
        output = await super().create(name)
        await self._at("after.create")
        return output


@dataclass
class Bed:
    """A running container with a directory shared with the test, and where hooks' outputs and commits are."""

    containerd: PrivateContainerd
    pod: str
    container: str
    shared: Path
    directory: Path

    @classmethod
    def make(cls, containerd: PrivateContainerd, pod_name: str, directory: Path, **options: Any) -> Bed:
        """Run the container."""
        shared = directory / "shared"
        shared.mkdir(mode=0o777)
        shared.chmod(0o777)
        pod = containerd.cri.run_pod(pod_name, namespace="ns", uid="uid")
        container = containerd.cri.create(pod, "main", MAIN, mounts={shared: SHARED}, **options)
        containerd.cri.start(container)
        return cls(containerd, pod, container, shared, directory)

    @property
    def outputs(self) -> Path:
        """Where hooks write."""
        return self.directory / "exec"

    @property
    def log(self) -> list[str]:
        """The lines that hooks have written to the shared file."""
        path = self.shared / "log"
        return path.read_text().splitlines() if path.exists() else []

    def pid(self) -> int:
        """The container's own process on the node."""
        rows = [line.split() for line in self.containerd.ctr("task", "ls").splitlines()]
        return next(int(row[1]) for row in rows if row[0] == self.container)

    def attempt(self, *command: str, delivery: str = "d1", number: int = 1, **more: Any) -> Attempt:
        """One attempt of a PostStart with this command."""
        pod = Pod(self.pod, "pod", "ns", "uid", {}, (), host_network=False)
        ref = ContainerRef(self.container, self.pod, "main", "pod", "ns", "uid")
        container = Container(ref, ContainerState.RUNNING, {}, pod)
        handler = LifecycleHandler(ExecAction(command))
        return Attempt(delivery, number, Hook.POST_START, handler, container, None, **more)

    @asynccontextmanager
    async def handler(self) -> AsyncIterator[NativeExec]:
        """The handler on a connection of its own, inside the running loop."""
        backend = Backend(self.containerd.socket)
        try:
            async with asyncio.timeout(3 * PATIENCE):
                yield NativeExec(Caller(backend), self.outputs)
        finally:
            await backend.close()

    async def deliver(self, *command: str, **more: Any) -> Outcome:
        """Deliver it, but do not hang."""
        async with self.handler() as handler:
            return await handler.deliver(self.attempt(*command, **more))

    @asynccontextmanager
    async def begun(self, *command: str, **more: Any) -> AsyncIterator[asyncio.Task[Outcome]]:
        """A delivery that runs: its command has written a line. Yields the task."""
        lines = len(self.log)
        async with self.handler() as handler:
            task = asyncio.create_task(handler.deliver(self.attempt(*command, **more)))
            try:
                await asyncio.to_thread(until, lambda: task.done() or len(self.log) > lines, "the hook has begun")
                yield task
            finally:
                task.cancel()
                await asyncio.wait({task})

    def committed(self) -> Execution | None:
        """What a journal would know of the attempt."""
        path = self.directory / "commits"
        lines = path.read_text().splitlines() if path.exists() else []
        return Execution(**{**json.loads(lines[-1]), "stage": Stage(json.loads(lines[-1])["stage"])}) if lines else None

    def elsewhere(self, what: str, *command: str, number: int = 1, die: str = "") -> subprocess.Popen[str]:
        """``deliver`` or ``find`` in a process of its own, which kills itself at the step ``die``."""
        given = {
            "what": what,
            "command": command,
            "number": number,
            "die": die,
            "socket": str(self.containerd.socket),
            "directory": str(self.directory),
            "container": self.container,
            "pod": self.pod,
        }
        words = [sys.executable, "-m", "tests.integration.native_exec_bed", json.dumps(given)]
        root = Path(__file__).parents[2]
        return subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def result(self, process: subprocess.Popen[str]) -> dict[str, Any] | None:
        """What it came to: an Outcome's fields, None for an attempt that was not found. Raises if it was killed."""
        with ended(process):
            said, _ = process.communicate(timeout=3 * PATIENCE)
        assert process.returncode == 0, f"it ended with {process.returncode}"
        answer: dict[str, Any] | None = json.loads(said)
        return answer

    def execs(self) -> list[str]:
        """The ids of the container's execs that containerd still knows."""
        state = self.containerd.directory / "state" / "io.containerd.runtime.v2.task/k8s.io" / self.container
        return sorted(path.stem for path in state.glob("hookshim-*.pid"))


def running(container: str, word: str) -> list[int]:
    """The container's processes with this word in their command line, by their pids on the node."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            inside = container in (process / "cgroup").read_text()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        if inside and word.encode() in words:
            found.append(int(process.name))
    return found


async def exec_of(bed: Bed, exec_id: str = "hookshim-d1-1") -> Seen | None:
    """The exec as containerd shows it, None if it knows none."""
    backend = Backend(bed.containerd.socket)
    try:
        return await Execs(Caller(backend)).look(ExecRef(bed.container, exec_id))
    finally:
        await backend.close()


async def cancelled(task: asyncio.Task[Any]) -> float:
    """Cancel it, and the seconds that took."""
    began = time.monotonic()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        outcome = await task
        raise AssertionError(f"it was not cancelled but came to {outcome}")
    return time.monotonic() - began


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Whatever happens, it is gone afterwards."""
    try:
        yield
    finally:
        process.kill()
        process.wait(PATIENCE)
        if process.stdout:
            process.stdout.close()


async def _main(given: dict[str, Any]) -> None:
    bed = Bed.__new__(Bed)
    bed.container, bed.pod, bed.directory = given["container"], given["pod"], Path(given["directory"])
    when, _, delay = given["die"].partition("+")

    async def at(step: str) -> None:
        if step == when:
            # The time after a Start was sent is what is tried here, not a way to wait for something.
            await asyncio.sleep(float(delay or 0))
            os.kill(os.getpid(), signal.SIGKILL)

    async def record(execution: Execution) -> None:
        await at(f"before.{execution.stage}")
        with (bed.directory / "commits").open("a") as file:
            file.write(json.dumps(dataclasses.asdict(execution)) + "\n")
        await at(f"after.{execution.stage}")

    def tail(self: Output) -> bytes:
        if when == "before.remove":
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self)

    plain, Output.tail = Output.tail, tail  # type: ignore[method-assign] # only in this process
    backend = Backend(Path(given["socket"]))
    handler = NativeExec(Caller(backend), bed.outputs)
    handler._execs, handler._outputs = Stepped(Caller(backend), at), SteppedOutputs(bed.outputs, at)
    attempt = bed.attempt(*given["command"], number=given["number"], record=record, execution=bed.committed())
    if given["what"] == "deliver":
        attempt = dataclasses.replace(attempt, execution=None)
    outcome = await (handler.deliver(attempt) if given["what"] == "deliver" else handler.find(attempt))
    await at("after.remove")
    answer = outcome and {**dataclasses.asdict(outcome), "output": outcome.output.decode(errors="replace")}
    print(json.dumps(answer))  # noqa: T201 - it is this program's answer
    await backend.close()


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1])))
