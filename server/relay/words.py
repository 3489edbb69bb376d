"""gRPC's words in header fields (gRPC over HTTP/2): status, message, timeout, binary metadata."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from server.front.metadata import STATUS_DETAILS
from server.relay.static import Field

Fields: TypeAlias = tuple[Field, ...]

_CODES = """
    OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED
    RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS
    UNAUTHENTICATED
"""

#: The numbers of the status codes, by their names (gRPC, ``statuscodes.md``).
CODES: Final = {name: number for number, name in enumerate(_CODES.split())}

#: The names of the status codes, by what ``grpc-status`` says.
NAMES: Final = {b"%d" % number: name for name, number in CODES.items()}

#: What every answer begins with.
BEGIN: Final[Fields] = ((b":status", b"200"), (b"content-type", b"application/grpc"))

_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")

#: grpc's peers may agree, in their SETTINGS, to send binary values as they are, behind this (gRPC, proposal G1).
_TRUE_BINARY = b"\0"

#: What stands for itself in ``grpc-message``.
_PLAIN = frozenset(range(0x20, 0x7F)) - {ord("%")}


def timeout(value: bytes) -> float | None:
    """A ``grpc-timeout`` in seconds; None if it is none, which the backend says in its own words."""
    found = _TIMEOUT.fullmatch(value)
    return int(found[1]) * _UNITS[found[2]] if found else None


def percent_encoded(message: str) -> bytes:
    """A text as ``grpc-message``. What cannot be encoded is replaced."""
    text = message.encode(errors="replace")
    return b"".join(bytes([byte]) if byte in _PLAIN else b"%%%02X" % byte for byte in text)


@dataclass(frozen=True, slots=True)
class Status:
    """How a call ends: the name of a code, a text for people, and the binary status details or nothing."""

    code: str
    message: str = ""
    details: bytes = b""


def trailers(status: Status) -> Fields:
    """The fields that end a call. A code that gRPC does not have is UNKNOWN."""
    fields = [(b"grpc-status", b"%d" % CODES.get(status.code, CODES["UNKNOWN"]))]
    if status.message:
        fields.append((b"grpc-message", percent_encoded(status.message)))
    if status.details:
        fields.append((STATUS_DETAILS.encode(), base64.b64encode(status.details).rstrip(b"=")))
    return tuple(fields)


def metadata(fields: Fields) -> Iterator[tuple[str, str | bytes]]:
    """The fields as gRPC's users know them: binary ones as bytes, each of several in one field apart."""
    for name, value in fields:
        key = name.decode(errors="replace")
        if not key.endswith("-bin"):
            yield key, value.decode(errors="replace")
            continue
        if value[:1] == _TRUE_BINARY:
            yield key, value[1:]
            continue
        for each in value.split(b","):
            text = each.strip()
            try:
                yield key, base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
            except binascii.Error:
                # containerd refuses such a call, if it is forwarded.
                continue
