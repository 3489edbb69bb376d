"""One attempt of an exec hook by the native Tasks API, step by step: the protocol that lets it be found again.

intent (the engine's) → files → Exec, ``starting`` → Wait, Start, once → ``running``, unless it has ended by then →
``exited`` → DeleteProcess → output → outcome (the engine's). Whatever dies between two of these, what the next process
finds says how to go on:

=============  ==========================================================================================
CREATED        DeleteProcess is the fence: after it no late Start has an effect, and the hook is sent anew. If a
               Start was lost with containerd, its command may run all the same: that is ended first
runs, has run  go on at Wait
not found      sent anew while the container's own process runs; with the status committed, that is the outcome
=============  ==========================================================================================

containerd may be away at each step, and is waited for; the engine's bounds end that. An exec is never started twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any

import structlog

from server.native import outcome, processes, strays
from server.native.execs import ExecRef, Execs, Seen, pause
from server.native.output import Output, Outputs
from shim.errors import RuntimeCallError
from shim.ports import Attempt
from shim.records import Execution, Outcome, Stage

log = structlog.get_logger(__name__)

#: How often one attempt is made anew when containerd was lost in the middle of its Start. Each has an id of its own.
_TRIES = 4

#: Seconds for the runtime to close what an exec that has ended wrote into. It gives children that keep it open 2 s.
_CLOSING = 3.0

#: Seconds in which a command that does next to nothing has ended when its Start is answered.
_QUICK = 0.01

#: Seconds for a hook that was killed to have ended.
_KILLED = 1.0

#: Seconds that the status of an exec is worth when containerd does not answer: it is known already.
_TIDYING = 2.0


class _RefusedError(Exception):
    """It did not run, or its end is lost with its container; the message says why."""


class _AgainError(Exception):
    """It surely does not run and never will: it is to be made anew."""


def exec_name(delivery_id: str, attempt: int) -> str:
    """An attempt's exec id and the name of its files: at most 76 of ``[A-Za-z0-9._-]`` (containerd ``identifiers``)."""
    return f"hookshim-{delivery_id}-{attempt}"


