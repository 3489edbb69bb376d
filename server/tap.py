"""Where a front door says what became of each call, for whoever counts: it knows nothing of metrics itself."""

from __future__ import annotations

from time import perf_counter
from typing import Protocol


class CallTap(Protocol):
    """Is told of every call that has ended. It must be quick, wait for nothing, and raise nothing."""

    def ended(self, method: str, code: str, added: float | None) -> None:
        """A call of ``method`` (its path) ended with the gRPC status name ``code``.

        ``added``: the seconds that a forwarded unary call spent here rather than with containerd; None for any other.
        """
        ...


class Untapped:
    """Nobody counts."""

    def ended(self, method: str, code: str, added: float | None) -> None:
        """Nothing."""


class Stopwatch:
    """How long a call was here, without the time between ``sent`` and ``answered``, when it was with containerd."""

    __slots__ = ("_began", "_sent", "_waited")

    def __init__(self) -> None:
        self._began = perf_counter()
        self._sent = 0.0
        self._waited: float | None = None

    def sent(self) -> None:
        """The call goes on to containerd."""
        self._sent = perf_counter()

    def answered(self) -> None:
        """The answer of containerd is here."""
        self._waited = perf_counter() - self._sent

    def added(self) -> float | None:
        """The seconds here; None if containerd has answered nothing: then what took time was something else."""
        return None if self._waited is None else perf_counter() - self._began - self._waited
