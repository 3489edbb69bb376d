"""A journal with a long past, and the containers that it is about: what a daemon finds that starts on a busy node.

Written with SQL, not with the engine, in a second or two. The open rows are of every kind that a killed daemon leaves,
each with the container's state now and with what has to become of it (semantics.md, design.md "Recovery").
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from shim.store import FILE, Store

_BOOT = Path("/proc/sys/kernel/random/boot_id")

#: How a container stands now, by a word: CRI's state, and whether it has ever run. One that is gone has none.
STANDS = {
    "created": ("CONTAINER_CREATED", False),
    "running": ("CONTAINER_RUNNING", True),
    "exited": ("CONTAINER_EXITED", True),
    "unstarted": ("CONTAINER_EXITED", False),
}

#: An end that is known, as the journal keeps it.
_ENDING = '{"started": true, "exit_code": 0, "reason": "Completed", "finished_at": %f, "started_at": %f}'

#: Why an operation is there, by its kind.
_REASONS = {"start": "StartContainer", "stop": "StopContainer", "end": "Ended", "exec": "ExecSync"}

#: The hook of an operation's delivery, by its kind.
_HOOKS = {"start": "postStart", "stop": "preStop", "end": "postStop"}


@dataclass(frozen=True, slots=True)
class Kind:
    """An operation that a daemon has left open, how its container ``stands`` now, and what becomes of both rows.

    ``delivery`` is its delivery's state, empty if it has none. ``reboot``: it is from another boot.
    """

    operation: str
    state: str
    delivery: str
    stands: str
    becomes: str
    ends: str
    reboot: bool = False

    @property
    def sent(self) -> bool:
        """Whether its hook is to be sent."""
        return self.becomes == "delivered" != self.delivery


#: Every kind: operation, its state, its delivery's; the container; what becomes of the delivery and of the operation.
KINDS = (
    Kind("start", "accepted", "armed", "running", "delivered", "done"),
    Kind("start", "accepted", "armed", "created", "armed", "accepted"),
    Kind("start", "accepted", "armed", "exited", "missed", "done"),
    Kind("start", "accepted", "armed", "unstarted", "void", "done"),
    Kind("start", "accepted", "armed", "gone", "void", "done"),
    Kind("start", "forwarded", "pending", "running", "delivered", "done"),
    Kind("start", "forwarded", "delivering", "running", "delivered", "done"),
    Kind("start", "forwarded", "delivering", "exited", "missed", "done"),
    Kind("stop", "accepted", "pending", "running", "delivered", "done"),
    Kind("stop", "accepted", "delivering", "running", "delivered", "done"),
    Kind("stop", "accepted", "delivering", "exited", "missed", "done"),
    Kind("stop", "accepted", "pending", "gone", "missed", "done"),
    Kind("stop", "accepted", "delivering", "running", "missed", "done", reboot=True),
    Kind("stop", "hooks_done", "delivered", "running", "delivered", "done"),
    Kind("stop", "forwarded", "delivered", "running", "delivered", "done"),
    Kind("stop", "forwarded", "delivered", "gone", "delivered", "done"),
    Kind("end", "forwarded", "armed", "running", "armed", "forwarded"),
    Kind("end", "forwarded", "armed", "exited", "delivered", "done"),
    Kind("end", "forwarded", "armed", "gone", "delivered", "done"),
    Kind("end", "accepted", "armed", "unstarted", "void", "done"),
    Kind("end", "forwarded", "pending", "gone", "delivered", "done"),
    Kind("exec", "accepted", "", "running", "", "done"),
)


@dataclass(frozen=True, slots=True)
class Left:
    """An operation that was left open, by its number; container, operation and delivery have ids made from that."""

    number: int
    kind: Kind

    @property
    def container(self) -> str:
        """The container's id."""
        return f"a{self.number:063x}"

    @property
    def pod(self) -> str:
        """The id of its pod, which it has for itself."""
        return f"b{self.number:063x}"

    @property
    def id(self) -> str:
        """The operation's id, and its delivery's."""
        return f"c{self.number:015x}"


def left(count: int) -> list[Left]:
    """So many, of all kinds in turn."""
    return [Left(number, KINDS[number % len(KINDS)]) for number in range(count)]


