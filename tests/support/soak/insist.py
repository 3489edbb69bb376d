"""Calls that are repeated until they have an answer, as a kubelet's next sync repeats them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import grpc

from tests.support.cri import CRIError

T = TypeVar("T")

#: Answers that are none: the peer, the connection or the caller's patience was gone.
_BROKEN = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})

#: What containerd says while it starts; 1.6 with the code UNKNOWN (``cri/server/instrumented_service.go``).
_STARTING = "server is not initialized yet"

#: What containerd says of a container whose shim is just going, since it has ended; a kubelet asks again.
_SHIM_GOING = "ttrpc: closed"

#: Seconds that one call may take, and in which a broken one is repeated.
CALL = 120.0

#: Seconds in which a call that is refused is tried again, where containerd or hookshim may have to clear up after a
#: call that was cut off: containerd 1.6 may find the directory of a snapshot that its database has forgotten.
REFUSALS = 30.0

#: Seconds between two tries.
_PAUSE = 0.1


class AbandonedError(Exception):
    """The soak was ended from outside."""


def broken(error: CRIError) -> bool:
    """Whether this is no answer, but the want of one."""
    return error.code in _BROKEN or _STARTING in error.message or _SHIM_GOING in error.message


class Insistence:
    """Repeats calls until ``over`` is set."""

    def __init__(self, over: threading.Event) -> None:
        self._over = over

    def wait(self, seconds: float = _PAUSE) -> None:
        """A pause. Raises AbandonedError."""
        if self._over.wait(seconds):
            raise AbandonedError

    def repeat(self, call: Callable[[], T], refusals: float = 0.0) -> T:
        """What ``call`` returns, once it neither breaks nor, for ``refusals`` seconds, is refused.

        Raises the last CRIError if it does so for too long, and AbandonedError.
        """
        deadline, refused_until = time.monotonic() + CALL, None
        while True:
            try:
                return call()
            except CRIError as error:
                now = time.monotonic()
                if not broken(error) and refused_until is None:
                    refused_until = now + refusals
                if now >= (deadline if refused_until is None else refused_until):
                    raise
            self.wait()

    def accomplish(self, call: Callable[[], None], refusals: float = 0.0) -> CRIError | None:
        """Repeat ``call`` likewise; the last error if it never is OK. Raises AbandonedError."""
        try:
            self.repeat(call, refusals)
        except CRIError as error:
            return error
        return None


def attempt(call: Callable[[], None]) -> CRIError | None:
    """Make the call; the error that it was answered with."""
    try:
        call()
    except CRIError as error:
        return error
    return None
