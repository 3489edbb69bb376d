"""One scene of the matrix of ends: a pod with a container of each kind of hook, ended in one way, by certain callers.

It only does and looks; what is right is the test's to say.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from shim.plan import GRACE_KEY
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIClient, CRIError, unique
from tests.support.hookshimd import Hookshim
from tests.support.later import later
from tests.support.receiver import Behaviour, Receiver
from tests.support.signals import SignalLog, logging_container, logging_hook
from tests.support.stage import KEY, exec_hook, http_hook
from tests.support.unknown import make_unknown
from tests.support.waiting import until

#: Seconds that a slow hook takes.
SLOW_SECONDS = 0.5

#: Seconds of grace that no hook but the hanging one uses up, and that one's. 2 is the least that a pod call gives.
GRACE, SHORT_GRACE = 30, 2

#: Seconds of grace of a first stop that a second one shortens.
LONG_GRACE = 60

_FOREVER = 3600.0


class Way(StrEnum):
    """How a client ends a container."""

    STOP = "StopContainer"
    STOP_POD = "StopPodSandbox"
    REMOVE = "RemoveContainer"
    REMOVE_POD = "RemovePodSandbox"

    @property
    def of_pod(self) -> bool:
        """Whether one call ends all containers of a pod."""
        return self in (Way.STOP_POD, Way.REMOVE_POD)


class State(StrEnum):
    """How the container stands before."""

    RUNNING = "CONTAINER_RUNNING"
    EXITED = "CONTAINER_EXITED"
    CREATED = "CONTAINER_CREATED"
    UNKNOWN = "CONTAINER_UNKNOWN"

    @property
    def alive(self) -> bool:
        """Whether there is a process to end."""
        return self in (State.RUNNING, State.UNKNOWN)


class Kind(StrEnum):
    """What its PreStop does."""

    NONE = "no hook"
    FAST = "fast"
    SLOW = "slow"
    FAILING = "failing"
    HANGING = "hanging"


class Callers(StrEnum):
    """Who makes the call."""

    ONE = "one caller"
    TWO = "two callers"
    GONE = "caller gone"
    SHORTER = "shorter second timeout"


@dataclass(frozen=True, slots=True)
class Act:
    """What is played with a pod."""

    way: Way
    state: State
    callers: Callers


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one container.

    ``words`` and ``asked`` are the container's and the receiver's side: its log, with the seconds of each line, and the
    seconds (of the boot's clock) at which its hook's request came. ``deliveries`` and ``events`` are the journal's;
    ``left_as`` and ``state`` containerd's own word (None: removed), before a caller that had gone came back, and at
    last. ``answers`` are what the callers were told, as ``CODE: message``.
    """

    words: list[str]
    times: list[float]
    asked: list[float]
    deliveries: list[dict[str, Any]]
    events: list[dict[str, Any]]
    answers: list[str]
    left_as: str | None
    state: str | None


class Bed:
    """A containerd, a daemon in front of it, and a receiver, for many scenes one after another."""

    def __init__(self, containerd: PrivateContainerd, daemon: Hookshim, receiver: Receiver, directory: Path) -> None:
        self.containerd = containerd
        self.daemon = daemon
        self.receiver = receiver
        self.directory = directory

    def play(self, act: Act) -> dict[Kind, Seen]:
        """The scene from its beginning to its end; afterwards the containerd has no pods."""
        pod = self.daemon.cri.run_pod(unique("scene"))
        cast = {kind: _Player(self, act, pod, kind) for kind in Kind}
        ids = [player.id for player in cast.values()]
        if act.state is State.UNKNOWN:
            make_unknown(self.containerd, ids)
            self.daemon.wait_until_serving()
        if act.way.of_pod:
            answers = dict.fromkeys(cast, _Calls(self, act, list(cast.values()), pod).make())
        else:
            calls = {kind: later(_Calls(self, act, [player], pod).make) for kind, player in cast.items()}
            answers = {kind: call.result(120) for kind, call in calls.items()}
        seen = {kind: player.seen(*answers[kind]) for kind, player in cast.items()}
        self.containerd.clear()
        return seen

    def states(self) -> dict[str, str]:
        """Every container that containerd has, and its state."""
        return {found.id: State(_NAMES[found.state]) for found in self.containerd.cri.list()}


_NAMES = ("CONTAINER_CREATED", "CONTAINER_RUNNING", "CONTAINER_EXITED", "CONTAINER_UNKNOWN")


