"""The text of all metrics: who makes it, and that nothing that somebody else chooses makes it longer."""

from __future__ import annotations

import asyncio
import threading

from server.metrics import Metrics
from server.metrics.labels import OTHER, Reasons


async def test_the_text_is_made_beside_the_event_loop() -> None:
    """What is read takes as long as it takes: it ends here only by what the event loop does meanwhile."""
    metrics = Metrics(lambda: 0.0)
    asked, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def read() -> float:
        loop.call_soon_threadsafe(asked.set)
        return go.wait(30)

    metrics.states.gauge("hookshim_slow", "Waits for the event loop.", read)
    text = asyncio.create_task(metrics.render())
    await asked.wait()
    go.set()
    assert "hookshim_slow 1.0" in await text


def test_reasons_beyond_a_number_are_one() -> None:
    """Those that came first keep their names."""
    reasons = Reasons()
    shown = [reasons.bounded(f"Reason{number}") for number in range(100)]
    assert shown[:32] == [f"Reason{number}" for number in range(32)]
    assert set(shown[32:]) == {OTHER}
    assert reasons.bounded("Reason0") == "Reason0"
