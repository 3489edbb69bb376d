"""The pods that a caller's containers live in: one after another, each for several rounds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.support.cri import CRIClient, unique
from tests.support.soak.insist import CALL, REFUSALS, Insistence
from tests.support.soak.moves import Ending

#: How many containers a pod has.
_ROUNDS = 8


class Lodging:
    """One caller's pod, made when it is needed."""

    def __init__(self, client: CRIClient, insistence: Insistence) -> None:
        self._client = client
        self._insistence = insistence
        self._pod = ""
        self._rounds_left = 0
        #: Pods that could not be stopped or removed.
        self.problems: list[str] = []

    def room(self) -> str:
        """The pod for the next container. Raises CRIError, AbandonedError."""
        if self._rounds_left == 0:
            self.leave(Ending.STOP_POD, Ending.REMOVE_POD)

            def run() -> str:
                return self._client.run_pod(unique("soak"), host_network=True, timeout=CALL)

            self._pod = self._insistence.repeat(run, REFUSALS)
            self._rounds_left = _ROUNDS
        self._rounds_left -= 1
        return self._pod

    def leave(self, *steps: Ending, between: Callable[[], None] = lambda: None) -> None:
        """Take these steps with the pod, if there is one, and ``between`` after the first. Raises AbandonedError."""
        pod, self._pod, self._rounds_left = self._pod, "", 0
        if not pod:
            return
        calls = {Ending.STOP_POD: self._client.stop_pod, Ending.REMOVE_POD: self._client.remove_pod}
        for step in steps:
            refusal = self._insistence.accomplish(partial(calls[step], pod, CALL), REFUSALS)
            if refusal is not None:
                self.problems.append(f"expected: {step} of pod {pod} is OK in the end; seen: {refusal}")
            if step is steps[0]:
                between()
