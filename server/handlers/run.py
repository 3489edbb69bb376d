"""``run`` hooks: a command of the node's owner, on the node, as hookshim's own user. Only rules may declare one.

It has nothing of hookshim's but its user: no open file, no environment, no working directory, no session. Whom it is
about it learns from its standard input (JSON) and from variables, which are data of whoever made the pod.

A command is not tied to hookshim's life (PR_SET_PDEATHSIG): that holds for the one process, not for its children, ends
with the thread that started it, and would have to be set between fork and exec. So one that outlives hookshim goes on,
and its exit status is lost. What is left of it is killed before the delivery is sent again: a command that is repeated
does less harm than two that run at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import suppress

import structlog

from server.handlers.identity import document, variables
from server.handlers.processes import end_all, process
from server.handlers.reach import trusted
from shim import texts
from shim.actions import RunAction
from shim.ports import Attempt
from shim.records import SIGNALLED, Outcome
from shim.strictjson import printable

log = structlog.get_logger(__name__)

#: How much of a command's output is kept, in bytes: the end of it.
OUTPUT_LIMIT = 4 * 1024
#: Seconds to wait for a killed command to be gone; one that the kernel holds longer is left.
REAP_SECONDS = 5.0
#: Where commands are looked for, and the rest of their environment.
ENVIRONMENT = {
    b"PATH": b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    b"LANG": b"C.UTF-8",
}

_QUOTED = 1024
_PIECE = 64 * 1024
# A pipe holds 64 KiB, or 1 MiB if somebody has made it larger: more was written after the command's end.
_PIECES_AFTER_END = 16


class RunHandler:
    """Carries out ``run`` actions."""

    def __init__(self) -> None:
        #: Commands that are being killed.
        self.ends: set[asyncio.Task[None]] = set()

    async def deliver(self, attempt: Attempt) -> Outcome:
        """Run the command to its own end; exit status 0 is success.

        What it has put in the background goes on, without its output being read. Cancelling it kills the command with
        all of its descendants, and returns when they are gone.
        """
        action = attempt.handler.action
        if not isinstance(action, RunAction):
            raise TypeError(f"a run handler was given {type(action).__name__}")
        if not trusted(attempt):
            # No declaration gets this far; a journal that somebody has written to must not either.
            why = "only the node's rules may run a command"
            return Outcome(error=texts.failed(action, attempt.container.ref, why), permanent=True)
        if attempt.number > 1:
            await self._clear(attempt)
        try:
            command = _Command(action.command, attempt)
        except (OSError, ValueError) as error:
            why = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else "it cannot be run"
            text = f"command '{printable(' '.join(action.command), _QUOTED)}' not started: {why}"
            return Outcome(error=texts.failed(action, attempt.container.ref, text))
        try:
            await command.ended.wait()
        except asyncio.CancelledError:
            command.kill()
            end = asyncio.create_task(self._end(command, attempt), name=f"end of run {attempt.delivery_id}")
            self.ends.add(end)
            end.add_done_callback(self.ends.discard)
            # Also if this is cancelled once more.
            await asyncio.shield(end)
            raise
        status, output = command.reap(), command.close()
        error_text = ""
        if status:
            error_text = texts.failed(action, attempt.container.ref, texts.exited_with(action.command, status))
        return Outcome(error=error_text, exit_status=status, output=output)

    async def find(self, attempt: Attempt) -> Outcome | None:
        """None, once nothing of the command is left: who its parent was is not known to the kernel any more."""
        await self._clear(attempt)
        return None

    async def _clear(self, attempt: Attempt) -> None:
        if not await asyncio.to_thread(end_all, _mark(attempt), None):
            log.warning("a command of an earlier attempt does not die", delivery=attempt.delivery_id)

    async def _end(self, command: _Command, attempt: Attempt) -> None:
        gone = await asyncio.to_thread(end_all, _mark(attempt), command.process)
        with suppress(TimeoutError):
            async with asyncio.timeout(REAP_SECONDS):
                await command.ended.wait()
        if command.ended.is_set():
            command.reap()
        if not command.ended.is_set() or not gone:
            log.warning("a command that was killed does not die", delivery=attempt.delivery_id)
        command.close()


def _mark(attempt: Attempt) -> bytes:
    return b"HOOKSHIM_DELIVERY=" + variables(attempt)[b"HOOKSHIM_DELIVERY"]


class _Command:
    """One process that runs, and the end of what it says. ``ended`` is set when it can be reaped.

    It is waited for through a pidfd and read through a pipe of its own, without asyncio's subprocesses: those end only
    when everybody who holds the pipe has closed it, which a child in the background need never do.
    """

    def __init__(self, command: tuple[str, ...], attempt: Attempt) -> None:
        self._loop = asyncio.get_running_loop()
        self._tail = b""
        # A file, so that a command that does not read it blocks nobody.
        told = os.memfd_create("hookshim-run")
        self._output, theirs = os.pipe()
        try:
            os.write(told, document(attempt))
            os.lseek(told, 0, os.SEEK_SET)
            self._child = subprocess.Popen(  # noqa: S603 - the node's owner's own words, no shell
                [word.encode() for word in command],
                stdin=told,
                stdout=theirs,
                stderr=theirs,
                cwd="/",
                env=ENVIRONMENT | variables(attempt),
                start_new_session=True,
                umask=0o022,
            )
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(told)
            os.close(theirs)
        self.process = process(self._child.pid)
        self.ended = asyncio.Event()
        self._pidfd = os.pidfd_open(self._child.pid)
        os.set_blocking(self._output, False)
        self._loop.add_reader(self._output, self._read)
        self._loop.add_reader(self._pidfd, self._exited)

    def kill(self) -> None:
        """Kill its process group now: it is not reaped, so the number is still its own."""
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def reap(self) -> int:
        """Its exit status, 128 + n after signal n. Only once it has ended."""
        status = self._child.wait()
        return status if status >= 0 else SIGNALLED - status

    def close(self) -> bytes:
        """Let go of it, and return the end of its output."""
        for _ in range(_PIECES_AFTER_END):
            if not self._read():
                break
        self._loop.remove_reader(self._output)
        self._loop.remove_reader(self._pidfd)
        os.close(self._output)
        os.close(self._pidfd)
        return self._tail

    def _read(self) -> bool:
        """Read a piece; whether there was one."""
        try:
            piece = os.read(self._output, _PIECE)
        except BlockingIOError:
            return False
        if not piece:
            self._loop.remove_reader(self._output)
        self._tail = (self._tail + piece)[-OUTPUT_LIMIT:]
        return bool(piece)

    def _exited(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self.ended.set()
