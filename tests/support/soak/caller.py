"""A caller as a kubelet is one: it repeats a call that broke until it has an answer, then looks, and goes on.

It notes what it was answered and how containerd shows the container afterwards; what that means for the hooks is
``verdict``'s.
"""

from __future__ import annotations

import itertools
import threading
import time
from contextvars import copy_context
from functools import partial

import grpc

from tests.support.cri import CRIClient, CRIError
from tests.support.later import later
from tests.support.soak.calls import played
from tests.support.soak.death import Slayer
from tests.support.soak.insist import CALL, REFUSALS, AbandonedError, Insistence, attempt, broken
from tests.support.soak.keeper import Keeper
from tests.support.soak.lodging import Lodging
from tests.support.soak.memory import Memory
from tests.support.soak.moves import Ending, Hook, Manner, Phase, Round
from tests.support.soak.story import UNKNOWN_EXIT, Story
from tests.support.soak.truth import CREATED, EXITED, GONE, RUNNING, Truth
from tests.support.soak.witness import Witness

#: Seconds after a caller's leaving in which its stop is accepted, or never.
_ACCEPTANCE = 3.0

#: Seconds until CRI shows an end that the container's task has.
_SHOWN = 5.0

#: Seconds in which hookshim records an end that it may have missed, under kills.
_RECORDED = 30.0

#: What containerd 1.6 says of a container whose end it has missed altogether, until somebody stops it.
_UNKNOWN = "CONTAINER_UNKNOWN"

#: Seconds for which a container that nobody stops is UNKNOWN before it is taken that it stays so.
_STAYS = 10.0

_ALIVE = (RUNNING, _UNKNOWN)


