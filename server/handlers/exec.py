"""``exec`` hooks, run by the runtime's ExecSync: in the container, and found by nobody after this process has died.

The runtime kills the command when its caller goes away, so an attempt that is cancelled or interrupted leaves nothing
running but what the command itself has put in the background.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from shim import texts
from shim.errors import RuntimeCallError
from shim.lifecycle import ExecAction, printable
from shim.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.ports import Attempt

#: How much of a handler's output is kept, in bytes: the end of it.
OUTPUT_LIMIT = 4 * 1024
#: How much of a command or of the runtime's own words an error quotes, in characters.
_QUOTED = 1024


class ExecResult(Protocol):
    """What a command that ran came to. CRI's own ExecSyncResponse is one."""

    @property
    def stdout(self) -> bytes:
        """All it wrote there (the runtime keeps at most 16 MiB)."""
        ...

    @property
    def stderr(self) -> bytes:
        """All it wrote there."""
        ...

    @property
    def exit_code(self) -> int:
        """Its exit status; 128 + n when signal n ended it."""
        ...


class ExecCaller(Protocol):
    """Whoever can make the runtime run a command."""

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: int) -> ExecResult:
        """Run a command in a container to its end, or for ``timeout`` seconds (0: no bound).

        Raises RuntimeCallError. Cancelling it cancels the call.
        """
        ...


class ExecHandler:
    """Carries out ``exec`` actions (kubelet ``lifecycle/handlers.go``, without its output in the error)."""

    def __init__(self, runtime: ExecCaller) -> None:
        self._runtime = runtime

    async def deliver(self, attempt: Attempt) -> Outcome:
        """Run the command once; exit status 0 is success.

        The engine's own bound comes first: the runtime's, in whole seconds rounded up, is there for the case that
        this process is not.
        """
        action, container = attempt.action, attempt.container.ref
        if not isinstance(action, ExecAction):
            raise TypeError(f"an exec handler was given {type(action).__name__}")
        timeout = 0 if attempt.budget is None else max(1, math.ceil(attempt.budget))
        try:
            result = await self._runtime.exec_sync(container.id, action.command, timeout)
        except RuntimeCallError as error:
            timed_out = error.code == "DEADLINE_EXCEEDED" and timeout
            why = texts.timed_out(timeout) if timed_out else printable(error.message, _QUOTED)
            return Outcome(error=texts.failed(action, container, why))
        output = (result.stdout + result.stderr)[-OUTPUT_LIMIT:]
        if result.exit_code == 0:
            return Outcome(exit_status=0, output=output)
        command = printable(" ".join(action.command), _QUOTED)
        why = f"command '{command}' exited with {result.exit_code}"
        error_text = texts.failed(action, container, why)
        return Outcome(error=error_text, exit_status=result.exit_code, output=output)
