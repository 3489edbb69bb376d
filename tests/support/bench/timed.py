"""hookshim with each callback of its event loop timed: ``python -m tests.support.bench.timed FILE ARGUMENT...``.

What is timed is CPU time of the loop's thread, so that a busy machine is not taken for a slow callback. The loop is
asyncio's own, since uvloop's callbacks cannot be seen; what is called by either is the same. SIGUSR2 begins anew; at
its end FILE has what came of it.
"""

from __future__ import annotations

import json
import signal
import sys
from array import array
from asyncio import Handle
from pathlib import Path
from time import thread_time


class Timer:
    """The seconds of all callbacks, and which was the longest."""

    def __init__(self) -> None:
        self._seconds = array("d")
        self._longest = 0.0
        self._what = ""

    def run(self, handle: Handle) -> None:
        """Run a callback as asyncio does."""
        began = thread_time()
        _RUN(handle)
        took = thread_time() - began
        self._seconds.append(took)
        if took > self._longest:
            self._longest, self._what = took, repr(handle)

    def clear(self) -> None:
        """Forget everything until now."""
        self._seconds, self._longest, self._what = array("d"), 0.0, ""

    def told(self) -> str:
        """What came of it, as JSON."""
        numbers = sorted(self._seconds)
        p99 = numbers[len(numbers) * 99 // 100] if numbers else 0.0
        return json.dumps({"callbacks": len(numbers), "p99": p99, "longest": self._longest, "what": self._what})


#: There is no public place through which all callbacks go.
_RUN = Handle._run


def main() -> None:
    """Run hookshim's command line, whose arguments follow the file's name."""
    timer = Timer()
    file = Path(sys.argv.pop(1))
    # Not to be found, so that asyncio's own loop is taken.
    sys.modules["uvloop"] = None  # type: ignore[assignment]
    from server.cli import main as hookshim  # noqa: PLC0415 - not before that

    def run(handle: Handle) -> None:
        timer.run(handle)

    Handle._run = run  # type: ignore[method-assign, assignment]
    signal.signal(signal.SIGUSR2, lambda _number, _frame: timer.clear())
    try:
        hookshim()
    finally:
        file.write_text(timer.told())


if __name__ == "__main__":
    main()
