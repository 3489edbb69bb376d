"""The callers, each in a thread of its own, who share out the rounds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from tests.support.soak.caller import Caller
from tests.support.soak.drawing import draw
from tests.support.soak.insist import AbandonedError
from tests.support.soak.moves import Ending
from tests.support.soak.story import Story

#: Seconds between two reports of progress.
_REPORT = 0.5


class Company:
    """``report`` is told now and then how many rounds are over; what it raises ends the soak."""

    def __init__(self, callers: Sequence[Caller], over: threading.Event, report: Callable[[int], None]) -> None:
        self._callers = callers
        self._over = over
        self._report = report
        self._threads: list[threading.Thread] = []
        self._stories: list[Story] = []
        self._lock = threading.Lock()
        #: The callers' own, besides those of their rounds.
        self.problems: list[str] = []

    def play(self, seed: int, rounds: int) -> list[Story]:
        """All rounds, each by whoever is free; their stories."""
        waiting = iter(range(1, rounds + 1))

        def work(caller: Caller) -> None:
            while True:
                with self._lock:
                    number = next(waiting, None)
                if number is None:
                    return
                story = caller.play(draw(seed, number))
                with self._lock:
                    self._stories.append(story)

        self._do(work)
        return sorted(self._stories, key=lambda story: story.moves.number)

    def leave(self) -> None:
        """Have the callers stop and remove their pods."""
        self._do(lambda caller: caller.lodging.leave(Ending.STOP_POD, Ending.REMOVE_POD))
        self.problems += [problem for caller in self._callers for problem in caller.lodging.problems]

    def disperse(self) -> None:
        """Wait for the callers that are still at work; what they wait for has to be ended before."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _do(self, work: Callable[[Caller], None]) -> None:
        def guarded(caller: Caller) -> None:
            try:
                work(caller)
            except AbandonedError:
                return
            except Exception as error:  # noqa: BLE001 - a caller that ends early is a problem like any other
                self.problems.append(f"expected: a caller plays to the end; seen: {type(error).__name__}: {error}")

        self._threads = [
            threading.Thread(target=guarded, args=(caller,), name=f"caller {number}", daemon=True)
            for number, caller in enumerate(self._callers)
        ]
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_REPORT)
                self._report(len(self._stories))
