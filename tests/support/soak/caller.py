"""A caller as a kubelet is one: it repeats a call that broke until it has an answer, then looks, and goes on.

It notes what it was answered and how containerd shows the container afterwards; what that means for the hooks is
``tally``'s.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import partial

import grpc

from tests.support.cri import CRIClient, CRIError, unique
from tests.support.later import later
from tests.support.soak.insist import BROKEN, CALL, AbandonedError, Insistence, attempt
from tests.support.soak.keeper import Keeper
from tests.support.soak.moves import Ending, Hook, Phase, Round
from tests.support.soak.witness import Witness
from tests.wire import cri_pb2 as cri

#: How many containers a pod has.
_POD_ROUNDS = 8

#: Seconds in which a removal that is refused is tried again: hookshim clears up after a start that was cut off.
_REMOVAL = 30.0

_RUNNING = "CONTAINER_RUNNING"
_CREATED = "CONTAINER_CREATED"
_EXITED = "CONTAINER_EXITED"


@dataclass(slots=True)
class Story:
    """What one round came to. ``broken``: a call for its start was cut off, so that the start may have failed."""

    moves: Round
    container: str = ""
    broken: bool = False
    start_answer: str = ""
    stop_answers: list[str] = field(default_factory=list)
    #: When a caller was told that the container has ended, in nanoseconds since the epoch, as containerd counts.
    ended_by: list[int] = field(default_factory=list)
    status: cri.ContainerStatus = field(default_factory=cri.ContainerStatus)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def started(self) -> bool:
        """Whether the container was started, as containerd has it."""
        return bool(self.status.started_at)


class Caller:
    """Plays rounds, one after another, in pods of its own. ``truth`` is a client of containerd's own socket."""

    def __init__(
        self, client: CRIClient, truth: CRIClient, keeper: Keeper, witness: Witness, over: threading.Event
    ) -> None:
        self._client = client
        self._truth = truth
        self._keeper = keeper
        self._witness = witness
        self._over = over
        self._insistence = Insistence(over)
        self._pod = ""
        self._rounds_left = 0
        #: Pods that could not be run or removed.
        self.problems: list[str] = []

    def play(self, moves: Round) -> Story:
        """One round. Raises AbandonedError; everything else that goes wrong is in the story."""
        story, began = Story(moves), time.monotonic()
        try:
            self._play(moves, story)
        except AbandonedError:
            raise
        except Exception as error:  # noqa: BLE001 - one round that is odd must not end the others
            story.problems.append(f"{type(error).__name__}: {error}")
        story.seconds = time.monotonic() - began
        return story

    def leave(self) -> None:
        """Stop and remove the last pod. Raises AbandonedError."""
        self._leave(Ending.STOP_POD, Ending.REMOVE_POD)

    def _leave(self, *steps: Ending) -> None:
        pod, self._pod, self._rounds_left = self._pod, "", 0
        if not pod:
            return
        calls = {Ending.STOP_POD: self._client.stop_pod, Ending.REMOVE_POD: self._client.remove_pod}
        for step in steps:
            refusal = self._insistence.accomplish(partial(calls[step], pod, CALL), _REMOVAL)
            if refusal is not None:
                self.problems.append(f"pod {pod}: {step} is refused: {refusal}")

    def _play(self, moves: Round, story: Story) -> None:
        self._create(story)
        if moves.overtake is None:
            self._start(story)
            self._over.wait(moves.rest)
        else:
            start = later(self._start, story)
            self._over.wait(moves.overtake)
            self._stop(story)
            start.result()
        deadline = time.monotonic() + CALL
        story.status = self._truth.status(story.container)
        while self._state(story) == _RUNNING and time.monotonic() < deadline:
            if moves.ending is not Ending.STOP:
                self._end(story)
                return
            self._stop(story)
            self._insistence.wait()
        story.status = self._truth.status(story.container)
        if (state := cri.ContainerState.Name(story.status.state)) != _EXITED:
            story.problems.append(f"it is {state} in the end")
        if moves.overtake is None and story.ended_by and min(story.ended_by) < story.status.finished_at:
            story.problems.append(f"a caller was told at {min(story.ended_by)} that it has ended")
        if moves.remove:
            self._remove(story)

    def _create(self, story: Story) -> None:
        moves = story.moves
        annotations, mounts = self._witness.expect(moves)
        pod, tries = self._current_pod(), iter(range(1000))

        def create() -> str:
            # an attempt of its own each time, since a call that broke may have made a container of that name
            return self._client.create(
                pod, f"r{moves.number}", moves.command(), annotations=annotations, mounts=mounts, attempt=next(tries)
            )

        story.container = self._insistence.repeat(create)

    def _current_pod(self) -> str:
        if self._rounds_left == 0:
            self.leave()

            def run() -> str:
                return self._client.run_pod(unique("soak"), host_network=True, timeout=CALL)

            self._pod = self._insistence.repeat(run)
            self._rounds_left = _POD_ROUNDS
        self._rounds_left -= 1
        return self._pod

    def _start(self, story: Story) -> None:
        """StartContainer until the container is not CREATED any more."""
        self._aim(story.moves, Phase.START)
        patience, deadline = story.moves.patience, time.monotonic() + CALL
        while True:
            error = attempt(partial(self._client.start, story.container, patience))
            story.start_answer = str(error or "OK")
            if error is None:
                self._started(story)
                return
            if error.code in BROKEN:
                story.broken, patience = True, CALL
            elif self._state(story) != _CREATED:
                self._refused(story, error)
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"StartContainer has no definite answer: {error}")
            self._insistence.wait()

    def _started(self, story: Story) -> None:
        if Hook.POST_START in story.moves.hooks and not self._witness.calls(story.moves, Hook.POST_START):
            story.problems.append("StartContainer was answered OK before its PostStart was called")
        if story.moves.overtake is None and (state := self._state(story)) != _RUNNING:
            story.problems.append(f"StartContainer was answered OK and it is {state}")

    def _refused(self, story: Story, error: CRIError) -> None:
        moves = story.moves
        fails = Hook.POST_START in moves.hooks and moves.hooks[Hook.POST_START].fails
        if error.code is grpc.StatusCode.FAILED_PRECONDITION and fails:
            story.ended_by.append(time.time_ns())
        elif not story.broken and not (error.code is grpc.StatusCode.ABORTED and moves.overtake is not None):
            story.problems.append(f"StartContainer was refused though nothing had broken: {error}")

    def _end(self, story: Story) -> None:
        """End a running container by a call in which containerd itself kills it."""
        self._aim(story.moves, Phase.END)
        if story.moves.ending is Ending.REMOVE:
            self._remove(story)
        elif story.moves.ending is Ending.REMOVE_POD:
            self._leave(Ending.REMOVE_POD)
        else:
            pod = self._pod
            self._leave(Ending.STOP_POD)
            if (state := self._state(story)) != _EXITED:
                story.problems.append(f"StopPodSandbox was answered OK and it is {state}")
            self._pod = pod

    def _remove(self, story: Story) -> None:
        refusal = self._insistence.accomplish(partial(self._client.remove, story.container, CALL), _REMOVAL)
        if refusal is not None:
            story.problems.append(f"it cannot be removed: {refusal}")

    def _stop(self, story: Story) -> None:
        """StopContainer until it is answered, perhaps by two callers."""
        moves = story.moves
        self._aim(moves, Phase.END)
        second = None
        if moves.second_grace is not None and not story.stop_answers:
            second = later(self._stop_once, story, moves.second_grace, moves.rest)
        self._stop_once(story, moves.grace, 0.0)
        if second is not None:
            second.result()

    def _stop_once(self, story: Story, grace: int, after: float) -> None:
        self._over.wait(after)
        refusal = self._insistence.accomplish(partial(self._client.stop, story.container, grace))
        story.stop_answers.append(str(refusal or "OK"))
        if refusal is None:
            story.ended_by.append(time.time_ns())
        else:
            story.problems.append(f"StopContainer was refused: {refusal}")

    def _aim(self, moves: Round, phase: Phase) -> None:
        if moves.kill is not None and moves.kill.phase is phase:
            self._keeper.aim(moves.kill.after)

    def _state(self, story: Story) -> str:
        """The state by containerd's own socket."""
        return cri.ContainerState.Name(self._truth.status(story.container).state)
