"""The handlers of one simulated daemon: each does what the script of its hook says, and watches that it may.

A process of an exec may outlive its daemon; the next one finds it again, and must not run it a second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shim.actions import ExecAction, RunAction
from shim.ports import Attempt
from shim.records import Hook, Outcome
from tests.engine.sim_containerd import SimContainer
from tests.engine.sim_ports import HandlerCall, Host, Script, Step

#: Seconds: what two sums of the same times may differ by, and more.
_TURN = 0.01

_SIGKILL = 137


class SimHandler:
    """shim.ports.Handler for all kinds."""

    def __init__(self, host: Host, step: Step, alive: Callable[[], bool]) -> None:
        self._host, self._step, self._alive = host, step, alive

    async def deliver(self, attempt: Attempt) -> Outcome:
        """Do what the script says; an exec ends with its container."""
        await self._step()
        container, script = self._container(attempt), self._script(attempt)
        self._watch(attempt, container)
        at = self._host.trace(f"{container.ref.id} {attempt.hook} handler, attempt {attempt.number}")
        tries = sum(1 for call in self._host.calls if call.delivery_id == attempt.delivery_id)
        self._host.calls.append(
            HandlerCall(
                at,
                attempt.delivery_id,
                attempt.number,
                attempt.hook,
                container.ref.id,
                container.started,
                self._host.loop.time(),
            )
        )
        if script.survives:
            work = self._host.spawn(self._work(container, script))
            self._host.processes[attempt.delivery_id, attempt.number] = work
            await self._wait(attempt, work)
        elif script.what in ("hang", "exit") or script.takes > 0:
            await self._work(container, script)
        return await self._outcome(attempt, container, script, failed=tries < script.fails)

    async def find(self, attempt: Attempt) -> Outcome | None:
        """Go on with a process that is still there, or that has ended with its container's task still there."""
        await self._step()
        container, script = self._container(attempt), self._script(attempt)
        work = self._host.processes.get((attempt.delivery_id, attempt.number))
        if work is None or work.cancelling() or work.cancelled() or container.dying.is_set():
            self._host.count("find", "lost")
            self._host.known.add((attempt.delivery_id, attempt.number))
            return None
        self._host.count("find", "ended" if work.done() else "running")
        self._host.trace(f"{container.ref.id} {attempt.hook} handler, attempt {attempt.number}: found")
        tries = sum(1 for call in self._host.calls if call.delivery_id == attempt.delivery_id)
        await self._wait(attempt, work)
        return await self._outcome(attempt, container, script, failed=tries <= script.fails)

    async def _wait(self, attempt: Attempt, work: asyncio.Task[bool]) -> None:
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            if self._alive():
                self._host.known.add((attempt.delivery_id, attempt.number))
                work.cancel()
            raise

    async def _outcome(self, attempt: Attempt, container: SimContainer, script: Script, *, failed: bool) -> Outcome:
        await self._step()
        self._host.known.add((attempt.delivery_id, attempt.number))
        what = "fail" if failed else script.what
        self._host.detail(f"{container.ref.id} {attempt.hook} handler, attempt {attempt.number}: {what}")
        if container.dying.is_set() and isinstance(attempt.handler.action, ExecAction):
            return Outcome(f"exited with {_SIGKILL}", exit_status=_SIGKILL)
        if what == "raise":
            raise ZeroDivisionError("a bug in the handler")
        if what != "succeed":
            return Outcome("exited with 1", exit_status=1)
        self._host.successes[attempt.delivery_id] += 1
        return Outcome()

    async def _work(self, container: SimContainer, script: Script) -> bool:
        dying = container.dying if script.kind == "exec" else asyncio.Event()
        try:
            async with asyncio.timeout(None if script.what == "hang" else script.takes):
                await dying.wait()
        except TimeoutError:
            if script.what == "exit":
                self._host.containerd.exit(container)
        return not dying.is_set()

    def _watch(self, attempt: Attempt, container: SimContainer) -> None:
        """What may never be begun; a disk that has lost a record is no witness."""
        if self._host.disk_was_bad:
            return
        told = f"{attempt.delivery_id} of {container.ref.id}, attempt {attempt.number}"
        before = (attempt.delivery_id, attempt.number - 1)
        if before in self._host.processes and before not in self._host.known and not container.dying.is_set():
            self._host.errors.append(f"{told}: the process of the attempt before it is there, and it is sent again")
        if attempt.hook is Hook.POST_STOP:
            if container.state.stoppable:
                self._host.errors.append(f"{told}: postStop before the container's end")
            return
        deliveries = self._host.store.deliveries_of(container.ref.id)
        mine = next((one for one in deliveries if one.id == attempt.delivery_id), None)
        for one in deliveries:
            if (
                mine is not None
                and one.operation_id == mine.operation_id
                and one.position < mine.position
                and one.state.open
            ):
                self._host.errors.append(f"{told}: begun before the hook in front of it has an outcome")
        bound = attempt.handler.timeout
        if bound is not None and (attempt.budget is None or attempt.budget > bound + _TURN):
            self._host.errors.append(f"{told}: has more time than it has declared")

    def _container(self, attempt: Attempt) -> SimContainer:
        # One that is gone by now counts too.
        return next(each for each in self._host.all if each.ref.id == attempt.container.ref.id)

    def _script(self, attempt: Attempt) -> Script:
        action = attempt.handler.action
        name = action.command[0].removeprefix("/") if isinstance(action, ExecAction | RunAction) else ""
        if name in self._host.rules.scripts:
            return self._host.rules.scripts[name][1]
        return self._host.scripts[attempt.container.ref.id, attempt.hook]
