"""The event loop's own metrics: a loop that is held shows, and so does what it uses."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress

from prometheus_client import CollectorRegistry

from server.metrics import Metrics
from server.metrics.loop import LoopMetrics, cpu_of_this_thread

#: Seconds for which the loop is held: longer than the pause between two looks.
HELD = 0.4


def looks(registry: CollectorRegistry, above: float) -> float:
    """How many looks came later than ``above`` seconds."""
    name = "hookshim_event_loop_lag_seconds"
    late = registry.get_sample_value(f"{name}_bucket", {"le": str(above)})
    return (registry.get_sample_value(f"{name}_count") or 0.0) - (late or 0.0)


async def test_a_loop_that_is_held_shows() -> None:
    """Whatever holds it for longer than between two looks is seen, as long as it was."""
    registry = CollectorRegistry()
    following = asyncio.create_task(LoopMetrics(registry).follow())
    await asyncio.sleep(0)
    time.sleep(HELD)  # noqa: ASYNC251 - this is what is to be seen
    async with asyncio.timeout(30):
        while not looks(registry, 0.0 + 0.1):  # noqa: ASYNC110 - the look that comes next tells nobody
            await asyncio.sleep(0.01)
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following


def test_the_cpu_of_a_thread_is_read_from_any_other() -> None:
    """And is that one's alone: it grows with what that one does, not with what the others do."""
    read = cpu_of_this_thread()
    before, own = read(), time.thread_time()
    seen: list[float] = []

    def elsewhere() -> None:
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass
        seen.append(read())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert before <= seen[0] <= time.thread_time() - own + before + 0.01


async def test_the_text_of_all_metrics_lets_the_loop_run_between_two_of_them() -> None:
    """A call waits for one metric's text at most, and not for that of all: only one thread at a time runs Python."""
    metrics = Metrics(time.time)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    text = await metrics.render()
    turning.cancel()
    assert turns >= text.count("# TYPE ") / 2
