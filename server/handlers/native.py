"""``exec`` hooks that outlive this process: run by containerd's native Tasks API, and found again by the next one.

What is here is whose they are: while the handler is awaited they are its, and they end with it when it is cancelled;
after ``leave`` they are nobody's until the next daemon finds them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

import structlog

from server.native.caller import Caller
from server.native.execs import Execs
from server.native.output import Outputs
from server.native.run import Run, exec_name
from shim.ports import Attempt, Container
from shim.records import Outcome

T = TypeVar("T")

log = structlog.get_logger(__name__)

#: Seconds that a cancelled handler may take to end its hook: a stop waits for it.
CANCEL_SECONDS = 2.0

#: Seconds after which a hook that was to be killed is given up, containerd being away all the time.
_GIVEN_UP = 60.0


class NativeExec:
    """Carries out ``exec`` actions so that they can be found again. Both methods raise UnsupportedError.

    ``directory`` is for the hooks' output while they run.
    """

    def __init__(self, caller: Caller, directory: Path) -> None:
        self._execs = Execs(caller)
        self._outputs = Outputs(directory)
        self._ending: set[asyncio.Task[None]] = set()
        self._leaving = False

    def foresee(self, container: Container) -> None:
        """Look up meanwhile what a command in this container will need."""
        self._execs.foresee(container.ref.id)

    async def deliver(self, attempt: Attempt) -> Outcome:
        """Run the command to its end. Cancelling it kills the command and all that came of it."""
        process = await self._execs.process(attempt.container.ref.id)
        run = Run(self._execs, self._outputs, attempt)
        return await self._owned(run, run.begin(process))

    async def find(self, attempt: Attempt) -> Outcome | None:
        """Go on with a command that an earlier process began, None if it is to be run anew."""
        run = Run(self._execs, self._outputs, attempt)
        return await self._owned(run, run.find())

    def leave(self) -> None:
        """From now on what is cancelled goes on by itself, for the next daemon to find."""
        self._leaving = True

    def clear(self, attempts: Iterable[tuple[str, int]]) -> None:
        """Remove the output of every attempt but these (delivery, number). To be called before any is begun."""
        self._outputs.clear([exec_name(delivery_id, number) for delivery_id, number in attempts])

    async def _owned(self, run: Run, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        except asyncio.CancelledError:
            ending = asyncio.create_task(self._end(run), name="end a cancelled hook")
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            await asyncio.wait({ending}, timeout=CANCEL_SECONDS)
            if not ending.done():
                log.warning("a cancelled hook is not ended yet", seconds=CANCEL_SECONDS)
            raise

    async def _end(self, run: Run) -> None:
        try:
            async with asyncio.timeout(_GIVEN_UP):
                await (run.settle() if self._leaving else run.end())
        except TimeoutError:
            log.warning("a cancelled hook could not be ended", seconds=_GIVEN_UP)
        except Exception:  # a stop must not fail over it
            log.exception("a cancelled hook could not be ended")
