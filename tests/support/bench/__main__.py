# ruff: noqa: T201 - a command prints
"""``hack/bench``: measure everything, and tell it as a table, as JSON, and in a file that is kept."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from enum import Enum
from pathlib import Path
from typing import Any

from tests.support.bench import machine
from tests.support.bench.calls import Amount
from tests.support.bench.copy import COPY
from tests.support.bench.figures import DIRECT, Results, Row
from tests.support.bench.load import program
from tests.support.bench.progress import Progress
from tests.support.bench.run import run
from tests.support.bench.scale import SIZES
from tests.support.bench.stand import FRONTS
from tests.support.bench.table import render
from tests.support.containerd import PrivateContainerd
from tests.support.interruption import Interruption

#: By mode: calls, rounds of pods, and what its numbers are worth.
MODES = {
    "full": (Amount(rounds=9, one=2000, sixteen=4800, deliveries=1000), 15, ""),
    "quick": (Amount(rounds=3, one=400, sixteen=1600, deliveries=300), 3, "about a minute, and less to be trusted"),
    "smoke": (Amount(rounds=1, one=20, sixteen=32, deliveries=100), 1, "shows that it works, not what anything costs"),
}

_HEAD = """\
# What hookshim costs

Written by `hack/bench --write FILE`. Medians, and in parentheses the quartiles. "÷ direct" compares within a round and
is then the median of the rounds; CPU is hookshim's user and kernel time for each call. The targets are for the relay.
"copy" is no hookshim: a process in its place that copies bytes and does nothing else, on the same event loop. What it
adds is the machine's share of every hop.

"""


def measure(mode: str, interruption: Interruption) -> Results:
    """One run. Raises KeyboardInterrupt, and RuntimeError if containerd or the fake runtime does not start."""
    amount, pods, worth = MODES[mode]
    progress = Progress(interruption)
    load, began = os.getloadavg()[0], time.monotonic()
    progress.show("starting containerd")
    with PrivateContainerd.start() as containerd:
        described = machine.describe(containerd.version)
        found = run(containerd, amount, pods, progress, SIZES[mode])
    progress.show()
    how = {
        "client": "h2load for calls and deliveries; Python's grpcio, one caller, for pods and their containers",
        "mode": f"{mode}{f' ({worth})' if worth else ''}; rounds: {amount.rounds} of calls, {pods} of pods; "
        f"{time.monotonic() - began:.0f} s",
        "load average": f"{load:.2f} before, {os.getloadavg()[0]:.2f} after",
        **found.notes,
    }
    return Results(described, how, (DIRECT, COPY, *FRONTS), tuple(found.rows), tuple(found.checks), tuple(found.memory))


def as_json(results: Results) -> str:
    """Everything for programs: each row with all its numbers, and what the table says of them."""

    def of_row(row: Row) -> dict[str, Any]:
        ratios = {way: row.against_direct(way) for way in results.ways if way != DIRECT}
        verdict = row.verdict()
        return {
            **dataclasses.asdict(row),
            "median": {way: spread.median for way in results.ways if (spread := row.spread(way))},
            "ratio": {way: dataclasses.asdict(spread) for way, spread in ratios.items() if spread},
            "cpu_per_call": {way: row.cpu_per_call(way) for way in row.cpu},
            "verdict": verdict.value if verdict else None,
        }

    whole = {**dataclasses.asdict(results), "rows": [of_row(row) for row in results.rows], "kept": results.kept}
    return json.dumps(whole, indent=2, ensure_ascii=False, default=_of_enum) + "\n"


def _of_enum(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{value!r} has no JSON")


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 if every target was measured and is met, 1 if not, 130 if it was interrupted."""
    parser = argparse.ArgumentParser(prog="hack/bench", description="Measure what hookshim costs.")
    modes = parser.add_mutually_exclusive_group()
    for mode, (_, _, worth) in MODES.items():
        if worth:
            modes.add_argument(f"--{mode}", dest="mode", action="store_const", const=mode, help=worth)
    parser.set_defaults(mode="full")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the table in this file, too")
    options = parser.parse_args(arguments)
    program()
    interruption = Interruption()
    try:
        results = measure(options.mode, interruption)
    except (KeyboardInterrupt, RuntimeError):
        if not interruption.noted:
            raise
        print("interrupted; everything was ended", file=sys.stderr)
        return 130
    print(as_json(results) if options.json else render(results), end="")
    if options.write:
        options.write.write_text(_HEAD + render(results))
    return 0 if results.kept else 1


if __name__ == "__main__":
    sys.exit(main())
