"""``python -m tests.engine.replay SEED``: one history again, exactly, told in full; ``--less``: its shortest part.

The shortest part breaks a promise in the same place with fewer happenings. It is easier to read, and is not the same
run: the order in which things meet is drawn anew.
"""

from __future__ import annotations

import sys

from tests.engine.chance import Chance
from tests.engine.drawing import draw
from tests.engine.lives import Life, live


def less(seed: int) -> Life:
    """Leave out one happening after the other, for as long as the same promise is broken."""
    history = draw(Chance(seed).of("history"))
    shortest = life = live(seed)
    where = life.problem.split("\n", 1)[0]
    again = bool(life.problem)
    while again:
        again = False
        for place in reversed(range(len(history))):
            shorter = history[:place] + history[place + 1 :]
            life = live(seed, shorter)
            if life.problem.split("\n", 1)[0] == where:
                history, shortest, again = shorter, life, True
    return shortest


def main() -> int:
    """Print it; the exit status is 1 if a promise is broken."""
    options = [each for each in sys.argv[1:] if each == "--less"]
    [seed] = [int(each) for each in sys.argv[1:] if each != "--less"]
    life = less(seed) if options else live(seed)
    sys.stdout.write(life.report() if life.problem else life.trace)
    return bool(life.problem)


if __name__ == "__main__":
    sys.exit(main())
