"""What two answers must have in common: everything but ids, times, and what changes from moment to moment.

Answers are compared without their schema, so that a field that no schema here knows is compared as well.
"""

from __future__ import annotations

import re
from typing import TypeAlias

#: (field number, what it holds), sorted: maps have no order on the wire.
Fields: TypeAlias = "tuple[tuple[int, Value], ...]"
Value: TypeAlias = "int | str | bytes | Fields"

_MASKS = [
    (re.compile(rb"[0-9a-f]{64}"), b"<id>"),
    (re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), b"<uuid>"),
    (re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"), b"<time>"),
    # the streaming server's one-time tokens
    (re.compile(rb"/(exec|attach|portforward)/[-_0-9A-Za-z]{8}$"), rb"/\1/<token>"),
    # addresses of pods, on the bridges of tests/support/network.py
    (re.compile(rb"\b10\.\d+\.\d+\.\d+\b"), b"<address>"),
]

#: Nanoseconds since the epoch: any number since 2001.
_TIME = 10**18


def masked(text: bytes) -> bytes:
    """A text without what differs between two calls."""
    for pattern, name in _MASKS:
        text = pattern.sub(name, text)
    return text


def canonical(message: bytes, *, numbers: bool = True) -> Value:
    """A message in a form in which equal means the same; without ``numbers`` only which fields there are."""
    try:
        return _fields(message, numbers=numbers)
    except ValueError:
        return masked(message)


def _fields(message: bytes, *, numbers: bool) -> Fields:
    found: list[tuple[int, Value]] = []
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if not number:
            raise ValueError("no field has the number 0")
        match kind:
            case 0:
                value, at = _varint(message, at)
                found.append((number, _number(value, numbers=numbers)))
            case 2:
                length, at = _varint(message, at)
                if at + length > len(message):
                    raise ValueError("cut off")
                found.append((number, _held(message[at : at + length], numbers=numbers)))
                at += length
            case 1 | 5:
                width = 8 if kind == 1 else 4
                found.append((number, _number(int.from_bytes(message[at : at + width], "little"), numbers=numbers)))
                at += width
            case _:
                raise ValueError(f"wire type {kind}")
    unique = found if numbers else set(found)
    return tuple(sorted(unique, key=repr))


def _held(content: bytes, *, numbers: bool) -> Value:
    if content and _is_text(content):
        return masked(content)
    return canonical(content, numbers=numbers)


def _number(value: int, *, numbers: bool) -> Value:
    if not numbers:
        return "<number>"
    return "<time>" if value >= _TIME else value


def _is_text(content: bytes) -> bool:
    try:
        return content.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        value |= (message[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not message[at - 1] & 0x80:
            return value, at
    raise ValueError("not a number")
