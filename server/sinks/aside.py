"""Work that may take its time, beside the event loop, in a thread that nobody waits for at the process's end.

asyncio's own threads are joined when the loop closes: a receiver that hangs would hold a shutdown up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def aside(work: Callable[[], T]) -> T:
    """What ``work`` returns or raises. Cancelling the caller leaves it to run to its end, unheard."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(value)  # type: ignore[arg-type] # a value of T whenever there is no error
        else:
            done.set_exception(error)

    def run() -> None:
        value, problem = None, None
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001 - it is its caller's
            problem = error
        # A loop that is closed has nobody left who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, value, problem)

    threading.Thread(target=run, name="sink", daemon=True).start()
    return await done