class _Player:
    """One container of a scene, in the state in which the act finds it."""

    def __init__(self, bed: Bed, act: Act, pod: str, kind: Kind) -> None:
        self._bed = bed
        self._act = act
        self.kind = kind
        self.path = f"/{unique(kind.name.lower())}"
        self._log = SignalLog(bed.directory / self.path[1:])
        cri = bed.daemon.cri
        self.id = cri.create(
            pod,
            kind.name.lower(),
            ["true"] if act.state is State.EXITED else logging_container(),
            annotations=self._annotations(),
            mounts=self._log.mounts,
        )
        if act.state is not State.CREATED:
            cri.start(self.id)
        if act.state is State.EXITED:
            until(lambda: cri.state(self.id) == State.EXITED, "the container has ended by itself")
        elif act.state.alive:
            self._log.wait_for("started")

    def _annotations(self) -> dict[str, str]:
        lifecycle = self._lifecycle()
        grace = {GRACE_KEY: str(SHORT_GRACE if self.kind is Kind.HANGING else GRACE)}
        return {**grace, KEY: json.dumps(lifecycle)} if lifecycle else grace

    def _lifecycle(self) -> dict[str, Any]:
        if self.kind is Kind.NONE:
            return {}
        # In a container that CRI calls unknown, the native API runs a command all the same; the others show the rest.
        if self._act.state is State.UNKNOWN and self.kind is not Kind.FAILING:
            delay = {Kind.SLOW: SLOW_SECONDS, Kind.HANGING: _FOREVER}.get(self.kind, 0.0)
            self._bed.receiver.behave(self.path, Behaviour(delay=delay))
            return {"preStop": http_hook(self._bed.receiver, self.path)}
        seconds = {Kind.SLOW: SLOW_SECONDS, Kind.HANGING: _FOREVER}.get(self.kind, 0.0)
        status = 3 if self.kind is Kind.FAILING else 0
        return {"preStop": exec_hook(logging_hook("preStop", seconds=seconds, exit_status=status))}

    def begun(self) -> bool:
        """Whether ending it has had an effect that a caller's leaving might spoil."""
        if not self._act.state.alive:
            return True
        if self.kind is Kind.NONE:
            return self._act.way is not Way.STOP or "TERM" in self._log.words()
        return bool(self.deliveries() and (self._asked() or self._log.words()[1:] or self.kind is Kind.FAILING))

    def over(self) -> bool:
        """Whether what was accepted is finished: containerd shows no process of it any more."""
        return self._bed.states().get(self.id) not in (State.RUNNING, State.UNKNOWN)

    def deliveries(self) -> list[dict[str, Any]]:
        """Its deliveries."""
        return [delivery for delivery in self._bed.daemon.deliveries() if delivery["container_id"] == self.id]

    def _asked(self) -> list[float]:
        return [request.at + _offset() for request in self._bed.receiver.seen(self.path)]

    def seen(self, answers: list[str], left_as: dict[str, str]) -> Seen:
        """What became of it."""
        # A stop's last record follows its answer to containerd, not the caller's answer, if the caller has gone.
        until(lambda: all(delivery["finished_at"] for delivery in self.deliveries()), "no delivery is open")
        entries = self._log.entries()
        return Seen(
            words=[entry.what for entry in entries],
            times=[entry.at for entry in entries],
            asked=self._asked(),
            deliveries=self.deliveries(),
            events=[event for event in self._bed.daemon.events() if event["container_id"] == self.id],
            answers=answers,
            left_as=left_as.get(self.id),
            state=self._bed.states().get(self.id),
        )


class _Calls:
    """The calls that one scene makes of one container, or of its whole pod."""

    def __init__(self, bed: Bed, act: Act, players: list[_Player], pod: str) -> None:
        self._bed = bed
        self._act = act
        self._players = players
        self._pod = pod
        hangs = any(player.kind is Kind.HANGING for player in players)
        self._grace = SHORT_GRACE if hangs else GRACE

    def make(self) -> tuple[list[str], dict[str, str]]:
        """What the callers were told, and how containerd shows its containers when all that was accepted is over."""
        with CRIClient(self._bed.daemon.socket) as client:
            ways: dict[Callers, Callable[[CRIClient], list[Future[None]]]] = {
                Callers.ONE: lambda client: [later(self._end, client, self._grace)],
                Callers.TWO: lambda client: [later(self._end, client, self._grace) for _ in range(2)],
                Callers.GONE: lambda _: [self._leave()],
                Callers.SHORTER: self._shorten,
            }
            answers = [_told(future) for future in ways[self._act.callers](client)]
            accepted = [player for player in self._players if player.kind is not Kind.NONE]
            for player in accepted:
                until(player.over, "what was accepted is finished")
            left_as = self._bed.states()
            if self._act.callers is Callers.GONE or any(answer != "OK" for answer in answers):
                until(lambda: self._again(client), "the call is answered OK when it is made again")
            return answers, left_as

    def _end(self, client: CRIClient, grace: int) -> None:
        match self._act.way:
            case Way.STOP:
                client.stop(self._players[0].id, grace)
            case Way.REMOVE:
                client.remove(self._players[0].id)
            case Way.STOP_POD:
                client.stop_pod(self._pod)
            case Way.REMOVE_POD:
                client.remove_pod(self._pod)

    def _again(self, client: CRIClient) -> bool:
        """As every client does: containerd may still be at the last one, and says so in one way or another."""
        try:
            self._end(client, self._grace)
        except CRIError:
            return False
        return True

    def _begun(self) -> bool:
        return all(player.begun() for player in self._players)

    def _leave(self) -> Future[None]:
        with CRIClient(self._bed.daemon.socket) as leaving:
            call = later(self._end, leaving, self._grace)
            until(self._begun, "what is to be ended has noticed")
        return call

    def _shorten(self, client: CRIClient) -> list[Future[None]]:
        first = later(self._end, client, LONG_GRACE)
        until(self._begun, "the first stop has begun")
        return [first, later(self._end, client, self._grace)]


def _told(call: Future[None]) -> str:
    error = call.exception(120)
    if error is None:
        return "OK"
    if isinstance(error, CRIError):
        return f"{error.code.name}: {error.message}"
    if isinstance(error, ValueError) and "Channel closed" in str(error):
        return "CANCELLED: the caller had gone before it called"
    raise error


def _offset() -> float:
    """What the receiver's clock lacks of the boot's."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
