"""What a round does, as data; ``drawing`` draws it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from shim.plan import GRACE_KEY

#: The annotation that declares hooks.
KEY = "hookshim.dev/lifecycle"

#: What the hooks' own file is called in a container, in a directory that the node sees too.
INSIDE = "/soak"

#: An exec hook that fails exits with this, and a container that ends by itself with that.
EXEC_FAILURE, OWN_EXIT = 3, 7

#: Seconds of grace that the pod names: for timeout 0, for the calls in which containerd kills, and after a PostStart.
POD_GRACE = 5


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


class Victim(StrEnum):
    """Whose process gets SIGKILL."""

    HOOKSHIM = "hookshim"
    CONTAINERD = "containerd"
    BOTH = "hookshim and containerd"


class Manner(StrEnum):
    """How a container ends without a call: its process exits, is killed, or all of its cgroup is, as by the OOM killer.

    In the last, a hook's command is seen ended before its container is.
    """

    EXITS = "exits"
    KILLED = "is killed"
    OOM = "is killed with all in its cgroup"


@dataclass(frozen=True, slots=True)
class HookMove:
    """One declared hook: it takes ``seconds`` and then succeeds or ``fails``."""

    kind: Kind
    seconds: float
    fails: bool


@dataclass(frozen=True, slots=True)
class Kill:
    """``victim`` is killed ``after`` seconds from the moment at which the caller makes that call.

    ``down``: seconds until containerd is started again. ``hookshim_first``: of both, it is started before containerd.
    """

    phase: Phase
    after: float
    victim: Victim
    down: float
    hookshim_first: bool


@dataclass(frozen=True, slots=True)
class Death:
    """The container ends by itself, ``after`` seconds from the first sight of its process in that phase.

    ``alone``: nobody stops it. One that exits counts from its beginning, whatever the phase.
    """

    manner: Manner
    phase: Phase
    after: float
    alone: bool


@dataclass(frozen=True, slots=True)
class Round:
    """One container's life. All times are in seconds.

    ``patience`` bounds the caller's first StartContainer; ``overtake``: the stop is sent so long after the start,
    without waiting for its answer (None: after it was answered, and ``rest`` more); ``finish``: how long the process
    takes from TERM to its end; ``second_grace``: another caller sends a stop with this grace later; ``walks``: the
    caller of the stop waits so long for its answer and does not come back, if the stop was accepted; ``remove``:
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
    walks: float | None
    finish: float
    remove: bool
    kill: Kill | None
    death: Death | None

    def describe(self) -> str:
        """All of it in a line, for whom it went wrong."""
        hooks = ", ".join(
            f"{hook} {move.kind} {move.seconds:g} s{' fails' if move.fails else ''}"
            for hook, move in self.hooks.items()
        )
        parts = [hooks or "no hooks", f"start waits {self.patience:g} s", f"runs {self.rest:.2f} s"]
        if self.overtake is not None:
            parts.append(f"stop after {self.overtake:.3f} s unanswered")
        second = "" if self.second_grace is None else f" and {self.second_grace}"
        parts += [f"{self.ending}", f"grace {self.grace}{second} s", f"ends in {self.finish:g} s"]
        if self.walks is not None:
            parts.append(f"its caller leaves after {self.walks:.3f} s")
        if self.death is not None:
            alone = ", nobody stops it" if self.death.alone else ""
            parts.append(f"{self.death.manner} {self.death.after:.3f} s into {self.death.phase}{alone}")
        if self.kill is not None:
            down = "" if self.kill.victim is Victim.HOOKSHIM else f", down {self.kill.down:.2f} s"
            parts.append(f"{self.kill.victim} killed {self.kill.after:.3f} s into {self.kill.phase}{down}")
        return ", ".join(parts)

    def command(self) -> list[str]:
        """The container's command: TERM ends it ``finish`` seconds later."""
        life = "while :; do sleep 3600 & wait; done"
        if self.death is not None and self.death.manner is Manner.EXITS:
            life = f"sleep {self.death.after:.3f} & wait; exit {OWN_EXIT}"
        return ["sh", "-c", f"trap 'sleep {self.finish:g}; exit 0' TERM; {life}"]

    def annotations(self, host: str, port: int, attempt: int) -> dict[str, str]:
        """The grace and the declaration; http hooks call the receiver at ``host`` and ``port``."""
        handlers = {hook: self._handler(hook, move, host, port, attempt) for hook, move in self.hooks.items()}
        return {GRACE_KEY: str(POD_GRACE), **({KEY: json.dumps(handlers)} if handlers else {})}

    def path(self, hook: Hook, attempt: int) -> str:
        """What an http hook of the container that this attempt has created asks the receiver for."""
        return f"/{self.number}/{attempt}/{hook}"

    def _handler(self, hook: Hook, move: HookMove, host: str, port: int, attempt: int) -> dict[str, object]:
        if move.kind is Kind.HTTP:
            return {"httpGet": {"host": host, "port": port, "path": self.path(hook, attempt)}}
        status = EXEC_FAILURE if move.fails else 0
        # the call is counted first: a hook that is killed while it sleeps was called
        script = f"echo {hook} >>{INSIDE}/calls; sleep {move.seconds:g}; exit {status}"
        return {"exec": {"command": ["sh", "-c", script]}}
