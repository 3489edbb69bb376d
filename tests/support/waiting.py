"""Waiting for something to become true, with a deadline that fails loudly: a test never sleeps and hopes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds after which a wait is a failure. Generous: a slow machine must not break a test, only a hang may.
PATIENCE = 30.0

#: Seconds between two looks.
INTERVAL = 0.02


def until(look: Callable[[], T | None], what: str, within: float = PATIENCE) -> T:
    """The first answer of ``look`` that is not false or None.

    Raises TimeoutError naming ``what`` (and the last answer) after ``within`` seconds.
    """
    deadline = time.monotonic() + within
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {within:g} s still not: {what} (last seen: {answer!r})")
        time.sleep(INTERVAL)
