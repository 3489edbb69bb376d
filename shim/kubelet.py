"""The kubelet's own exec preStop, which it runs by an ExecSync before it stops a container, and forgets now and then.

hookshim makes that call for it and writes down that it was made, so that a stop that comes without it can run the
hook first. A kubelet's postStart and its ``/run`` look the same, so a run counts for a stop that follows within the
grace alone. (kubelet ``lifecycle/handlers.go``, ``kuberuntime_container.go``: executePreStopHook.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog

from shim import plan
from shim.actions import ExecAction
from shim.changes import InsertOperation
from shim.drafts import Drafts
from shim.errors import JournalUnavailableError, RuntimeCallError
from shim.ledger import PATIENCE, Ledger
from shim.moves import moved
from shim.plan import Settings
from shim.ports import Container
from shim.records import Operation, OperationKind, OperationState, Reason
from shim.table import OperationEvent
from shim.tools import Tools

log = structlog.get_logger(__name__)


#: Makes the caller's call to the runtime, and raises RuntimeCallError.
Forward = Callable[[], Awaitable[bytes]]

#: Seconds by which a stop may be later than the grace after its hook began. A kubelet stops waiting for a hook that
#: hangs exactly then, by a timer that it has set before its ExecSync came here (kubelet ``executePreStopHook``).
LATE = 2.0


@dataclass(slots=True)
class Flight:
    """An ExecSync of the kubelet's whose answer is not in the journal yet; ``ended``: there is one."""

    operation: Operation
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class KubeletExecs:
    """The kubelet's ExecSyncs of its preStop hooks, of all containers."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._flights: dict[str, list[Flight]] = {}

    async def run(self, container: Container, call: Forward) -> bytes:
        """Make ``call``, written down before and after. Its answer; raises RuntimeCallError.

        A journal that cannot be written is no reason not to run a hook.
        """
        clock = self._tools.clock
        until = clock.boottime() + plan.grace(container, self._tools.settings)
        operation = Drafts(self._tools).operation(container, OperationKind.EXEC, Reason.EXEC_SYNC, 0, until)
        ledger, flight = Ledger(self._tools), Flight(operation)
        self._flights.setdefault(container.ref.id, []).append(flight)
        await ledger.note(InsertOperation(operation))
        error = "hookshim ended before the answer"
        try:
            response = await call()
            error = ""
        except RuntimeCallError as failure:
            error = str(failure)
            raise
        finally:
            flight.operation, change = moved(clock.wall(), operation, OperationEvent.END, error)
            ledger.owe(change)
            flight.ended.set()
            self._tools.tasks.spawn(self._land(container.ref.id, ledger, flight), f"ExecSync {container.ref.id}")
        return response

    async def _land(self, container_id: str, ledger: Ledger, flight: Flight) -> None:
        """Forget a run when the journal knows of its answer: a stop may come sooner than the disk is done."""
        try:
            await ledger.settle()
        finally:
            self._flights[container_id].remove(flight)
            if not self._flights[container_id]:
                del self._flights[container_id]

    def in_flight(self, container_id: str) -> Sequence[Flight]:
        """Those whose answer is not recorded yet, and would count for a stop that comes now."""
        return tuple(flight for flight in self._flights.get(container_id, ()) if self._in_time(flight.operation))

    async def ran(self, container_id: str) -> bool:
        """Whether one was answered that counts for a stop that comes now: any answer is an outcome."""
        # Taken before the journal is read: what is recorded meanwhile is then known from here.
        flights = self.in_flight(container_id)
        try:
            async with asyncio.timeout(PATIENCE):
                recorded = await self._tools.journal.executions_of(container_id)
        except (JournalUnavailableError, TimeoutError) as error:
            log.error("the journal cannot be read: what it knows of the kubelet's hook is lost", error=str(error))
            recorded = []
        return any(self.counts(operation) for operation in (*recorded, *(flight.operation for flight in flights)))

    def counts(self, operation: Operation) -> bool:
        """Whether this run was answered, and so is the hook of a stop that comes now."""
        return operation.state is OperationState.DONE and not operation.error and self._in_time(operation)

    def _in_time(self, operation: Operation) -> bool:
        clock = self._tools.clock
        return (
            operation.boot_id == clock.boot_id
            and operation.deadline is not None
            and operation.deadline + LATE >= clock.boottime()
        )


def runs_hook(container: Container, command: Sequence[str], timeout: int, settings: Settings) -> bool:
    """Whether an ExecSync is the kubelet's run of this container's preStop.

    Of the kubelet's calls only its hooks and its ``/run`` have no timeout; a probe's is 1 s or more.
    """
    wanted = ExecAction(tuple(command))
    return timeout == 0 and any(one.handler.action == wanted for one in plan.kubelets(container, settings))
