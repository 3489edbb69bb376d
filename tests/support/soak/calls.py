"""Every call that the soak makes and how long it took, so that nothing which repeats calls can hide one that hangs.

What counts is the time in which nobody was killed: a call may well outlast a restart, and is as old as that then. No
kill is to be made while a call is overdue, as it would end the call before it is known to hang.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import grpc

from tests.support.cri import Around, Reply

#: Seconds without a kill after which a call hangs. What takes longest is a stop (moves: 8 s of grace, and 2 s more for
#: a hook that is sent again) after a restart of containerd, to which hookshim's tries come seconds apart.
HUNG = 25.0

#: Seconds without a kill after which a call is overdue. Almost all are over before, so that few kills are spared.
OVERDUE = 2.5

#: Seconds before its deadline at which a call may end with DEADLINE_EXCEEDED: clocks and threads are not that exact.
_EARLY = 1.0

#: Seconds between two looks at the calls under way.
_LOOK = 0.25

#: The most looks at hookshim and containerd that are taken while something hangs, and the seconds between two.
_MOST_EVIDENCE, _EVIDENCE_PAUSE = 3, 30.0

_ROUND: ContextVar[int | None] = ContextVar("round", default=None)


@contextmanager
def played(number: int) -> Iterator[None]:
    """Calls that are made in here, and in copies of this context, are the round's."""
    token = _ROUND.set(number)
    try:
        yield
    finally:
        _ROUND.reset(token)


@dataclass(eq=False, slots=True)
class Call:
    """One call. Times are in seconds of the monotonic clock.

    ``steady``: the longest time for which it was under way while nobody was killed. ``answer``: how it ended.
    """

    method: str
    socket: str
    number: int | None
    timeout: float | None
    began: float
    steady: float = 0.0
    answer: str = "not at all yet"
    #: Since when it counts, if that is not when it began.
    began_anew: float = 0.0
    #: Where it is written what was seen while it hung.
    evidence: str = ""

    def describe(self, now: float) -> str:
        """The call in a line; ``now`` is when it ended, or is looked at."""
        whose = "no round" if self.number is None else f"round {self.number}"
        bound = "no deadline" if self.timeout is None else f"a deadline of {self.timeout:g} s"
        return (
            f"{self.method} at {self.socket} ({whose}, {bound}): {now - self.began:.1f} s, "
            f"{self.steady:.1f} of them without a kill, and it ended: {self.answer}"
        )