class Caller:
    """Plays rounds, one after another, in pods of its own."""

    def __init__(
        self,
        client: CRIClient,
        truth: Truth,
        memory: Memory,
        keeper: Keeper,
        slayer: Slayer,
        witness: Witness,
        over: threading.Event,
    ) -> None:
        self._client = client
        self._truth = truth
        self._memory = memory
        self._keeper = keeper
        self._slayer = slayer
        self._witness = witness
        self._over = over
        self._insistence = Insistence(over)
        self.lodging = Lodging(client, self._insistence)

    def play(self, moves: Round) -> Story:
        """One round. Raises AbandonedError; everything else that goes wrong is in the story."""
        story, began = Story(moves), time.monotonic()
        never = threading.Event()
        try:
            with played(moves.number):
                self._play(moves, story, never)
        except AbandonedError:
            raise
        except Exception as error:  # noqa: BLE001 - one round that is odd must not end the others
            story.problems.append(f"expected: a round to its end; seen: {type(error).__name__}: {error}")
        finally:
            never.set()
        story.seconds = time.monotonic() - began
        return story

    def _play(self, moves: Round, story: Story, never: threading.Event) -> None:
        self._create(story)
        if moves.overtake is None:
            self._start(story, never)
            self._over.wait(moves.rest)
        else:
            start = later(copy_context().run, self._start, story, never)
            self._over.wait(moves.overtake)
            self._stop(story, never)
            start.result()
        deadline = time.monotonic() + CALL
        self._look(story)
        if moves.death is not None and moves.death.alone:
            self._await_end(story, deadline)
        else:
            while self._truth.state(story.container) in _ALIVE and time.monotonic() < deadline:
                if moves.ending is not Ending.STOP:
                    self._end(story, never)
                    return
                self._stop(story, never)
                self._insistence.wait()
        state = self._look(story)
        story.end_lost = state == _UNKNOWN and moves.death is not None and moves.death.alone
        # containerd that was killed inside a start, and once more, may have it as it was before
        unstarted = state == CREATED and story.broken
        right = state == EXITED or story.end_lost or story.unknowable or unstarted
        story.expect(right=right, expected="a container that has ended", seen=state)
        if moves.overtake is None and story.ended_by and story.status.exit_code != UNKNOWN_EXIT:
            # containerd 1.6 learns of an end that it missed when it is back, and knows its time, or nothing
            early = min(story.ended_by) < story.status.finished_at
            story.expect(right=not early, expected="no answer before the end", seen=f"one at {min(story.ended_by)}")
        if moves.remove:
            self._remove(story)
        elif Hook.PRE_STOP in moves.hooks and story.started and story.ended_itself and not story.end_lost:
            self._await_record(story)

    def _await_end(self, story: Story, deadline: float) -> None:
        """Wait for the end of a container that nobody stops, or until containerd has lost it."""
        unknown_since = None
        while (state := self._truth.state(story.container)) in _ALIVE and (now := time.monotonic()) < deadline:
            unknown_since = (unknown_since or now) if state == _UNKNOWN else None
            if unknown_since is not None and now - unknown_since > _STAYS:
                return
            self._insistence.wait()

    def _await_record(self, story: Story) -> None:
        """Leave the container until hookshim has seen its end; what is missing then is the verdict's."""
        deadline = time.monotonic() + _RECORDED
        while not self._memory.knows(story.container, Hook.PRE_STOP) and time.monotonic() < deadline:
            self._insistence.wait()

    def _look(self, story: Story) -> str:
        """Note the container's status as it is now; its state."""
        status = self._truth.status(story.container)
        if status is not None:
            story.status = status
        return self._truth.state(story.container)

    def _create(self, story: Story) -> None:
        moves, pod, tries = story.moves, self.lodging.room(), itertools.count()

        def create() -> str:
            # an attempt of its own each time, since a call that broke may have made a container of that name
            story.attempt = next(tries)
            annotations, mounts = self._witness.expect(moves, story.attempt)
            return self._client.create(
                pod,
                f"r{moves.number}",
                moves.command(),
                annotations=annotations,
                mounts=mounts,
                attempt=story.attempt,
                timeout=CALL,
            )

        story.container = self._insistence.repeat(create, REFUSALS)

    def _start(self, story: Story, never: threading.Event) -> None:
        """StartContainer until the container is not CREATED any more."""
        self._aim(story, Phase.START, never)
        patience, deadline = story.moves.patience, time.monotonic() + CALL
        while True:
            error = attempt(partial(self._client.start, story.container, patience))
            story.start_answer = str(error or "OK")
            if error is None:
                self._started(story)
                return
            if broken(error):
                story.broken, patience = True, CALL
            elif self._truth.state(story.container) != CREATED:
                self._refused(story, error)
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"StartContainer has no definite answer: {error}")
            self._insistence.wait()

    def _started(self, story: Story) -> None:
        called = Hook.POST_START not in story.moves.hooks or bool(self._witness.calls(story, Hook.POST_START))
        state = self._truth.state(story.container)
        deadline = time.monotonic() + _SHOWN
        # hookshim knows an end from the task, which CRI shows a moment later
        while not called and story.may_end and state == RUNNING and time.monotonic() < deadline:
            self._insistence.wait()
            state = self._truth.state(story.container)
        # containerd may have been killed right after the answer, and have missed the end
        ended = story.may_end and state in (EXITED, _UNKNOWN)
        story.expect(right=called or ended, expected="PostStart called before StartContainer's OK", seen="no call")
        if story.moves.overtake is None:
            story.expect(right=state == RUNNING or ended, expected="it runs when StartContainer is OK", seen=state)

    def _refused(self, story: Story, error: CRIError) -> None:
        moves = story.moves
        fails = Hook.POST_START in moves.hooks and moves.hooks[Hook.POST_START].fails
        if error.code is grpc.StatusCode.FAILED_PRECONDITION and fails:
            story.ended_by.append(time.time_ns())
            return
        overtaken = error.code is grpc.StatusCode.ABORTED and moves.overtake is not None
        excused = story.broken or story.may_end or overtaken
        story.expect(right=excused, expected="no refusal of a start with which nothing had broken", seen=error)

    def _end(self, story: Story, never: threading.Event) -> None:
        """End a running container by a call in which containerd itself kills it."""
        self._aim(story, Phase.END, never)
        if story.moves.ending is Ending.REMOVE:
            self._remove(story)
            return
        if story.moves.ending is Ending.REMOVE_POD:
            self.lodging.leave(Ending.REMOVE_POD)
        else:
            self.lodging.leave(Ending.STOP_POD, Ending.REMOVE_POD, between=partial(self._pod_stopped, story))
        story.removed = True

    def _pod_stopped(self, story: Story) -> None:
        state = self._look(story)
        story.expect(right=state == EXITED, expected="it has ended when StopPodSandbox is OK", seen=state)

    def _remove(self, story: Story) -> None:
        refusal = self._insistence.accomplish(partial(self._client.remove, story.container, CALL), REFUSALS)
        story.expect(right=refusal is None, expected="it can be removed", seen=refusal)
        story.removed = refusal is None
        if story.removed:
            state = self._truth.state(story.container)
            story.expect(right=state == GONE, expected="it is gone when RemoveContainer is OK", seen=state)

    def _stop(self, story: Story, never: threading.Event) -> None:
        """StopContainer until it is answered, perhaps by two callers; or by one who leaves, if it was accepted."""
        moves = story.moves
        first = not story.stop_answers
        if first:
            self._aim(story, Phase.END, never)
        if moves.walks is not None and first:
            self._walk(story, moves.walks)
            return
        second = None
        if moves.second_grace is not None and first:
            second = later(copy_context().run, self._stop_once, story, moves.second_grace, moves.rest)
        self._stop_once(story, moves.grace, 0.0)
        if second is not None:
            second.result()

    def _walk(self, story: Story, patience: float) -> None:
        """Stop it and leave. What was accepted must be finished without another call."""
        error = attempt(partial(self._stop_call, story, story.moves.grace, patience))
        story.stop_answers.append(str(error or "OK"))
        if error is None:
            story.ended_by.append(time.time_ns())
            return
        began = time.monotonic()
        while self._truth.state(story.container) in _ALIVE:
            self._keeps_its_word(story)
            waited = time.monotonic() - began
            if waited > CALL:
                story.expect(right=False, expected="an accepted stop is finished", seen=f"running after {CALL:g} s")
                return
            if waited > _ACCEPTANCE and not self._memory.stops(story.container):
                return
            self._insistence.wait()

    def _stop_once(self, story: Story, grace: int, after: float) -> None:
        self._over.wait(after)
        refusal = self._insistence.accomplish(partial(self._stop_call, story, grace))
        story.stop_answers.append(str(refusal or "OK"))
        if refusal is None:
            story.ended_by.append(time.time_ns())
        story.expect(right=refusal is None, expected="StopContainer is OK in the end", seen=refusal)

    def _stop_call(self, story: Story, grace: int, patience: float | None = None) -> None:
        try:
            self._client.stop(story.container, grace, patience)
        except CRIError:
            self._keeps_its_word(story)
            raise

    def _keeps_its_word(self, story: Story) -> None:
        """An operation that is done is no promise any more: its container has ended."""
        if not self._memory.stopped(story.container):
            return
        state = self._truth.state(story.container)
        story.expect(right=state not in _ALIVE, expected="a stop that is done has ended its container", seen=state)

    def _aim(self, story: Story, phase: Phase, never: threading.Event) -> None:
        kill, death = story.moves.kill, story.moves.death
        if kill is not None and kill.phase is phase:
            self._keeper.aim(kill)
        if death is not None and death.phase is phase and death.manner is not Manner.EXITS:
            later(self._slayer.slay, story, death, never)
