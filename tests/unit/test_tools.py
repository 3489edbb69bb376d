"""The engine's tasks: what a shutdown waits for, and what it leaves to the next daemon."""

from __future__ import annotations

import asyncio

import pytest

from shim.tools import Tasks

pytestmark = pytest.mark.asyncio


async def test_a_shutdown_waits_for_what_runs_and_for_nothing_that_is_patient() -> None:
    """A postStop that waits a day for its receiver is as well told by the next daemon."""
    tasks, done = Tasks(), asyncio.Event()
    patient = tasks.spawn(asyncio.Event().wait(), "patient", patient=True)
    tasks.spawn(done.wait(), "work")
    idle = asyncio.create_task(tasks.idle())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not idle.done()
    done.set()
    await asyncio.wait_for(idle, 5)
    assert len(tasks) == 1
    await tasks.cancel()
    assert patient.cancelled()
    assert len(tasks) == 0
