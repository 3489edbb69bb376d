"""Kills hookshim and containerd when it is aimed at them, and starts them again, also amid a start or a recovery.

Each hookshim has one of the front doors, whichever is drawn: what one has begun, the other may have to finish.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from random import Random

from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.fronts import FRONTS, front_env
from tests.support.hookshimd import Hookshim
from tests.support.later import later
from tests.support.soak.calls import HUNG, Calls
from tests.support.soak.loss import lost_ends
from tests.support.soak.moves import Kill, Victim
from tests.support.waiting import PATIENCE

#: How often a daemon that is starting is killed as well.
_AGAIN = 0.3

#: Seconds from its socket's opening within which it then happens: recovery, and the first deliveries sent again.
_RECOVERY = 0.25

#: Seconds between two looks at the daemons.
_LOOK = 0.01

#: Seconds for which hookshim is asked whether it serves: so long that an answer that does not come is a call that hung.
_ANSWER = HUNG + 5.0


class Keeper:
    """The only hand on both processes. Its thread is started by start() and ended by finish() or abandon()."""

    def __init__(self, daemon: Hookshim, containerd: PrivateContainerd, calls: Calls, seed: int) -> None:
        self._daemon = daemon
        self._containerd = containerd
        self._calls = calls
        self._chance = Random(f"{seed} keeper")
        self._doors = Random(f"{seed} doors")
        self._lock = threading.Lock()
        self._aimed: list[tuple[float, Kill]] = []
        self._over = threading.Event()
        self._rested_at = 0.0
        #: How long the log was when the daemon was started.
        self._seen = 0
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)
        #: How often each was killed; of both at once, each counts.
        self.kills: Counter[Victim] = Counter()
        #: How many daemons were started with each front door.
        self.fronts: Counter[str] = Counter()
        #: The front door of the last daemon that was started.
        self.front = ""
        #: How many kills were not made, since a call was overdue that they would have ended.
        self.spared = 0
        #: Containers whose end containerd had lost while calls waited for it: it was started again.
        self.mended: set[str] = set()
        #: What went wrong with the daemons themselves.
        self.problems: list[str] = []

    def start(self) -> None:
        """Start hookshim and wait until it serves."""
        self._begin()
        self._daemon.wait_until_serving()
        self._thread.start()

    def aim(self, kill: Kill) -> None:
        """Do that so long from now, unless something is down then or has hardly been up."""
        with self._lock:
            self._aimed.append((time.monotonic() + kill.after, kill))

    def finish(self) -> None:
        """Kill no more, and see that hookshim serves. Raises RuntimeError, TimeoutError."""
        self.abandon()
        with self._calls.upset():
            if not self._containerd.running:
                self._containerd.launch()
            if not self._daemon.running:
                self._begin()
        self._daemon.wait_until_serving(2 * PATIENCE)

    def abandon(self) -> None:
        """Kill no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _keep(self) -> None:
        try:
            while not self._over.wait(_LOOK):
                self._none_ended()
                self._mend()
                if kill := self._hit():
                    self._strike(kill)
        except Exception as error:  # noqa: BLE001 - shown at the end, with all the rest
            self.problems.append(f"the daemons cannot be kept: {type(error).__name__}: {error}")

    def _none_ended(self) -> None:
        """Start again what ended without being killed; that is a problem."""
        if not self._daemon.running:
            self.problems.append(f"hookshim ended by itself with {self._daemon.exit_status}:\n{self._daemon.tail()}")
            with self._calls.upset():
                self._serve()
        if not self._containerd.running:
            self.problems.append("containerd ended by itself")
            with self._calls.upset():
                self._containerd.launch()

    def _mend(self) -> None:
        """Start containerd again if calls hang since it has lost a container's end, as only that helps."""
        lost = set[str]()
        if self._calls.hanging:
            # a containerd that does not answer has lost nothing: the call that hangs is told
            with suppress(CRIError, RuntimeError):
                lost = lost_ends(self._containerd)
        if not lost:
            return
        self.mended |= lost
        self._calls.excuse()
        with self._calls.upset():
            self._containerd.restart()

    def _hit(self) -> Kill | None:
        now = time.monotonic()
        with self._lock:
            due = [kill for at, kill in self._aimed if at <= now]
            self._aimed = [(at, kill) for at, kill in self._aimed if at > now]
        if not due or now < self._rested_at:
            return None
        if self._calls.overdue:
            self.spared += 1
            return None
        return due[0]

    def _strike(self, kill: Kill) -> None:
        down_at = time.monotonic()
        with self._calls.upset():
            self._kill_and_start(kill)
        self._until(self._serves)
        # On a slow machine, too, callers are to get on between two kills.
        now = time.monotonic()
        self._rested_at = now + min(now - down_at, PATIENCE) / 2

    def _kill_and_start(self, kill: Kill) -> None:
        hookshim, containerd = kill.victim is not Victim.CONTAINERD, kill.victim is not Victim.HOOKSHIM
        if containerd:
            self._containerd.kill()
            self.kills[Victim.CONTAINERD] += 1
        if hookshim:
            self._kill()
        if containerd:
            if hookshim and kill.hookshim_first:
                self._launch()
            self._over.wait(kill.down)
            # hookshim may be started, and killed again, while containerd starts
            launched = later(self._containerd.launch)
            self._serve()
            launched.result()
        else:
            self._serve()

    def _kill(self) -> None:
        self._daemon.kill()
        self.kills[Victim.HOOKSHIM] += 1

    def _serve(self) -> None:
        """Start hookshim if it does not run, and perhaps kill it again while it starts or finds its way back."""
        if not self._daemon.running:
            self._launch()
        while not self._over.is_set() and self._chance.random() < _AGAIN:
            pause = self._chance.uniform(0.0, _RECOVERY)
            if self._until(self._listens) and not self._over.wait(pause):
                self._kill()
                self._launch()

    def _launch(self) -> None:
        self._seen = self._daemon.log.stat().st_size
        self._begin()

    def _begin(self) -> None:
        self.front = self._doors.choice(FRONTS)
        self._daemon.start(front_env(self.front), wait=False)
        self.fronts[self.front] += 1

    def _until(self, look: Callable[[], bool]) -> bool:
        """Whether that came true; not if the daemon has ended, or no more is to be done."""
        deadline = time.monotonic() + 2 * PATIENCE
        while self._daemon.running and not self._over.wait(_LOOK):
            if look():
                return True
            if time.monotonic() > deadline:
                self.problems.append(f"hookshim does not serve {2 * PATIENCE:g} s after its start")
                return False
        return False

    def _listens(self) -> bool:
        with self._daemon.log.open("rb") as log:
            log.seek(self._seen)
            whole = (line for line in log if line.startswith(b"{") and line.endswith(b"}\n"))
            return any(json.loads(line).get("event") == "listening" for line in whole)

    def _serves(self) -> bool:
        try:
            self._daemon.cri.version(_ANSWER)
        except CRIError:
            return False
        return True
