"""Journals as a node has them: a morning with hooks of every kind and end, and one that means harm."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from shim import texts
from shim.changes import (
    BeginAttempt,
    Change,
    EndAttempt,
    InsertDelivery,
    InsertEvent,
    InsertOperation,
    UpdateDelivery,
    UpdateOperation,
)
from shim.records import (
    ContainerRef,
    Delivery,
    DeliveryState,
    Hook,
    Operation,
    OperationKind,
    OperationState,
    Outcome,
    Reason,
)
from shim.store import FILE, Store

#: What no page may take for markup, and how a terminal or a reader is fooled.
SCRIPT = "<script>window.owned=1</script>"
HOSTILE = f"\"'><img src=x onerror=window.owned=1>{SCRIPT}\u202e\x1b[31m{{{{7*7}}}}"

GOOD = Outcome()

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def ref(name: str, pod: str, namespace: str = "production", *, number: int = 1) -> ContainerRef:
    """A container with ids of its own."""
    digits = hashlib.sha256(repr((name, pod, namespace, number)).encode()).hexdigest()
    return ContainerRef(digits, digits[::-1], name, pod, namespace, str(UUID(digits[:32])))


def exec_(*command: str) -> str:
    """An exec handler as the journal has it."""
    return json.dumps({"exec": {"command": command}})


def http(path: str, port: int = 8080, **more: object) -> str:
    """An httpGet handler as the journal has it."""
    return json.dumps({"httpGet": {"path": path, "port": port, **more}})


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt: when it begins, in seconds after its operation; how long it takes (None: it goes on)."""

    at: float
    took: float | None
    outcome: Outcome = GOOD


