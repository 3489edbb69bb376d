"""Named places where a test can end the process, between every two steps that matter.

``HOOKSHIM_FAILPOINTS="stop.accepted=kill"`` makes the daemon send itself SIGKILL there; ``=kill@3`` at the third
pass; ``=hold(FILE)`` writes FILE and waits until it is removed. Several are separated by commas. Nothing is armed
without the variable; what is armed is logged loudly at start (``describe``).
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from shim.errors import HookshimError


class Failpoint(StrEnum):
    """Every place. ``X.accept`` stands before the commit that accepts X, ``X.accepted`` right after it."""

    START_ACCEPT = "start.accept"
    START_ACCEPTED = "start.accepted"
    START_ANSWERED = "start.answered"
    START_COMMITTED = "start.committed"
    POST_START_RAN = "postStart.ran"
    POST_START_COMMITTED = "postStart.committed"
    STOP_ACCEPT = "stop.accept"
    STOP_ACCEPTED = "stop.accepted"
    PRE_STOP_RAN = "preStop.ran"
    PRE_STOP_COMMITTED = "preStop.committed"
    STOP_ANSWERED = "stop.answered"
    STOP_COMMITTED = "stop.committed"
    HOOK_SENT = "hook.sent"
    HOOK_POSTPONED = "hook.postponed"
    OWNER_ACCEPT = "owner.accept"
    OWNER_ACCEPTED = "owner.accepted"
    RECOVERY_RECONCILE = "recovery.reconcile"
    RECOVERY_RECONCILED = "recovery.reconciled"
    RECOVERY_SEND = "recovery.send"
    RECOVERY_SENT = "recovery.sent"


class FailpointError(HookshimError):
    """HOOKSHIM_FAILPOINTS does not parse."""


@dataclass(slots=True)
class _Armed:
    action: str
    argument: str
    passes_left: int


_TERM = re.compile(r"(?P<name>[\w.]+)=(?:kill(?:@(?P<pass>[1-9]\d*))?|hold\((?P<file>/[^(),]+)\))")


class Failpoints:
    """The armed places; an empty one costs a dictionary look-up."""

    def __init__(self, text: str = "") -> None:
        """Parse ``name=action,...``. Raises FailpointError that names the term and what was expected."""
        self._armed: dict[Failpoint, _Armed] = {}
        for term in filter(None, (part.strip() for part in text.split(","))):
            match = _TERM.fullmatch(term)
            if match is None or match["name"] not in list(Failpoint):
                names = ", ".join(Failpoint)
                raise FailpointError(
                    f"HOOKSHIM_FAILPOINTS: {term!r}: expected NAME=kill, NAME=kill@N or NAME=hold(/FILE), "
                    f"NAME one of {names}"
                )
            action = "hold" if match["file"] else "kill"
            self._armed[Failpoint(match["name"])] = _Armed(action, match["file"] or "", int(match["pass"] or 1))

    def describe(self) -> list[str]:
        """The names of what is armed."""
        return [str(name) for name in self._armed]

    async def hit(self, name: Failpoint) -> None:
        """Pass ``name``: nothing, unless it is armed."""
        armed = self._armed.get(name)
        if armed is None:
            return
        armed.passes_left -= 1
        if armed.passes_left > 0:
            return
        if armed.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        file = Path(armed.argument)
        file.touch()  # noqa: ASYNC240 - only in tests
        while file.exists():  # noqa: ASYNC110, ASYNC240 - a test's hand removes it, from another process
            await asyncio.sleep(0.01)
