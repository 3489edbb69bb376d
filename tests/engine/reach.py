"""What a run of histories has reached, and ``python -m tests.engine.reach``: the same as a table.

A simulation that never comes to a place proves nothing about it; so what it must reach is asserted, not hoped for.
"""

from __future__ import annotations

import os
import sys
from collections import Counter

from shim import table
from shim.failpoints import Failpoint
from shim.records import OperationKind as K
from shim.records import OperationState as O
from shim.table import OperationEvent as P
from tests.engine.lives import Counts, live

#: The first seed of a run, and how many there are.
FIRST = int(os.environ.get("HOOKSHIM_SIM_SEED", "1"))
HISTORIES = int(os.environ.get("HOOKSHIM_SIM_HISTORIES", "10000"))

#: What no history can reach, and why. One that is reached after all does not belong here.
BEYOND: dict[tuple[str, ...], str] = {
    ("operation", K.EXEC, O.ACCEPTED, P.END): "the kubelet's own ExecSync is not simulated",
}

#: What so few of ten thousand histories reach that other seeds may miss it.
RARE: dict[tuple[str, ...], str] = {}


def wanted() -> set[tuple[str, ...]]:
    """Every transition of the table, every failpoint passed and died at."""
    return {
        *(("delivery", *row) for row in table.DELIVERY),
        *(("operation", *row) for row in table.OPERATION),
        *((what, name) for what in ("failpoint", "killed at") for name in Failpoint),
    }


def told(counts: Counts) -> str:
    """A line each, the rarest first."""
    every = {**dict.fromkeys(wanted(), 0), **counts}
    rows = sorted(every.items(), key=lambda row: (row[0][0], row[1], row[0]))
    return "".join(f"{count:9d}  {' · '.join(what)}\n" for what, count in rows)


def main() -> int:
    """Live through them and print it."""
    counts: Counts = Counter()
    broken = []
    for seed in range(FIRST, FIRST + HISTORIES):
        life = live(seed)
        counts += life.counts
        if life.problem:
            broken.append(seed)
    sys.stdout.write(f"{told(counts)}seeds {FIRST} to {FIRST + HISTORIES - 1}, broken: {broken or 'none'}\n")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
