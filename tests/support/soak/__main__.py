# ruff: noqa: T201 - a command prints
"""``hack/soak``: plays rounds, shows how it goes, and says in one line what came out."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.support.containerd import LeftoverError, PrivateContainerd
from tests.support.interruption import Interruption
from tests.support.soak.run import CALLERS, soak

#: Seconds between two lines of progress where nobody looks at a terminal.
_SELDOM = 15.0


def say(text: str) -> None:
    """A line of the answer."""
    print(text, flush=True)


class _Progress:
    """One line that is written over on a terminal, a line now and then elsewhere."""

    def __init__(self, rounds: int, interruption: Interruption) -> None:
        self._rounds = rounds
        self._interruption = interruption
        self._began = self._said = time.monotonic()

    def __call__(self, done: int, kills: int) -> None:
        self._interruption.check()
        now = time.monotonic()
        line = f"{done} of {self._rounds} rounds, {kills} kills, {now - self._began:.0f} s"
        if sys.stderr.isatty():
            print(f"\r{line} ", end="" if done < self._rounds else "\n", file=sys.stderr, flush=True)
        elif now - self._said >= _SELDOM:
            self._said = now
            print(line, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 if nothing was lost and nothing was odd."""
    parser = argparse.ArgumentParser(
        prog="hack/soak",
        description="Play N rounds (a container with hooks is created, started and stopped, as a kubelet would) while "
        "hookshim, containerd and containers are killed at random moments, and count the hook calls that were due, "
        "delivered, duplicated and lost.",
    )
    parser.add_argument("rounds", metavar="N", type=int, help="how many rounds")
    parser.add_argument("--seed", type=int, help="what the moves are drawn from, to repeat them (random)")
    parser.add_argument("--callers", metavar="K", type=int, default=CALLERS, help="rounds at a time (%(default)s)")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.callers < 1:
        parser.error("N and K are at least 1")
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    say(f"seed {seed}")
    interruption = Interruption()
    kept = Path(tempfile.mkdtemp(prefix="hookshim-soak-"))
    try:
        with PrivateContainerd.start() as containerd:
            try:
                figures = soak(
                    containerd, options.rounds, seed, options.callers, _Progress(options.rounds, interruption), kept
                )
            except KeyboardInterrupt:
                return _abandon(containerd)
            # said before containerd is ended: what goes wrong there must not hide it
            for problem in figures.problems:
                say(problem)
            if any(kept.iterdir()):
                say(f"hookshim's log and journal, containerd's log, and what was seen while calls hung: {kept}")
            say(figures.line())
    except RuntimeError:
        if not interruption.noted:
            raise
        say("interrupted; everything was ended")
        return 130
    finally:
        if not any(kept.iterdir()):
            kept.rmdir()
    return 0 if figures.good else 1


def _abandon(containerd: PrivateContainerd) -> int:
    """End containerd amid starts that were cut off: it may not be able to remove their pods itself."""
    seen = containerd.traces()
    with suppress(LeftoverError):
        containerd.end()
    if left := containerd.leftovers(seen):
        say("interrupted; this is left:\n" + "\n".join(left))
        return 1
    say("interrupted; everything was ended")
    return 130


if __name__ == "__main__":
    sys.exit(main())
