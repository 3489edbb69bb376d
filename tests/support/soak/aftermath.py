"""The end of a run, when nobody is killed any more: everything settles, nothing runs, nothing is left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial

from tests.support.containerd import PrivateContainerd
from tests.support.hookshimd import Hookshim
from tests.support.soak.insist import CALL, REFUSALS, Insistence
from tests.support.soak.memory import Memory
from tests.support.soak.story import Story
from tests.support.soak.truth import EXITED, Truth

#: Seconds for what is open to be settled: a PreStop's grace, and the last of hookshim's looks for leftovers.
_SETTLE = 75.0


class Aftermath:
    """Looks at what a run leaves; each look is a list of what is wrong, in words."""

    def __init__(self, daemon: Hookshim, containerd: PrivateContainerd, truth: Truth, insistence: Insistence) -> None:
        self._daemon = daemon
        self._containerd = containerd
        self._truth = truth
        self._insistence = insistence
        self._tasks_before = self._tasks()

    def settled(self) -> list[str]:
        """Nothing is open in the journal."""
        memory = Memory(self._daemon)
        return [f"expected: nothing is open in the end; seen: {one}" for one in self._patiently(memory.open)]

    def stopped(self, stories: Sequence[Story]) -> list[str]:
        """No container runs of which a caller was told that it has ended."""
        containers = self._truth.containers()
        return [
            f"expected: container {story.container} of round {story.moves.number} stays ended, as its caller was "
            f"told; seen: {containers[story.container]}"
            for story in stories
            if story.ended_by and containers.get(story.container, EXITED) != EXITED
        ]

    def removed(self) -> list[str]:
        """Every pod that is left, as by calls for one that broke, can be stopped and removed; no task is left."""
        problems = []
        for pod in self._truth.pods():
            for call in (self._daemon.cri.stop_pod, self._daemon.cri.remove_pod):
                refusal = self._insistence.accomplish(partial(call, pod, CALL), REFUSALS)
                problems += [f"expected: pod {pod} can be removed; seen: {refusal}"] if refusal else []
        problems += [
            f"expected: no task is left; seen: that of {task}"
            for task in self._patiently(lambda: sorted(self._tasks() - self._tasks_before))
        ]
        return problems

    def ended(self) -> list[str]:
        """Hookshim ends well at SIGTERM, and met no bug in all its lives, by its log."""
        problems = []
        if status := self._daemon.terminate():
            problems.append(f"expected: hookshim exits with 0 at SIGTERM; seen: {status}\n{self._daemon.tail()}")
        lines = [line for line in self._daemon.log.read_text(errors="replace").splitlines() if '"exception"' in line]
        problems += [f"expected: no bug in hookshim's log; seen: {_brief(line)}" for line in lines]
        return problems

    def _tasks(self) -> set[str]:
        return set(self._containerd.ctr("tasks", "ls", "--quiet").split())

    def _patiently(self, look: Callable[[], list[str]]) -> list[str]:
        """What ``look`` finds, if it still does when it has had time."""
        deadline = time.monotonic() + _SETTLE
        while (found := look()) and time.monotonic() < deadline:
            self._insistence.wait()
        return found


def _brief(line: str) -> str:
    try:
        return json.dumps(json.loads(line), indent=1).replace("\\n", "\n")
    except ValueError:  # it was killed while it wrote
        return line