def _id(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()[:32]


class Writer:
    """Writes to a journal beside whoever reads it, as a daemon does."""

    def __init__(self, state_dir: Path) -> None:
        state_dir.mkdir(parents=True, exist_ok=True)
        self.directory = state_dir
        self._store = Store.open(state_dir / FILE)
        self._count = 0

    def close(self) -> None:
        """As at the end of a daemon."""
        self._store.close()

    def commit(self, *changes: Change) -> None:
        """All or nothing."""
        assert self._store.commit([changes]) == [None]

    def operation(
        self,
        container: ContainerRef,
        at: float,
        kind: OperationKind = OperationKind.STOP,
        reason: Reason = Reason.STOP_CONTAINER,
        *,
        timeout: int = 30,
        forwarded: float | None = None,
        took: float | None = None,
    ) -> Operation:
        """One of ``at``; ``forwarded`` and ``took`` in seconds after that."""
        self._count += 1
        stop = kind is OperationKind.STOP
        made = Operation(
            id=_id(self._count),
            kind=kind,
            reason=reason,
            container=container,
            state=OperationState.ACCEPTED if took is None else OperationState.DONE,
            timeout=timeout if stop else 0,
            deadline=time.clock_gettime(time.CLOCK_BOOTTIME) + at - time.time() + timeout if stop else None,
            boot_id=BOOT,
            created_at=at,
            finished_at=None if took is None else at + took,
        )
        self.commit(InsertOperation(made))
        if forwarded is not None:
            self.commit(UpdateOperation(replace(made, forwarded_at=at + forwarded), made.state))
        return made

    def delivery(
        self,
        operation: Operation,
        hook: Hook,
        handler: str,
        state: DeliveryState,
        tries: Sequence[Try] = (),
        *,
        source: str = "pod",
        position: int = 0,
        next_after: float | None = None,
        error: str = "",
    ) -> Delivery:
        """One with its attempts, and its event if it comes with one."""
        self._count += 1
        last = tries[-1] if tries else Try(0.0, 0.0)
        ended = None if state.open else operation.created_at + last.at + (last.took or 0.0)
        outcome = replace(last.outcome, error=last.outcome.error or error)
        made = Delivery(
            id=_id(self._count),
            operation_id=operation.id,
            container=operation.container,
            hook=hook,
            position=position,
            handler=handler,
            state=state,
            created_at=operation.created_at,
            attempts=len(tries),
            finished_at=ended,
            outcome=Outcome() if state is DeliveryState.DELIVERED else outcome,
            source=source,
            next_attempt_at=None if next_after is None else operation.created_at + next_after,
        )
        self.commit(InsertDelivery(made), *self._attempts(made, operation.created_at, tries))
        if state in (DeliveryState.FAILED, DeliveryState.MISSED):
            self.commit(InsertEvent(texts.event(ended or operation.created_at, made)))
        return made

    def settle(self, delivery: Delivery, state: DeliveryState, at: float, outcome: Outcome) -> Delivery:
        """Give a delivery that is being delivered its end."""
        after = replace(delivery, state=state, finished_at=at, outcome=outcome)
        self.commit(UpdateDelivery(after, delivery.state), EndAttempt(delivery.id, delivery.attempts, at, outcome))
        return after

    @staticmethod
    def _attempts(delivery: Delivery, at: float, tries: Sequence[Try]) -> Iterator[Change]:
        for number, one in enumerate(tries, 1):
            yield BeginAttempt(delivery.id, number, at + one.at)
            if one.took is not None:
                yield EndAttempt(delivery.id, number, at + one.at + one.took, one.outcome)


def started(writer: Writer, container: ContainerRef, at: float, handler: str, took: float = 0.4) -> Delivery:
    """A container whose PostStart was delivered."""
    start = writer.operation(container, at, OperationKind.START, Reason.START_CONTAINER, took=took + 0.2)
    done = [Try(0.15, took, Outcome(exit_status=0))]
    return writer.delivery(start, Hook.POST_START, handler, DeliveryState.DELIVERED, done)


def morning(writer: Writer, now: float) -> dict[str, Delivery]:
    """Hooks of an ordinary node, ``now`` the newest; the deliveries that tests and pictures point at, by name."""
    found: dict[str, Delivery] = {}
    web = ref("nginx", "web-7d4b9c6f5-x2x7q")
    started(writer, web, now - 7200, http("/warm-up"))
    drain = writer.operation(web, now - 9.0, timeout=30)
    writer.delivery(
        drain,
        Hook.PRE_STOP,
        json.dumps({"run": {"command": ["/usr/local/bin/drain-from-balancer"]}}),
        DeliveryState.DELIVERED,
        [Try(0.02, 2.6, Outcome(exit_status=0, output=b"drained 14 connections\n"))],
        source="rule 10-drain",
    )
    found["running"] = writer.delivery(
        drain,
        Hook.PRE_STOP,
        exec_("/bin/sh", "-c", "nginx -s quit; sleep 5"),
        DeliveryState.DELIVERING,
        [Try(2.65, None)],
        position=1,
    )
    api = ref("api", "api-5f6d8b9c7-kq2lm")
    started(writer, api, now - 5400, exec_("/app/migrate", "--wait"), 3.2)
    stop = writer.operation(api, now - 380, timeout=20, forwarded=14.2, took=15.1)
    refused = Outcome("connection refused", output=b"")
    busy = Outcome("HTTP status 503, expected 2xx", http_status=503, output=b"HTTP/1.1 503 Busy\nback later\n")
    found["failed"] = writer.delivery(
        stop,
        Hook.PRE_STOP,
        http("/drain", expectStatus="2xx"),
        DeliveryState.FAILED,
        [Try(0.03, 1.2, refused), Try(3.1, 1.4, refused), Try(7.0, 4.0, busy), Try(13.0, 1.1, busy)],
    )
    end = writer.operation(api, now - 365, OperationKind.END, Reason.ENDED)
    found["retrying"] = writer.delivery(
        end,
        Hook.POST_STOP,
        http("/ended", 9000, host="10.0.4.17"),
        DeliveryState.PENDING,
        [Try(0.1, 1.0, refused), Try(11, 1.0, refused), Try(40, 1.0, refused), Try(160, 1.0, refused)],
        next_after=400,
    )
    queue = ref("worker", "queue-0", "jobs")
    started(writer, queue, now - 86000, exec_("/opt/join"), 0.9)
    lost = writer.operation(queue, now - 4000, timeout=60, took=0.1)
    found["missed"] = writer.delivery(
        lost, Hook.PRE_STOP, exec_("/opt/leave", "--force"), DeliveryState.MISSED, error=texts.NOT_RUNNING
    )
    for number, name in enumerate(("cache-0", "cache-1", "cache-2")):
        cache = ref("redis", name, "storage")
        at = now - 3000 - 250 * number
        started(writer, cache, at - 9000, exec_("redis-cli", "ping"), 0.2)
        stop = writer.operation(cache, at, timeout=10, forwarded=1.1 + number, took=1.6 + number)
        saved = [Try(0.03, 1.0 + number, Outcome(exit_status=0, output=b"OK\n"))]
        writer.delivery(stop, Hook.PRE_STOP, exec_("redis-cli", "save"), DeliveryState.DELIVERED, saved)
    done = ref("import", "import-28871520-4xv9p", "jobs")
    stop = writer.operation(done, now - 1500, reason=Reason.EXITED, timeout=0, took=0.0)
    why = texts.ended_by_itself("Completed", 0)
    writer.delivery(stop, Hook.PRE_STOP, exec_("/opt/flush"), DeliveryState.SKIPPED, error=why)
    return found


def hostile(writer: Writer, now: float) -> Delivery:
    """A failed PreStop, all of whose texts are an attack."""
    evil = ContainerRef("e" * 64, "f" * 64, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    stop = writer.operation(evil, now - 20, timeout=10, forwarded=3.0, took=4.0)
    said = Outcome(f"it says {HOSTILE}", exit_status=1, output=f"{HOSTILE}\n</pre>{SCRIPT}\n".encode())
    return writer.delivery(
        stop, Hook.PRE_STOP, exec_(HOSTILE), DeliveryState.FAILED, [Try(0.1, 2.0, said)], source=f"rule {HOSTILE}"
    )


def write(state_dir: Path, now: float | None = None) -> dict[str, Delivery]:
    """A journal of a morning in ``state_dir``, with no daemon."""
    with closing(Writer(state_dir)) as writer:
        return morning(writer, time.time() if now is None else now)
