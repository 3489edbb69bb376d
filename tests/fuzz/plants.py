"""Bugs to plant in what is fuzzed, so that a fuzzer that could find nothing is seen to be one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

from server.relay.frames import Cutter, Frame
from server.relay.window import Window
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


def _greedy(window: Window, size: int) -> int:
    window.room += size
    swallowed = min(size, window.debt)
    window.debt -= swallowed
    return size - swallowed


def _shorter(cutter: Cutter, frame: Frame) -> Frame | None:
    whole = _opening(cutter, frame)
    return whole._replace(raw=whole.raw[: -len(frame.raw)]) if whole is not None and whole.raw != frame.raw else whole


_opening: Callable[[Cutter, Frame], Frame | None] = Cutter._opening

#: Where, what, and what stands there instead.
Plant: TypeAlias = tuple[object, str, object]

#: In the readers of declarations, by name.
DECLARATIONS: dict[str, Plant] = {
    # an unknown field's name goes into the message as it is
    "unescaped": (strictjson, "quoted", _bare),
    # of statuses that follow each other, not all are recorded
    "lost": (lifecycle, "statuses_to_json", _first_class_only),
    # a number that is allowed is too large for what comes next
    "crash": (declaration, "_attempts", _few),
}

#: In the relay, by name.
FRAMES: dict[str, Plant] = {
    # more of the receiver's grants are kept than was lent: a connection stalled once
    "swallowed": (Window, "granted", _greedy),
    # of a header block in several frames, the last one stays behind
    "cut": (Cutter, "_opening", _shorter),
}


@contextmanager
def planted(plants: Mapping[str, Plant], name: str | None) -> Iterator[None]:
    """With that bug in; None: with none."""
    if name is None:
        yield
        return
    where, attribute, bug = plants[name]
    right = getattr(where, attribute)
    setattr(where, attribute, bug)
    try:
        yield
    finally:
        setattr(where, attribute, right)
