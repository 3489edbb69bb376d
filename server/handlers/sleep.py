"""``sleep`` hooks: time that passes, so that whoever still sends to the container learns of its end first."""

from __future__ import annotations

import asyncio

from shim.actions import SleepAction
from shim.ports import Attempt
from shim.records import Outcome


class SleepHandler:
    """Carries out ``sleep`` actions (kubelet ``lifecycle/handlers.go``, runSleepHandler)."""

    async def deliver(self, attempt: Attempt) -> Outcome:
        """Sleep for as long as is declared."""
        action = attempt.handler.action
        if not isinstance(action, SleepAction):
            raise TypeError(f"a sleep handler was given {type(action).__name__}")
        await asyncio.sleep(action.seconds)
        return Outcome()

    async def find(self, attempt: Attempt) -> Outcome | None:
        """None: a sleep that hookshim's end has cut off begins anew, since nobody knows how much of it was left."""
        del attempt
        return None