def write(state_dir: Path, ended: int, opened: list[Left], handler: Callable[[Left], str]) -> None:
    """A journal with so many ended deliveries, and those operations; ``handler`` says what each open hook does."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    Store.open(state_dir / FILE).close()
    with closing(sqlite3.connect(state_dir / FILE, isolation_level=None)) as file:
        past = _PAST.format(containers=(ended + 1) // 2, now=time.time())
        file.executescript(f"PRAGMA synchronous = OFF; BEGIN; {past}")
        for table, rows in _rows(opened, handler).items():
            names = ", ".join(rows[0])
            marks = ", ".join(f":{name}" for name in rows[0])
            file.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)
        file.execute("COMMIT")


def _rows(opened: list[Left], handler: Callable[[Left], str]) -> dict[str, list[dict[str, object]]]:
    """The rows of what is open, by table."""
    now, boot = time.time(), _BOOT.read_text().strip()
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + 3600
    tables: dict[str, list[dict[str, object]]] = {"container": [], "operation": [], "delivery": [], "attempt": []}
    for one in opened:
        kind = one.kind
        tables["container"].append(
            {
                "id": one.container,
                "sandbox_id": one.pod,
                "name": "c",
                "pod": f"open-{one.number}",
                "namespace": "default",
                "uid": f"uid-{one.number}",
            }
        )
        told = kind.operation == "end" and kind.delivery != "armed"
        tables["operation"].append(
            {
                "id": one.id,
                "kind": kind.operation,
                "reason": _REASONS[kind.operation],
                "container_id": one.container,
                "state": kind.state,
                "timeout": 30 if kind.operation == "stop" else 0,
                "deadline": until if kind.operation == "stop" else None,
                "boot_id": "another" if kind.reboot else boot,
                "created_at": now,
                "forwarded_at": now if (kind.operation, kind.state) == ("stop", "forwarded") else None,
                "ending": _ENDING % (now, now - 60) if told else None,
            }
        )
        if kind.delivery:
            sent = kind.delivery in {"delivering", "delivered"}
            tables["delivery"].append(
                {
                    "id": one.id,
                    "operation_id": one.id,
                    "container_id": one.container,
                    "hook": _HOOKS[kind.operation],
                    "position": 0,
                    "handler": handler(one),
                    "source": "container",
                    "state": kind.delivery,
                    "attempts": int(sent),
                    "interruptions": 0,
                    "error": "",
                    "output": b"",
                    "created_at": now,
                    "finished_at": now if kind.delivery == "delivered" else None,
                }
            )
            if sent:
                tables["attempt"].append({"delivery_id": one.id, "number": 1, "began_at": now})
    return tables


def known(opened: list[Left]) -> Iterator[tuple[Left, str, bool]]:
    """Those whose container the runtime still has, with CRI's state and whether it has ever run."""
    for one in opened:
        if one.kind.stands in STANDS:
            yield one, *STANDS[one.kind.stands]


#: Containers that have lived and ended, each with a PostStart and a PreStop; one hook in fifty has failed.
_PAST = """
CREATE TEMP TABLE past AS
WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {containers})
SELECT n, printf('d%063x', n) AS container, {now} - 3600.0 - n * 0.1 AS began FROM numbers;

INSERT INTO container SELECT container, printf('e%063x', n), 'app', printf('app-%05d', n), 'default', printf('u-%d', n)
FROM past;

CREATE TEMP TABLE hooks AS
SELECT n, container, began, 'start' AS kind, 'StartContainer' AS reason, 'postStart' AS hook, n % 50 = 1 AS bad
FROM past
UNION ALL SELECT n, container, began + 60, 'stop', 'StopContainer', 'preStop', n % 50 = 2 FROM past;

INSERT INTO operation (id, kind, reason, container_id, state, timeout, deadline, boot_id, created_at, finished_at)
SELECT printf('%s%011x', kind, n), kind, reason, container, 'done', 30, NULL, 'boot', began, began + 1 FROM hooks;

INSERT INTO delivery (id, operation_id, container_id, hook, position, handler, source, state, attempts, interruptions,
                      error, exit_status, output, created_at, finished_at)
SELECT printf('%s%011x', kind, n), printf('%s%011x', kind, n), container, hook, 0,
       '{{"exec": {{"command": ["/bin/sh", "-c", "echo the application is told; wget -qO- http://127.0.0.1/drain"]}}}}',
       'container', iif(bad, 'failed', 'delivered'), 1, 0, iif(bad, 'it failed', ''), bad,
       CAST('the application was told, and has answered that it will be so' AS BLOB), began, began + 1 FROM hooks;

INSERT INTO attempt (delivery_id, number, began_at, ended_at, stage, pid, pid_started, exit_status)
SELECT printf('%s%011x', kind, n), 1, began, began + 1, 'exited', 4000, 5000, bad FROM hooks;

INSERT INTO event (at, type, reason, container_id, delivery_id, message)
SELECT began + 1, 'Warning', 'FailedPostStartHook', container, printf('%s%011x', kind, n), 'it failed'
FROM hooks WHERE bad;

DROP TABLE hooks;
DROP TABLE past;
"""
