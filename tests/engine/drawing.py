"""Histories drawn from a seed, so that what is rare on a node is common here.

Each history has a mood: which kinds of things happen in it at all, and how closely. A run in which everything may
happen at any time is a run in which most things cancel each other out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import TypeVar

from shim.failpoints import Failpoint
from shim.records import Hook
from tests.engine.history import (
    Adopt,
    Containerd,
    Crash,
    CrashAt,
    CrashTwice,
    Create,
    CreateMalformed,
    Disk,
    Exit,
    Happening,
    History,
    Kill,
    Pace,
    ReadFaults,
    Reboot,
    Remove,
    RemovePod,
    Rules,
    Start,
    Stop,
    StopPod,
    StopTrouble,
    Terminate,
    Unknown,
    Vanish,
)
from tests.engine.owner_history import Retry, Skip
from tests.engine.sim_containerd import Behaviour, CutStart, Trouble
from tests.engine.sim_ports import ReadFault, Script

T = TypeVar("T")

#: Seconds between two happenings, a line for each mood: what happens closely meets.
_GAPS = (
    (0.0, 0.0, 0.001, 0.002, 0.003, 0.004, 0.006, 0.01, 0.05),
    (0.0, 0.001, 0.003, 0.006, 0.05, 0.1, 0.2, 0.4, 1.0, 2.0),
    (0.0, 0.003, 0.05, 0.4, 1.0, 2.0, 5.0, 31.0, 130.0),
)
_TIMEOUTS = (30, 30, 0, 0, 1, 2, 10, -1)
_DOWNTIMES = (0.1, 0.1, 0.0, 3.0, 40.0)
_PATIENCE = (None, None, None, 0.0, 0.001, 0.003, 0.01, 0.05, 0.5, 1.0, 2.0, 5.0)

#: Failpoints that every container's life may pass, and those of the recovery after its interruption.
_RECOVERY = tuple(place for place in Failpoint if place.startswith("recovery."))
_PLACES = tuple(place for place in Failpoint if place not in _RECOVERY)


class _Draw:
    """Draws one history."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._gaps = self._one(_GAPS)

    def history(self) -> History:
        """A container first, then whatever there is."""
        kinds = [self.stop, self.start, self.stop, *self._some(self._calls)]
        for faults in (self._crashes, self._runtime, self._containers, self._journal):
            kinds += self._some(faults) if self._often(0.4) else []
        kinds += [self.retry, self.retry, self.skip] if self._often(0.3) else []
        first = self.adopt() if self._often(0.1) else self.create()
        deaths = self._deaths()
        # a node that goes down in its recovery
        kinds += [self.reboot] if deaths and self._often(0.3) else []
        rest = [(self._one(self._gaps), self._one(kinds)()) for _ in range(self._chance.randint(3, 12))]
        rules: History = []
        if self._often(0.2):
            rules = [(0.0, self.rules())]
            rest.insert(self._chance.randint(0, len(rest)), (0.0, self.rules()))
        return [*deaths, *rules, (0.0, first), *rest]

    def _deaths(self) -> History:
        """One node in three dies at a place that a container passes, and half of these in the recovery, too."""
        if not self._often(1 / 3):
            return []
        places = [self._one(_PLACES)]
        if self._often(0.5):
            places += self._chance.sample(_RECOVERY, self._chance.randint(1, len(_RECOVERY)))
        return [(0.0, CrashAt(tuple(places), self.downtime()))]

    def _often(self, share: float) -> bool:
        return self._chance.random() < share

    def _one(self, values: Sequence[T]) -> T:
        return values[int(self._chance.random() * len(values))]

    def _some(self, kinds: Callable[[], Sequence[Callable[[], Happening]]]) -> list[Callable[[], Happening]]:
        values = kinds()
        return self._chance.sample(values, self._chance.randint(1, len(values)))

    def _calls(self) -> Sequence[Callable[[], Happening]]:
        return (self.stop, self.start, self.stop_pod, self.remove, self.remove_pod, self.create, self.exit)

    def _crashes(self) -> Sequence[Callable[[], Happening]]:
        return (self.kill, self.crash, self.crash_at, self.crash_twice, self.terminate, self.reboot)

    def _runtime(self) -> Sequence[Callable[[], Happening]]:
        return (self.containerd, self.containerd, self.stop_trouble, self.read_faults)

    def _containers(self) -> Sequence[Callable[[], Happening]]:
        return (self.exit, self.vanish, self.unknown, self.adopt, self.pace, CreateMalformed)

    def _journal(self) -> Sequence[Callable[[], Happening]]:
        return (self.disk, self.slow_disk)

    def index(self) -> int:
        """Most often the first container: what meets, meets in one."""
        return self._one((0, 0, 0, 1, 2))

    def patience(self) -> float | None:
        """Seconds until a caller leaves."""
        return self._one(_PATIENCE)

    def downtime(self) -> float:
        """Seconds until hookshim is started again."""
        return self._one(_DOWNTIMES)

    def script(self) -> Script | None:
        """A hook's handler, or no hook."""
        if self._often(0.2):
            return None
        what = self._one(("succeed", "succeed", "succeed", "fail", "hang", "raise", "exit"))
        script = Script(what, self._one((0.0, 0.01, 0.5, 0.5, 3.0, 40.0)), self._one(("exec", "http")))
        script = replace(script, survives=script.kind == "exec" and self._often(0.4))
        return self._with_policy(script) if self._often(0.3) else script

    def _with_policy(self, script: Script) -> Script:
        return replace(
            script,
            fails=self._one((0, 1, 2)),
            attempts=self._one((1, 2, 3, 3)),
            timeout=self._one((None, None, 0.1, 5.0, 50.0)),
        )

    def post_stop(self) -> Script | None:
        """Of a receiver that is there, is down for a while, or hears nothing at all within the hook's time."""
        if self._often(0.6):
            return None
        what = self._one(("succeed", "succeed", "succeed", "fail", "hang"))
        timeout = None if what == "succeed" else 100.0
        attempts = self._one((None, None, 3, 1)) if what != "succeed" else None
        return Script(
            what, self._one((0.0, 0.5, 3.0)), "http", self._one((0, 0, 1, 4)), timeout=timeout, attempts=attempts
        )

    def rules(self) -> Happening:
        """Other hooks than before, or none."""
        hooks = []
        for _ in range(self._one((0, 1, 2, 3))):
            hook = self._one((Hook.POST_START, Hook.PRE_STOP))
            script = self.script()
            if script is not None:
                ignored = hook is Hook.POST_START and self._often(0.6)
                hooks.append((hook, replace(script, kind="exec", ignore=ignored)))
        script = self.post_stop()
        if script is not None:
            hooks.append((Hook.POST_STOP, replace(script, kind="run")))
        return Rules(tuple(hooks))

    def behaviour(self) -> Behaviour:
        """A container's ways."""
        return Behaviour(
            start_takes=self._one((0.05, 0.05, 0.05, 0.05, 0.0, 0.0, 3.0, 10.0)),
            starts=self._often(0.9),
            cut_start=self._one(tuple(CutStart)),
            start_trouble=self._one(tuple(Trouble)) if self._often(0.2) else None,
            start_trouble_lasts=self._often(0.3),
            term_takes=self._one((1.0, 0.0, 10.0, None)),
            lives=self._one((None, None, None, None, 0.0, 0.5, 7.0)),
            stop_troubles=self._one(((), (), (), (self.trouble(),), (self.trouble(), self.trouble()))),
        )

    def trouble(self) -> Trouble:
        """How a call goes wrong."""
        troubles: tuple[Trouble, ...] = (*Trouble, Trouble.LOST_BEFORE, Trouble.LOST_AFTER, Trouble.REFUSED)
        return self._one(troubles)

    def create(self) -> Happening:
        """A container with hooks, mostly started."""
        deadline = self._one((0.0, 0.01, 0.06, 2.0)) if self._often(0.15) else None
        post_start, pre_stop = self.script(), self.script()
        if post_start is not None:
            post_start = replace(post_start, ignore=self._often(0.3))
        return Create(post_start, pre_stop, self.behaviour(), self._often(0.8), deadline, self.post_stop())

    def adopt(self) -> Happening:
        """A container that runs already."""
        return Adopt(self.script(), self.behaviour(), malformed=self._often(0.3))

    def start(self) -> Happening:
        """Of one that may be started already."""
        if self._often(0.5):
            return Start(self.index(), self.patience(), None)
        return Start(self.index(), None, self.patience())

    def stop(self) -> Happening:
        """Of any."""
        return Stop(self.index(), self._one(_TIMEOUTS), self.patience())

    def stop_pod(self) -> Happening:
        """Of any pod."""
        return StopPod(self.index(), self.patience())

    def remove(self) -> Happening:
        """Of any."""
        return Remove(self.index(), self.patience())

    def remove_pod(self) -> Happening:
        """Of any pod."""
        return RemovePod(self.index(), self.patience())

    def retry(self) -> Happening:
        """Of any delivery."""
        return Retry(self.index(), self._chance.randint(0, 3))

    def skip(self) -> Happening:
        """Of any delivery."""
        return Skip(self.index(), self._chance.randint(0, 3))

    def exit(self) -> Happening:
        """Of any."""
        return Exit(self.index())

    def vanish(self) -> Happening:
        """Of any."""
        return Vanish(self.index())

    def unknown(self) -> Happening:
        """Of any."""
        return Unknown(self.index())

    def containerd(self) -> Happening:
        """Away as often as back."""
        return Containerd(self._often(0.5))

    def stop_trouble(self) -> Happening:
        """Of any."""
        return StopTrouble(self.index(), self.trouble())

    def read_faults(self) -> Happening:
        """Some look-ups, of which some go well."""
        kinds = (None, None, ReadFault.LOST, ReadFault.LOST, ReadFault.HANGS, self._one(tuple(ReadFault)))
        return ReadFaults(tuple(self._one(kinds) for _ in range(self._chance.randint(1, 6))))

    def pace(self) -> Happening:
        """A slow disk that is still quick enough, a slow containerd."""
        return Pace(self._one((0.2, 0.02, 0.001)), self._one((0.002, 0.02, 0.1)))

    def disk(self) -> Happening:
        """Full, failing, or well."""
        return Disk(self._often(0.6), self._often(0.3))

    def slow_disk(self) -> Happening:
        """Slower than hookshim waits."""
        return Pace(self._one((8.0, 1.0, 0.001)), 0.002)

    def kill(self) -> Happening:
        """Now."""
        return Kill(self.downtime())

    def crash(self) -> Happening:
        """Between any two steps."""
        return Crash(self._chance.randint(0, 25), self.downtime())

    def crash_twice(self) -> Happening:
        """And in the recovery."""
        return CrashTwice(self._chance.randint(0, 25), self._chance.randint(0, 25), self.downtime())

    def crash_at(self) -> Happening:
        """A failpoint."""
        return CrashAt((self._one(tuple(Failpoint)),), self.downtime())

    def terminate(self) -> Happening:
        """With time to drain, or none."""
        return Terminate(self._one((0.0, 2.0, 10.0)))

    def reboot(self) -> Happening:
        """Of the node."""
        return Reboot()


def draw(chance: Random) -> History:
    """One history; ``chance`` is its own."""
    return _Draw(chance).history()
