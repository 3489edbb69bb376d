"""What header fields say to the relay: a request's, and those at the end of an answer."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from server.front.methods import FORWARDED, UNARY
from server.relay import words
from server.relay.static import Field

#: How many paths are remembered: more than CRI has.
_METHODS = 128


class Request(NamedTuple):
    """``method`` is the path; None if there is not just one. ``timeout`` is in seconds, None without one.

    ``forwarded``: it is one that hookshim forwards; ``unary``: it is known to be one message for one message.
    """

    fields: tuple[Field, ...]
    method: str | None
    timeout: float | None
    encoding: bytes
    forwarded: bool
    unary: bool


def parse(fields: tuple[Field, ...]) -> Request:
    """Read the fields."""
    known = dict(fields)
    method, forwarded, unary = _method(known.get(b":path"))
    if len(known) < len(fields) and [name for name, _ in fields].count(b":path") > 1:
        method, forwarded, unary = _method(None)
    limit = known.get(b"grpc-timeout")
    timeout = None if limit is None else words.timeout(limit)
    return Request(fields, method, timeout, known.get(b"grpc-encoding", b""), forwarded, unary)


@lru_cache(_METHODS)
def _method(path: bytes | None) -> tuple[str | None, bool, bool]:
    """The method, whether it is forwarded, and whether it is unary."""
    if path is None:
        return None, False, False
    method = path.decode(errors="replace")
    return method, method.startswith(FORWARDED), method in UNARY


def status(fields: tuple[Field, ...]) -> str:
    """The name of the status that an answer ends with; UNKNOWN if it says none that gRPC has."""
    return words.NAMES.get(dict(fields).get(b"grpc-status", b""), "UNKNOWN")
