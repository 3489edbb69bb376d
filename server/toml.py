"""TOML that people write by hand: what is wrong with a text, and how its values are shown to them.

The configuration and the node's rules are both TOML, and a mistake in either is told in the same words.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable
from typing import Any, Final

from server.log import printable
from shim.errors import HookshimError

#: Characters of a value that an error shows.
_SHOWN: Final = 100


class TomlError(HookshimError):
    """A text is no TOML; the message says where, what was expected and what is there instead."""


def parse(data: bytes) -> dict[str, Any]:
    """The tables and values of a text. Raises TomlError."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TomlError(f"line {line}: expected UTF-8; found byte 0x{data[error.start]:02x}") from None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and what a number or a nesting too large causes
        raise TomlError(_mistake(str(error), text)) from None


def found(value: object) -> str:
    """A value as an error shows it: as JSON, printable, not too long, and without an URL's name and password."""
    text = re.sub(r"(?<=://)[^/@]*@", "...@", printable(json.dumps(value, ensure_ascii=False, default=str)))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def suggestion(word: str, known: Iterable[str]) -> str:
    """What may have been meant by an unknown word. Punctuation and case do not count."""
    spellings = {re.sub(r"\W", "_", name).lower(): name for name in known}
    near = difflib.get_close_matches(re.sub(r"\W", "_", word).lower(), spellings, n=1)
    return f"did you mean {spellings[near[0]]}?" if near else "known are " + ", ".join(spellings.values())


def _mistake(error: str, text: str) -> str:
    place = re.fullmatch(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", error)
    if place is None:
        return f"expected TOML: {printable(error)}"
    if place["line"] is None:
        last = len(text.splitlines())
        return f"line {last}, at the end of the file: expected TOML: {printable(place['what'])}"
    return f"line {place['line']}, column {place['column']}: expected TOML: {printable(place['what'])}"
