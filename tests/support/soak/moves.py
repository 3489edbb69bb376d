"""What a round does, drawn from the seed and the round's number alone, so that a seed can be repeated."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from random import Random

#: The annotation that declares hooks.
KEY = "hookshim.dev/lifecycle"

#: What the hooks' own file is called in a container, in a directory that the node sees too.
INSIDE = "/soak"

#: An exec hook that fails exits with this.
EXEC_FAILURE = 3


class Hook(StrEnum):
    """The two moments; the values are Kubernetes' field names."""

    POST_START = "postStart"
    PRE_STOP = "preStop"


class Kind(StrEnum):
    """The two handlers; the values are Kubernetes' field names."""

    EXEC = "exec"
    HTTP = "httpGet"


class Phase(StrEnum):
    """Which of the caller's calls a kill is aimed at."""

    START = "start"
    END = "end"


class Ending(StrEnum):
    """The calls that end a running container, by CRI's names. In the last three, containerd itself kills."""

    STOP = "StopContainer"
    REMOVE = "RemoveContainer"
    STOP_POD = "StopPodSandbox"
    REMOVE_POD = "RemovePodSandbox"


@dataclass(frozen=True, slots=True)
class HookMove:
    """One declared hook: it takes ``seconds`` and then succeeds or ``fails``."""

    kind: Kind
    seconds: float
    fails: bool


@dataclass(frozen=True, slots=True)
class Kill:
    """Hookshim is killed ``after`` seconds from the moment at which the caller makes that call."""

    phase: Phase
    after: float


@dataclass(frozen=True, slots=True)
class Round:
    """One container's life. All times are in seconds.

    ``patience`` bounds the caller's first StartContainer; ``overtake``: the stop is sent so long after the start,
    without waiting for its answer (None: after it was answered, and ``rest`` more); ``finish``: how long the process
    takes from TERM to its end; ``second_grace``: another caller sends a stop with this grace later; ``remove``:
    it is removed before its pod is.
    """

    number: int
    hooks: dict[Hook, HookMove]
    patience: float
    rest: float
    overtake: float | None
    ending: Ending
    grace: int
    second_grace: int | None
    finish: float
    remove: bool
    kill: Kill | None

    def describe(self) -> str:
        """All of it in a line, for whom it went wrong."""
        hooks = ", ".join(
            f"{hook} {move.kind} {move.seconds:g} s{' fails' if move.fails else ''}"
            for hook, move in self.hooks.items()
        )
        overtake = "" if self.overtake is None else f", stop after {self.overtake:g} s unanswered"
        kill = f", kill {self.kill.after:.3f} s into {self.kill.phase}" if self.kill else ""
        second = "" if self.second_grace is None else f" and {self.second_grace}"
        return (
            f"{hooks or 'no hooks'}, start waits {self.patience:g} s, runs {self.rest:.2f} s{overtake}, "
            f"{self.ending}, grace {self.grace}{second} s, ends in {self.finish:g} s{kill}"
        )

    def command(self) -> list[str]:
        """The container's command: TERM ends it ``finish`` seconds later."""
        return ["sh", "-c", f"trap 'sleep {self.finish:g}; exit 0' TERM; while :; do sleep 3600 & wait; done"]

    def annotations(self, host: str, port: int) -> dict[str, str]:
        """The declaration; http hooks call the receiver at ``host`` and ``port``."""
        handlers = {hook: self._handler(hook, move, host, port) for hook, move in self.hooks.items()}
        return {KEY: json.dumps(handlers)} if handlers else {}

    def path(self, hook: Hook) -> str:
        """What an http hook of this round asks the receiver for."""
        return f"/{self.number}/{hook}"

    def _handler(self, hook: Hook, move: HookMove, host: str, port: int) -> dict[str, object]:
        if move.kind is Kind.HTTP:
            return {"httpGet": {"host": host, "port": port, "path": self.path(hook)}}
        status = EXEC_FAILURE if move.fails else 0
        # the call is counted first: a hook that is killed while it sleeps was called
        script = f"echo {hook} >>{INSIDE}/calls; sleep {move.seconds:g}; exit {status}"
        return {"exec": {"command": ["sh", "-c", script]}}


def draw(seed: int, number: int) -> Round:
    """The round of that number."""
    chance = Random(f"{seed} round {number}")
    hooks = {}
    if chance.random() >= 0.1:
        hooks = {hook: _hook(chance) for hook in Hook if chance.random() < 0.75}
    longest = max((move.seconds for move in hooks.values()), default=0.0)
    overtake = chance.uniform(0.0, 0.3) if chance.random() < 0.1 else None
    other = overtake is None and chance.random() < 0.3
    return Round(
        number=number,
        hooks=hooks,
        patience=chance.choice((0.3, 2.0)) if chance.random() < 0.15 else 120.0,
        rest=chance.choice((0.0, chance.uniform(0.0, 0.3))),
        overtake=overtake,
        ending=chance.choice((Ending.REMOVE, Ending.STOP_POD, Ending.REMOVE_POD)) if other else Ending.STOP,
        grace=chance.choice((0, 2, 3, 5, 10)),
        second_grace=chance.choice((0, 1, 2, 8)) if chance.random() < 0.15 else None,
        finish=chance.choice((0.0, 0.0, 0.3)),
        remove=chance.random() < 0.5,
        kill=_kill(chance, longest) if chance.random() < 0.6 else None,
    )


def _hook(chance: Random) -> HookMove:
    seconds = chance.choice((0.0, 0.0, 0.2, 1.0))
    return HookMove(chance.choice(tuple(Kind)), seconds, fails=chance.random() < 0.2)


def _kill(chance: Random, longest: float) -> Kill:
    # half of them while the runtime or the journal is at work, half while a hook may be running
    after = chance.choice((chance.uniform(0.0, 0.15), chance.uniform(0.0, longest + 0.4)))
    return Kill(chance.choice(tuple(Phase)), after)
