"""Bugs to plant in what is fuzzed, so that a fuzzer that could find nothing is seen to be one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType

from shim import declaration, lifecycle, strictjson
from shim.endpoint import statuses_to_json
from shim.strictjson import Place


def _bare(text: str) -> str:
    return f'"{text[:63]}"'


def _first_class_only(ranges: Iterable[tuple[int, int]]) -> list[int | str]:
    return statuses_to_json([(first, min(last, first + 99)) for first, last in ranges])


def _few(place: Place, value: object, *rest: object) -> int | None:
    attempts: int | None = _attempts(place, value, *rest)
    if attempts is not None and attempts > 9:
        raise LookupError(attempts)
    return attempts


_attempts: Callable[..., int | None] = declaration._attempts

#: By name: where, what, and what stands there instead.
PLANTS: dict[str, tuple[ModuleType, str, object]] = {
    # an unknown field's name goes into the message as it is
    "unescaped": (strictjson, "quoted", _bare),
    # of statuses that follow each other, not all are recorded
    "lost": (lifecycle, "statuses_to_json", _first_class_only),
    # a number that is allowed is too large for what comes next
    "crash": (declaration, "_attempts", _few),
}


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """With that bug in; None: with none."""
    if name is None:
        yield
        return
    module, attribute, bug = PLANTS[name]
    right = getattr(module, attribute)
    setattr(module, attribute, bug)
    try:
        yield
    finally:
        setattr(module, attribute, right)
