"""A call made in a thread of its own, while the test goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def later(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Begin ``function`` now; ``.result(seconds)`` waits for it and raises what it raised."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - it belongs to who asks for the result
            future.set_exception(error)

    threading.Thread(target=work, name=f"later {function.__qualname__}", daemon=True).start()
    return future
