"""Calls that are repeated until they have an answer, as a kubelet's next sync repeats them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import grpc

from tests.support.cri import CRIError

#: Answers that are none: the peer, the connection or the caller's patience was gone.
BROKEN = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})

#: Seconds that one call may take, and in which a broken one is repeated.
CALL = 120.0

#: Seconds between two tries.
_PAUSE = 0.1


class AbandonedError(Exception):
    """The soak was ended from outside."""


class Insistence:
    """Repeats calls until ``over`` is set."""

    def __init__(self, over: threading.Event) -> None:
        self._over = over

    def wait(self) -> None:
        """A pause between two tries. Raises AbandonedError."""
        if self._over.wait(_PAUSE):
            raise AbandonedError

    def repeat(self, call: Callable[[], str]) -> str:
        """What ``call`` returns, once it has not broken. Raises CRIError, AbandonedError."""
        deadline = time.monotonic() + CALL
        while True:
            try:
                return call()
            except CRIError as error:
                if error.code not in BROKEN or time.monotonic() > deadline:
                    raise
            self.wait()

    def accomplish(self, call: Callable[[], None], refusals: float = 0.0) -> CRIError | None:
        """Repeat ``call`` until it is answered OK; an error that is an answer is repeated for ``refusals`` seconds.

        The last error if it never is OK. Raises AbandonedError.
        """
        deadline, refused_until = time.monotonic() + CALL, None
        while True:
            error = attempt(call)
            if error is None:
                return None
            now = time.monotonic()
            if error.code not in BROKEN and refused_until is None:
                refused_until = now + refusals
            if now >= (deadline if refused_until is None else refused_until):
                return error
            self.wait()


def attempt(call: Callable[[], None]) -> CRIError | None:
    """Make the call; the error that it was answered with."""
    try:
        call()
    except CRIError as error:
        return error
    return None