class Calls:
    """The calls under way, and what was wrong with those before.

    ``collect`` is told which calls are under way when one hangs, and says where it has written what it saw.
    """

    def __init__(
        self, collect: Callable[[Sequence[str]], str] = lambda _calls: "", hung: float = HUNG, overdue: float = OVERDUE
    ) -> None:
        self._collect = collect
        self._hung = hung
        self._overdue = overdue
        self._lock = threading.Lock()
        self._under_way: set[Call] = set()
        self._upset = False
        self._steady_since = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="calls", daemon=True)
        self._collected_at: list[float] = []
        #: Of each round, the seconds that each call took, by its method and answer.
        self._answers: defaultdict[int, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        #: How many calls hung.
        self.hung = 0
        #: The longest that a call was under way while nobody was killed, in seconds, and which.
        self.slowest: tuple[float, str] = (0.0, "none")
        #: Each call that hung, or was told that its deadline had passed long before it had.
        self.problems: list[str] = []

    def start(self) -> None:
        """Look at the calls under way, until finish()."""
        self._thread.start()

    def finish(self) -> None:
        """Look no more; what still hangs is a problem too."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            now = self._aged()
            left, self._under_way = self._under_way, set()
            for call in left:
                self._judge(call, now)

    def through(self, socket: Callable[[], str]) -> Around:
        """What a client of this socket makes its calls through; ``socket`` names it as it is at each call's begin."""

        def around(method: str, timeout: float | None, make: Callable[[], Reply]) -> Reply:
            call = Call(method, socket(), _ROUND.get(), timeout, time.monotonic())
            with self._lock:
                self._under_way.add(call)
            reply = None
            try:
                reply = make()
            finally:
                self._ended(call, reply)
            return reply

        return around

    @contextmanager
    def upset(self) -> Iterator[None]:
        """Somebody is killed in here, and started again: what calls wait meanwhile does not count."""
        with self._lock:
            self._aged()
            self._upset = True
        try:
            yield
        finally:
            with self._lock:
                self._upset, self._steady_since = False, time.monotonic()

    def of_round(self, number: int, most: int = 3) -> str:
        """What a round's time went into: the answers that it waited for longest, and how many of each."""
        with self._lock:
            answers = self._answers[number]
            longest = sorted(answers, key=lambda what: -sum(answers[what]))[:most]
            return ", ".join(f"{len(answers[what])} {what} in {sum(answers[what]):.1f} s" for what in longest)

    @property
    def hanging(self) -> bool:
        """Whether a call hangs, and what is to be seen of that was collected."""
        with self._lock:
            return any(call.evidence for call in self._under_way)

    def excuse(self) -> None:
        """It is known why the calls hang that do: they begin anew, and it is neither theirs nor hookshim's."""
        with self._lock:
            for call in self._under_way:
                if call.evidence:
                    call.evidence, call.steady, call.began_anew = "", 0.0, time.monotonic()

    @property
    def overdue(self) -> bool:
        """Whether a call is under way that may hang, and is not to be ended by a kill."""
        with self._lock:
            now = self._aged()
            return not self._upset and any(self._age(call, now) > self._overdue for call in self._under_way)

    def _age(self, call: Call, now: float) -> float:
        return 0.0 if self._upset else now - max(call.began, call.began_anew, self._steady_since)

    def _aged(self) -> float:
        """The time now, by which all calls under way have got older."""
        now = time.monotonic()
        for call in self._under_way:
            call.steady = max(call.steady, self._age(call, now))
        return now

    def _ended(self, call: Call, reply: Reply | None) -> None:
        with self._lock:
            now = self._aged()
            if call in self._under_way:
                self._under_way.discard(call)
                call.answer = "by an exception" if reply is None else f"{reply.code.name} {reply.message}".strip()
                if call.number is not None:
                    what = f"{call.method} {call.answer.partition(' ')[0]}"
                    self._answers[call.number][what].append(now - call.began)
                self._judge(call, now)
                if reply is not None and reply.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                    self._judge_deadline(call, now)

    def _judge(self, call: Call, now: float) -> None:
        self.slowest = max(self.slowest, (call.steady, f"{call.method} at {call.socket}"))
        if call.steady >= self._hung:
            self.hung += 1
            evidence = f"; what was seen meanwhile: {call.evidence}" if call.evidence else ""
            text = f"expected: no call takes {self._hung:g} s while nobody is killed; seen: a call that hung: "
            self.problems.append(f"{text}{call.describe(now)}{evidence}")

    def _judge_deadline(self, call: Call, now: float) -> None:
        if call.timeout is None or now - call.began < call.timeout - _EARLY:
            self.problems.append(f"expected: DEADLINE_EXCEEDED at the deadline; seen: {call.describe(now)}")

    def _watch(self) -> None:
        while not self._over.wait(_LOOK):
            with self._lock:
                now = self._aged()
                hanging = [call for call in self._under_way if call.steady >= self._hung and not call.evidence]
                told = [call.describe(now) for call in sorted(self._under_way, key=lambda call: call.began)]
            if not hanging:
                continue
            evidence = self._evidence(now, told)
            with self._lock:
                for call in hanging:
                    call.evidence = evidence

    def _evidence(self, now: float, told: Sequence[str]) -> str:
        recent = self._collected_at and now - self._collected_at[-1] < _EVIDENCE_PAUSE
        if recent or len(self._collected_at) >= _MOST_EVIDENCE:
            return "as for the one before"
        self._collected_at.append(now)
        try:
            return self._collect(told)
        except Exception as error:  # noqa: BLE001 - the call that hangs must be told all the same
            return f"nothing, since {type(error).__name__}: {error}"
