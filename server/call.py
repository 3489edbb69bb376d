"""The interception port: what a front door hands in, and the three ways it is answered.

A decision is made once, before anything is forwarded. Interception knows nothing of gRPC servers, so that front
doors can be exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from shim.ports import Metadata


@dataclass(frozen=True, slots=True)
class Call:
    """One intercepted unary call. ``method`` is the full path (``/runtime.v1.RuntimeService/StopContainer``).

    ``request`` is the message as it came; ``seconds_left`` until the caller's deadline, None without one.
    """

    method: str
    request: bytes
    metadata: Metadata
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class Pass:
    """Go on untouched, end to end."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer with this message; nothing is forwarded."""

    response: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Answer with this error. ``code`` is the gRPC status name; ``details`` the binary status details or empty."""

    code: str
    message: str
    details: bytes = b""


Decision = Pass | Answer | Refusal


class Interceptor(Protocol):
    """Decides the calls of the methods it names; every other method is forwarded without asking."""

    @property
    def methods(self) -> frozenset[str]:
        """The full paths of the methods to ask about. All are unary."""
        ...

    async def decide(self, call: Call) -> Decision:
        """Decide. A caller that leaves cancels this coroutine, never what it has set going."""
        ...
