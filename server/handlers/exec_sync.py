"""``exec`` hooks, run by the runtime's ExecSync, for a runtime without more: nobody finds them after this process.

When its caller goes away, containerd kills the command, but not what the command has put in the background, and not
always: its kill and its own call are cancelled together, and of commands that had just begun about one in twenty went
on (1.6, 1.7 and 2.1). When containerd itself goes away, the command runs on and its exit status is lost. Either way it
ends with its container.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential

from server.native import outcome
from shim import texts
from shim.errors import RuntimeCallError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.ports import Attempt
    from shim.records import Outcome

log = structlog.get_logger(__name__)

#: Seconds between two tries while the runtime is away, at most.
_PAUSE = 1.0


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


class SyncExec:
    """Carries out ``exec`` actions (kubelet ``lifecycle/handlers.go``, without its output in the error)."""

    def __init__(self, runtime: ExecCaller) -> None:
        self._runtime = runtime

    async def deliver(self, attempt: Attempt) -> Outcome:
        """Run the command once; exit status 0 is success.

        Only the runtime's word is an outcome: while it does not answer, as over its restart, the command is sent
        again, which may run it twice but never not at all. The engine's bounds end that.

        They also come before the runtime's own, which is in whole seconds, rounded up, and does not hold for a
        command whose children keep its output open (containerd then waits for them).
        """
        command, container = outcome.command(attempt), attempt.container.ref
        timeout = 0 if attempt.budget is None else max(1, math.ceil(attempt.budget))
        try:
            result = await self._answer(container.id, command, timeout, attempt.delivery_id)
        except RuntimeCallError as error:
            timed_out = error.code == "DEADLINE_EXCEEDED" and timeout
            return outcome.refused(attempt, texts.timed_out(timeout) if timed_out else error.message)
        return outcome.exited(attempt, result.exit_code, result.stdout + result.stderr)

    async def _answer(self, container_id: str, command: Sequence[str], timeout: int, delivery_id: str) -> ExecResult:
        async for trial in AsyncRetrying(
            retry=retry_if_exception(_unanswered),
            wait=wait_exponential(0.1, max=_PAUSE),
            before_sleep=partial(_report, delivery_id, container_id),
        ):
            with trial:
                return await self._runtime.exec_sync(container_id, command, timeout)
        raise AssertionError("tenacity retries without end")


def _unanswered(error: BaseException) -> bool:
    return isinstance(error, RuntimeCallError) and error.code in ("UNAVAILABLE", "CANCELLED")


def _report(delivery_id: str, container_id: str, state: RetryCallState) -> None:
    log.warning(
        "the runtime did not answer an exec hook, which is sent again",
        delivery=delivery_id,
        container=container_id,
        reason=str(state.outcome.exception()) if state.outcome else "",
    )
