"""What header fields say to the relay: a request's, and those at the end of an answer."""

from __future__ import annotations

from dataclasses import dataclass

from server.relay import words
from server.relay.static import Field


@dataclass(frozen=True, slots=True)
class Request:
    """``method`` is the path; None if there is not just one. ``timeout`` is in seconds, None without one."""

    fields: tuple[Field, ...]
    method: str | None
    timeout: float | None
    encoding: bytes


def parse(fields: tuple[Field, ...]) -> Request:
    """Read the fields."""
    paths = [value for name, value in fields if name == b":path"]
    known = dict(fields)
    return Request(
        fields,
        paths[0].decode(errors="replace") if len(paths) == 1 else None,
        words.timeout(known.get(b"grpc-timeout", b"")),
        known.get(b"grpc-encoding", b""),
    )


def status(fields: tuple[Field, ...]) -> str:
    """The name of the status that an answer ends with; UNKNOWN if it says none that gRPC has."""
    return words.NAMES.get(dict(fields).get(b"grpc-status", b""), "UNKNOWN")