class Run:
    """One attempt. ``begin`` it or ``find`` it, once; ``end`` it when that was cancelled."""

    def __init__(self, execs: Execs, outputs: Outputs, attempt: Attempt) -> None:
        self._execs = execs
        self._outputs = outputs
        self._attempt = attempt
        self._container_id = attempt.container.ref.id
        self._name = exec_name(attempt.delivery_id, attempt.number)
        self._committed = attempt.execution
        self._starting: asyncio.Task[int] | None = None
        self._ended: asyncio.Task[int] | None = None
        self._recording: asyncio.Future[None] | None = None
        #: Whether a Start may have been sent whose answer nobody has: its command may run though containerd denies it.
        self._unanswered = self._committed is not None and self._committed.stage is Stage.STARTING
        self._use(0)

    async def begin(self, process: dict[str, Any]) -> Outcome:
        """Run it. ``process`` is what the container's own process is run with."""
        process = _with_command(process, self._attempt)
        self._committed, self._unanswered = None, False
        for turn in range(_TRIES):
            self._use(turn)
            try:
                pid = await self._make(process) or await self._start()
            except _AgainError:
                await asyncio.to_thread(self._output.remove)
                continue
            except _RefusedError as error:
                await asyncio.to_thread(self._output.remove)
                return outcome.refused(self._attempt, str(error))
            return await self._follow(pid)
        return outcome.refused(self._attempt, f"containerd was lost {_TRIES} times while it was started")

    async def find(self) -> Outcome | None:
        """Go on with what an earlier process began, None if it is to be sent anew. Raises UnsupportedError."""
        if self._committed and self._committed.exit_status is not None:
            return await self._finish(self._committed.exit_status)
        await self._execs.process(self._container_id)
        for turn in itertools.count():
            seen = await self._locate()
            if seen is None and self._seems_forgotten():
                await pause(turn)
                continue
            if seen is None and not await self._execs.alive(self._container_id):
                await asyncio.to_thread(self._output.remove)
                return outcome.refused(self._attempt, "the container has ended, and with it what is known of the hook")
            if seen and seen.started:
                return await self._follow(seen.pid)
            if await self._fence(seen):
                await asyncio.to_thread(self._output.remove)
                return None
            await pause(turn)
        raise AssertionError("counted to the end")

    async def end(self) -> None:
        """Kill what runs of it, with everything that came of it, and clear up. Logs what is left."""
        await self.settle()
        for turn in itertools.count():
            seen = await self._locate()
            begun = seen.started if seen else self._seems_forgotten()
            if not begun and await self._fence(seen):
                break
            if seen and seen.running and not await self._kill(seen.pid):
                return
            if seen and seen.started:
                with contextlib.suppress(TimeoutError):
                    # What was not killed yet is looked at again.
                    async with asyncio.timeout(_KILLED):
                        await self._wait()
                        break
            await pause(turn)
        await self._delete()
        await asyncio.to_thread(self._output.remove)

    async def settle(self) -> None:
        """Wait for the answer of a Start that was sent: to leave it would leave open whether it runs."""
        self._let_go()
        if self._starting:
            await asyncio.wait({self._starting})

    def _seems_forgotten(self) -> bool:
        """Whether the process runs that was committed, whatever containerd says: then it is asked again."""
        known = self._committed
        if known is None or known.pid is None or known.pid_started is None:
            return False
        if running := processes.runs(known.pid, known.pid_started):
            log.warning("containerd does not know a hook that runs", exec=self._ref.id, pid=known.pid)
        return running

    def _let_go(self) -> None:
        """Wait no longer for the end of what may never begin."""
        if self._ended:
            self._ended.cancel()
            self._ended = None

    def _use(self, turn: int) -> None:
        self._let_go()
        self._ref = ExecRef(self._container_id, f"{self._name}.{turn}" if turn else self._name)
        self._output: Output = self._outputs.known(self._ref.id)
        self._starting = None

    async def _locate(self) -> Seen | None:
        """Which of its tries is there: at most one is, since each is deleted before the next."""
        for turn in range(_TRIES):
            self._use(turn)
            if seen := await self._execs.look(self._ref):
                return seen
        self._use(0)
        return None

    async def _make(self, process: dict[str, Any]) -> int:
        """Files, Exec and ``starting``. Returns 0, or the pid of one that runs already: a journal may have lost it."""
        self._output = await self._outputs.create(self._ref.id)
        # Before the Start is soon enough for the record, and what is made until then runs nothing.
        self._recording = asyncio.ensure_future(self._recorded())
        pid = await self._exec(process)
        await self._recording
        return pid

    async def _recorded(self) -> None:
        """It is on disk that it may run from now on: with its beginning, where the engine has been told."""
        if self._attempt.execution is None:
            await self._attempt.record(Execution(Stage.STARTING))
        else:
            await self._attempt.sent()

    async def _exec(self, process: dict[str, Any]) -> int:
        sent = False
        for turn in itertools.count():
            try:
                await self._execs.exec(self._ref, process, self._output.paths)
            except RuntimeCallError as error:
                if not error.ambiguous and error.code != "ALREADY_EXISTS":
                    raise _RefusedError(f"failed to exec in container: {error.message}") from error
                sent = sent or error.ambiguous
            else:
                return 0
            seen = await self._execs.look(self._ref)
            if seen and seen.started:
                return seen.pid
            if seen and sent:
                return 0
            if seen:
                await self._fence(seen)
            elif not await self._execs.alive(self._container_id):
                raise _RefusedError("failed to exec in container: the container has ended")
            await pause(turn)
        raise AssertionError("counted to the end")

    async def _start(self) -> int:
        """Start, and the pid. Shielded, since a Start that is cancelled may have run all the same."""
        # Asked for before the Start, its end is known as soon as it is there (containerd's own client does so, too).
        self._ended = asyncio.create_task(self._execs.wait(self._ref), name=f"end of {self._ref.id}")
        self._ended.add_done_callback(_retrieve)
        self._unanswered = True
        self._starting = asyncio.create_task(self._execs.start(self._ref), name=f"start {self._ref.id}")
        self._starting.add_done_callback(_retrieve)
        failure: RuntimeCallError | None = None
        try:
            if pid := await asyncio.shield(self._starting):
                return pid
        except RuntimeCallError as error:
            failure = error
        for turn in itertools.count():
            seen = await self._execs.look(self._ref)
            if seen and seen.started:
                return seen.pid
            if await self._fence(seen):
                break
            await pause(turn)
        self._let_go()
        if failure is None or failure.ambiguous:
            raise _AgainError
        raise _RefusedError(f"failed to exec in container: {failure.message}") from failure

    async def _fence(self, seen: Seen | None) -> bool:
        """Make sure that it neither runs nor is started from now on; False if it may, or containerd does not answer."""
        if seen:
            try:
                await self._execs.delete(self._ref)
            except RuntimeCallError as error:
                if error.code != "NOT_FOUND":
                    return False
        if self._unanswered:
            await self._end_stray()
        return True

    async def _end_stray(self) -> None:
        """End what runs of it though containerd says that it was never started, and now never will be."""
        init = await self._execs.look(ExecRef(self._container_id, ""))
        if init and init.running:
            found = await asyncio.to_thread(strays.end, init.pid, _identity(self._attempt))
            if found.killed:
                log.warning("killed a hook whose start was lost with containerd", exec=self._ref.id, pids=found.killed)
            if found.unclear:
                log.warning("a hook may run on: look at these processes", exec=self._ref.id, pids=found.unclear)
        self._unanswered = False

    async def _follow(self, pid: int) -> Outcome:
        """From the pid to the outcome."""
        self._unanswered = False
        async with self._output.bounded():
            waiting = asyncio.create_task(self._wait(), name=f"wait {self._ref.id}")
            try:
                await self._running(pid, waiting)
                status = await waiting
            finally:
                waiting.cancel()
                await asyncio.wait({waiting})
        if status is None:
            await asyncio.to_thread(self._output.remove)
            return outcome.refused(self._attempt, "the container has ended, and with it what is known of the hook")
        started = self._committed.pid_started if self._committed else None
        await self._attempt.record(Execution(Stage.EXITED, pid, started, status))
        return await self._finish(status)

    async def _running(self, pid: int, waiting: asyncio.Task[int | None]) -> None:
        """Record the pid, unless that of what has ended already is about to be recorded with its end."""
        known = self._committed
        if known is None or (known.stage, known.pid) != (Stage.RUNNING, pid):
            self._committed = Execution(Stage.RUNNING, pid, processes.started(pid))
            await asyncio.wait({waiting}, timeout=_QUICK)
            if not waiting.done():
                await self._attempt.record(self._committed)

    async def _wait(self) -> int | None:
        """Its exit status; None if containerd has forgotten it."""
        for turn in itertools.count():
            ended, self._ended = self._ended, None
            try:
                return await (ended or self._execs.wait(self._ref))
            except RuntimeCallError:
                if await self._execs.look(self._ref) is None and not self._seems_forgotten():
                    return None
            await pause(turn)
        raise AssertionError("counted to the end")

    async def _finish(self, status: int) -> Outcome:
        """It has ended: what it said, and nothing left of it."""
        try:
            async with asyncio.timeout(_TIDYING + _CLOSING):
                # Only an earlier process's can have another name than the first.
                if self._starting is None:
                    await self._locate()
                await self._delete()
        except TimeoutError:
            log.info("an exec that has ended is left to its container's end", exec=self._ref.id)
        output = await asyncio.to_thread(self._output.take)
        return outcome.exited(self._attempt, status, output)

    async def _delete(self) -> None:
        """Have containerd forget it: what it has written is in its files then."""
        try:
            await self._execs.delete(self._ref, _CLOSING)
        except RuntimeCallError as error:
            if error.code != "NOT_FOUND":
                log.info("an exec that has ended is left to its container's end", exec=self._ref.id, error=str(error))

    async def _kill(self, pid: int) -> bool:
        """Kill it if it surely is what was started. False if it is not: nothing was signalled."""
        init = await self._execs.look(ExecRef(self._container_id, ""))
        if init is None:
            return True
        if self._committed and self._committed.pid == pid:
            started = self._committed.pid_started
        else:
            started = processes.started(pid)
        try:
            with processes.Held(pid, started, init.pid) as held:
                # It is held now: if the runtime still shows it, this is it.
                again = await self._execs.look(self._ref)
                if again is None or not again.running or again.pid != pid:
                    return True
                killed = await asyncio.to_thread(held.kill)
        except processes.GoneError:
            # The runtime is about to know it, too.
            return True
        except processes.NotOursError as error:
            log.warning("a hook that is cancelled was not killed", exec=self._ref.id, reason=str(error))
            return False
        log.info("killed a hook", exec=self._ref.id, pids=killed)
        return True


def _identity(attempt: Attempt) -> dict[str, str]:
    """What its command is given to say whose it is: no other's has both."""
    return {"HOOKSHIM_DELIVERY": attempt.delivery_id, "HOOKSHIM_ATTEMPT": str(attempt.number)}


def _with_command(process: dict[str, Any], attempt: Attempt) -> dict[str, Any]:
    """The container's process with the hook's words, as CRI's own exec has it, and who the receiver is to say it is."""
    identity = _identity(attempt)
    env = [entry for entry in process.get("env") or () if entry.partition("=")[0] not in identity]
    return {
        **process,
        "args": list(outcome.command(attempt)),
        "env": [*env, *(f"{name}={value}" for name, value in identity.items())],
        "terminal": False,
    }


def _retrieve(task: asyncio.Task[int]) -> None:
    """Its failure is looked at by whoever still waits; after a cancel nobody does."""
    if not task.cancelled():
        task.exception()
