"""What people write by hand in JSON, read strictly, with messages that say where a mistake is and what belongs there.

The values of a node rule's TOML are read by the same functions.

Annotations are written by whoever may create a pod, so nothing in them may crash the reader or reach a terminal or a
log line raw: the text is bounded before it is parsed, and what a message quotes is escaped and cut.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shim.errors import DeclarationError

#: Stands for a member that is not there: ``given.get("port", NOTHING)``.
NOTHING = object()
#: How deep arrays and objects may be nested.
MAX_DEPTH = 16

# A number from here on has too many digits for a message, or is infinite.
_SHOWN = 2**64

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A string that never ends is one match too, so that the scan stays linear in whatever it is given.
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKET = re.compile(r"[^][{}]+")


def printable(text: str, limit: int) -> str:
    r"""Text that somebody else chose, made fit for a terminal, a log line and an event.

    What is not printable (controls, bidirectional overrides, lone surrogates) is written as ``\n``, ``\x1b``,
    ``\u202e``; what makes the result longer than ``limit`` characters is cut off and marked ``…``.
    """
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[: limit + 1])
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def quoted(text: str) -> str:
    """A short string as messages show it: printable, in double quotes."""
    return f'"{printable(text, 63)}"'


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: ``subject`` says in which text, ``path`` is the JSON path in it.

    Of what is found at a ``secret`` place and below it, messages give the type and not the value.
    """

    subject: str
    path: str = "$"
    secret: bool = False

    def field(self, name: str, *, secret: bool = False) -> Place:
        """The place of an object's member."""
        step = f".{name}" if _PLAIN_KEY.fullmatch(name) else f"[{quoted(name)}]"
        return Place(self.subject, self.path + step, self.secret or secret)

    def item(self, index: int) -> Place:
        """The place of an array's element, counted from 0."""
        return Place(self.subject, f"{self.path}[{index}]", self.secret)

    def error(self, expected: str, found: str) -> DeclarationError:
        """The error to raise for what is wrong here."""
        return DeclarationError(f"{self.subject}: {self.path}: expected {expected}, found {found}")

    def unexpected(self, expected: str, value: object, hint: str = "") -> DeclarationError:
        """The error to raise for a value that is wrong here; ``hint`` follows what was found."""
        return self.error(expected, (_kind(value) if self.secret else _shown(value)) + hint)


def load(place: Place, text: str, max_bytes: int | None) -> object:
    """Parse a text of at most ``max_bytes`` of UTF-8 (None: any size) for ``fields``, ``array`` and ``string``.

    Raises DeclarationError for what is not JSON (RFC 8259), too large or too deep.
    """
    size = len(text.encode(errors="surrogatepass"))
    if max_bytes is not None and size > max_bytes:
        raise place.error(f"at most {max_bytes} bytes", str(size))
    depth = 0
    for bracket in _NO_BRACKET.sub("", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise place.error(f"at most {MAX_DEPTH} levels of arrays and objects", "more")

    def constant(name: str) -> object:
        raise place.error("JSON", f"{name}, which JSON does not have")

    try:
        value: object = json.loads(text, object_pairs_hook=_object, parse_constant=constant, parse_int=_integer)
    except json.JSONDecodeError as error:
        found = f"a mistake at line {error.lineno}, column {error.colno}: {error.msg}"
        raise place.error("JSON", found) from None
    return value


def members(place: Place, value: object) -> dict[str, object]:
    """An object's members under any name. ``null`` is the same as absent, as everywhere in Kubernetes' API."""
    if not isinstance(value, dict):
        raise place.unexpected("an object", value)
    if isinstance(value, _Object) and value.repeated is not None:
        raise place.error("each key once", f"{quoted(value.repeated)} more than once")
    return {name: member for name, member in value.items() if member is not None}


def fields(
    place: Place, value: object, allowed: Sequence[str], refused: Mapping[str, str] | None = None
) -> dict[str, object]:
    """An object's members, all of which have to be among ``allowed``.

    ``refused`` are names that somebody may expect here, with what the message says of them.
    """
    refused = refused or {}
    present = members(place, value)
    # A misspelt name is a mistake whatever its value: unlike null for a known field it says nothing.
    for name in value if isinstance(value, dict) else ():
        if name in allowed or (name in refused and name not in present):
            continue
        expected = f"one of {', '.join(allowed)}" if len(allowed) > 1 else allowed[0]
        if name in refused:
            raise place.error(expected, f"{name}, {refused[name]}")
        near = difflib.get_close_matches(name[:63], allowed, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise place.error(expected, f"the unknown field {quoted(name)}{hint}")
    return present


def array(place: Place, value: object, of: str) -> list[object]:
    """An array's elements; ``of`` names them for the message (``"strings"``)."""
    if not isinstance(value, list):
        raise place.unexpected(f"an array of {of}", value)
    return value


def string(place: Place, value: object) -> str:
    """A string that can be written as UTF-8, which JSON's own strings need not be."""
    if not isinstance(value, str):
        raise place.unexpected("a string", value)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise place.error("Unicode text", f"half a surrogate pair at character {error.start + 1}") from None
    return value


class _Object(dict[str, object]):
    """A JSON object that remembers whether it had a key twice: only the walk knows the path to say it with."""

    repeated: str | None = None


def _object(pairs: list[tuple[str, object]]) -> _Object:
    made = _Object(pairs)
    if len(made) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        made.repeated = next(name for name, count in counts.items() if count > 1)
    return made


def _integer(digits: str) -> int | float:
    # int() refuses thousands of digits with an error of its own; a float says "too large" well enough.
    return int(digits) if len(digits) <= len(str(2**64)) else float(digits)


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string" if value else "an empty string"
        case list():
            return "an array" if value else "an empty array"
        case dict():
            return "an object"
        case _:
            # TOML, which is read with the same rules, has dates and times.
            return "nothing" if value is NOTHING else "a date or a time"


def _shown(value: object) -> str:
    match value:
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() | float():
            return f"the number {value}" if abs(value) < _SHOWN else "a number out of all bounds"
        case str() if value:
            return f"the string {quoted(value)}"
        case _:
            return _kind(value)
