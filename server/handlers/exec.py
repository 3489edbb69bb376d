"""``exec`` hooks: by containerd's native API where it is there, so that they outlive us, else by CRI's ExecSync."""

from __future__ import annotations

import structlog

from server.handlers.exec_sync import ExecCaller, SyncExec
from server.handlers.native import NativeExec
from server.native.execs import UnsupportedError
from shim.ports import Attempt, Container
from shim.records import Execution, Outcome, Stage

log = structlog.get_logger(__name__)


class ExecHandler:
    """Carries out ``exec`` actions (kubelet ``lifecycle/handlers.go``, without its output in the error).

    ``native`` None: always by ExecSync.
    """

    def __init__(self, runtime: ExecCaller, native: NativeExec | None = None) -> None:
        self._sync = SyncExec(runtime)
        self._native = native

    @property
    def begins(self) -> Execution | None:
        """With the native API, a command may run from the moment that its attempt is on disk."""
        return Execution(Stage.STARTING) if self._native else None

    def foresee(self, container: Container) -> None:
        """Look up meanwhile what a command in this container will need."""
        if self._native:
            self._native.foresee(container)

    async def deliver(self, attempt: Attempt) -> Outcome:
        """Run the command once; exit status 0 is success. Cancelling it ends the command."""
        if self._native:
            try:
                return await self._native.deliver(attempt)
            except UnsupportedError as reason:
                container = attempt.container.ref.id
                log.info("an exec hook is run by ExecSync", container=container, reason=str(reason))
        await attempt.sent()
        return await self._sync.deliver(attempt)

    async def find(self, attempt: Attempt) -> Outcome | None:
        """Go on with a command that an earlier process began; None if it cannot be found, as after an ExecSync."""
        if self._native:
            try:
                return await self._native.find(attempt)
            except UnsupportedError:
                pass
        return None
