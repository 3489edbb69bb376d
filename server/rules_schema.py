"""What one file of the node's rules has to say: its text is read into a ``Rule``, or into all that is wrong in it.

Strict, for the reason that the annotations are: a misspelt ``namespaces`` that is passed over is a hook that runs as
root for every pod of the node.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from server import toml
from shim.errors import DeclarationError
from shim.lifecycle import parse_handler
from shim.records import Hook
from shim.rules import Match, Operator, Requirement, Rule, RuleHandler
from shim.strictjson import NOTHING, Place, array, fields, quoted, string

#: The size of a rule's file in bytes.
MAX_BYTES: Final = 64 * 1024
#: The most handlers of a rule, and the most entries of each list in ``[match]``.
MAX_HANDLERS: Final = 64
MAX_ENTRIES: Final = 256
#: The most characters of a glob, a name or an annotation's value that is matched.
MAX_TEXT: Final = 1024

_KEYS: Final = ("when", "match", "handlers")
_EXPRESSION: Final = ("key", "operator", "values")
_HOOKS: Final = ", ".join(Hook)

#: A rule's name is in records, log lines and tables.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
#: Kubernetes' labels (apimachinery ``IsQualifiedName``). A value may be longer here than the 63 characters there: a
#: kubelet labels what it makes with the pod's name.
_WORD: Final = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_LABEL_KEY: Final = re.compile(rf"(?=([^/]{{1,253}}/)?[^/]{{1,63}}\Z)([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?{_WORD}")
_LABEL_VALUE: Final = re.compile(rf"(?=.{{0,253}}\Z)({_WORD})?")

Check = Callable[[Place, object], str]
Problems = list[str]


def read(subject: str, name: str, data: bytes) -> tuple[Rule | None, Problems]:
    """The rule of a file called ``name`` (without ``.toml``), or what is wrong with it, a line each.

    Each line begins with ``subject``, which says what file it is.
    """
    problems: Problems = []
    if not _NAME.fullmatch(name):
        expected = 'a name of letters, digits, "-", "_" and ".", at most 100, a letter or digit first'
        problems.append(str(Place(subject, "its name").error(expected, quoted(name))))
    if len(data) > MAX_BYTES:
        return None, [*problems, f"{subject}: expected at most {MAX_BYTES} bytes, found more"]
    try:
        table = toml.parse(data)
    except toml.TomlError as error:
        return None, [*problems, f"{subject}: {error}"]
    _only(Place(subject, "the rule"), table, _KEYS, problems)
    when = _when(Place(subject, "when"), table.get("when", NOTHING), problems)
    match = _match(Place(subject, "match"), table.get("match", {}), problems)
    hooks = _handlers(Place(subject, "handlers"), table.get("handlers", NOTHING), when, problems)
    return (None, problems) if problems else (Rule(name, hooks, match), [])


@contextmanager
def _noted(problems: Problems) -> Iterator[None]:
    try:
        yield
    except DeclarationError as error:
        problems.append(str(error))


def _only(place: Place, table: dict[str, Any], allowed: Sequence[str], problems: Problems) -> None:
    # One at a time, so that each unknown key is told.
    for name, value in table.items():
        with _noted(problems):
            fields(place, {name: value}, allowed)


def _table(place: Place, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise place.unexpected("a table", value)
    return value


def _entries(place: Place, value: object, of: str, most: int = MAX_ENTRIES) -> list[object]:
    """An array with something in it: an empty one would match nothing, and whoever leaves one means the opposite."""
    items = array(place, value, of)
    if not 1 <= len(items) <= most:
        raise place.error(f"an array of 1 to {most} {of}", str(len(items)) if items else "an empty array")
    return items


def _each(place: Place, value: object, of: str, check: Check, problems: Problems) -> tuple[str, ...]:
    """The checked strings of an array; what is wrong with each is noted."""
    good: list[str] = []
    with _noted(problems):
        for index, item in enumerate(_entries(place, value, of)):
            with _noted(problems):
                good.append(check(place.item(index), item))
    return tuple(good)


def _pairs(place: Place, value: object, key: Check, text: Check, problems: Problems) -> tuple[tuple[str, str], ...]:
    good: list[tuple[str, str]] = []
    with _noted(problems):
        table = _table(place, value)
        if not 1 <= len(table) <= MAX_ENTRIES:
            raise place.error(f"a table of 1 to {MAX_ENTRIES} keys", str(len(table)) if table else "an empty table")
        for name, member in table.items():
            with _noted(problems):
                good.append((key(place, name), text(place.field(name), member)))
    return tuple(good)


def _when(place: Place, value: object, problems: Problems) -> tuple[Hook, ...]:
    def hook(at: Place, one: object) -> str:
        if one not in tuple(Hook):
            raise at.unexpected(f"one of {_HOOKS}", one)
        return str(one)

    names = _each(place, value, f"hooks ({_HOOKS})", hook, problems)
    if len(set(names)) < len(names):
        problems.append(str(place.error("each hook once", ", ".join(names))))
    return tuple(Hook(name) for name in dict.fromkeys(names))


def _match(place: Place, value: object, problems: Problems) -> Match:
    given: dict[str, Any] = {}
    with _noted(problems):
        given = _table(place, value)
    _only(place, given, tuple(_MATCH), problems)
    return Match(
        **{field: of(place.field(key), given[key], problems) for key, (field, of) in _MATCH.items() if key in given}
    )


def _handlers(place: Place, value: object, when: Sequence[Hook], problems: Problems) -> tuple[RuleHandler, ...]:
    good: list[RuleHandler] = []
    with _noted(problems):
        for index, item in enumerate(_entries(place, value, "handlers, each [[handlers]]", MAX_HANDLERS)):
            with _noted(problems):
                good += _handler(place.item(index), _table(place.item(index), item), when)
    return tuple(good)


def _handler(place: Place, table: dict[str, Any], when: Sequence[Hook]) -> list[RuleHandler]:
    """One handler for each of its hooks; what is wrong for several of them is told for the first."""
    if not when:
        # Which hook is meant has yet to be said: what is right for any is not complained about.
        for hook in Hook:
            with suppress(DeclarationError):
                parse_handler(place, table, hook, trusted=True)
                return []
    return [RuleHandler(hook, parse_handler(place, table, hook, trusted=True)) for hook in when or tuple(Hook)]


def _expressions(place: Place, value: object, problems: Problems) -> tuple[Requirement, ...]:
    good: list[Requirement] = []
    with _noted(problems):
        for index, item in enumerate(_entries(place, value, "tables")):
            with _noted(problems):
                good += _requirement(place.item(index), _table(place.item(index), item), problems)
    return tuple(good)


def _requirement(place: Place, given: dict[str, Any], problems: Problems) -> Iterator[Requirement]:
    _only(place, given, _EXPRESSION, problems)
    key = ""
    with _noted(problems):
        key = _label_key(place.field("key"), given.get("key", NOTHING))
    found = given.get("operator", NOTHING)
    operator = next((one for one in Operator if one == found), None)
    if operator is None:
        raise place.field("operator").unexpected(f"one of {', '.join(Operator)}", found)
    at, values = place.field("values"), given.get("values", NOTHING)
    if operator in (Operator.IN, Operator.NOT_IN):
        yield Requirement(key, operator, _each(at, values, "strings", _label_value, problems))
    elif values in (NOTHING, []):
        yield Requirement(key, operator)
    else:
        raise at.unexpected(f"nothing, since {operator} has no values", values)


def _text(place: Place, value: object) -> str:
    text = string(place, value)
    if len(text) > MAX_TEXT:
        raise place.error(f"at most {MAX_TEXT} characters", str(len(text)))
    return text


def _word(place: Place, value: object) -> str:
    text = _text(place, value)
    if not text:
        raise place.unexpected("a string of at least one character", text)
    return text


def _label_key(place: Place, value: object) -> str:
    text = string(place, value)
    if not _LABEL_KEY.fullmatch(text):
        raise place.unexpected("a label's key, as app or example.com/app", text)
    return text


def _label_value(place: Place, value: object) -> str:
    text = string(place, value)
    if not _LABEL_VALUE.fullmatch(text):
        raise place.unexpected('a label\'s value (letters, digits, "-", "_" and "."), at most 253 characters', text)
    return text


def _strings(check: Check) -> Callable[[Place, object, Problems], object]:
    return lambda place, value, problems: _each(place, value, "strings", check, problems)


def _map(key: Check, text: Check) -> Callable[[Place, object, Problems], object]:
    return lambda place, value, problems: _pairs(place, value, key, text, problems)


#: For each key of ``[match]`` its field in ``Match``, and what reads it.
_MATCH: Final[dict[str, tuple[str, Callable[[Place, object, Problems], Any]]]] = {
    "namespaces": ("namespaces", _strings(_word)),
    "labels": ("labels", _map(_label_key, _label_value)),
    "expressions": ("expressions", _expressions),
    "containers": ("containers", _strings(_word)),
    "images": ("images", _strings(_word)),
    "annotations": ("annotations", _map(_word, _text)),
    # The empty name is the runtime's default handler.
    "runtimeHandlers": ("runtime_handlers", _strings(_text)),
}
