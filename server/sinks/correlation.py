"""What becomes of many like events: counted up, put together, or held back, as client-go's recorder does it.

The rules and numbers are EventCorrelator's (kubernetes/client-go ``tools/record/events_cache.go``). Pure, and the only
clock is the events' own: what was decided before a crash is decided again after it, so that a repeated post changes
nothing. All of it fits into a cursor's file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self, TypeVar

#: An event that is the same as one within this many seconds is counted up: an API server keeps Events for an hour.
SAME: Final = 3600.0

#: From so many different messages of one reason about one object on, within so many seconds, they are one event.
ALIKE, ALIKE_SECONDS = 10, 600.0

#: So many events about one object at once, then one every so many seconds.
BURST, REFILL_SECONDS = 25, 300.0

#: How many keys of a kind are remembered; the oldest are forgotten.
_MOST: Final = 256

_COMBINED: Final = "(combined from similar events): "


@dataclass(frozen=True, slots=True)
class Draft:
    """An event as it would be told alone.

    ``about`` tells the object, ``part`` (its fieldPath), ``reason`` and ``text`` whether two events are the same;
    ``message`` is what is shown, ``name`` what it is called if it is a new one. ``at``: seconds since the epoch.
    """

    name: str
    about: str
    part: str
    reason: str
    text: str
    message: str
    at: float


@dataclass(frozen=True, slots=True)
class Posting:
    """An event as it is to be told: a new one with ``count`` 1, else ``name`` is brought to this count."""

    name: str
    message: str
    count: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class _Told:
    name: str
    count: int
    first: float
    at: float


@dataclass(frozen=True, slots=True)
class _Alike:
    texts: tuple[str, ...]
    at: float


@dataclass(frozen=True, slots=True)
class _Bucket:
    tokens: float
    at: float


Kept = TypeVar("Kept", _Told, _Alike, _Bucket)


@dataclass(frozen=True, slots=True)
class Memory:
    """What was told, by key: the last ones of each kind."""

    told: Mapping[str, _Told] = field(default_factory=dict)
    alike: Mapping[str, _Alike] = field(default_factory=dict)
    buckets: Mapping[str, _Bucket] = field(default_factory=dict)

    @classmethod
    def load(cls, saved: Mapping[str, Any]) -> Self:
        """What ``dump`` gave; nothing, if it is something else."""
        try:
            return cls(
                {key: _Told(**one) for key, one in saved["told"].items()},
                {key: _Alike(tuple(one["texts"]), one["at"]) for key, one in saved["alike"].items()},
                {key: _Bucket(**one) for key, one in saved["buckets"].items()},
            )
        except (KeyError, TypeError, AttributeError):
            return cls()

    def dump(self) -> dict[str, Any]:
        """It as JSON."""
        return asdict(self)


def correlate(memory: Memory, draft: Draft) -> tuple[Memory, Posting | None]:
    """How ``draft`` is to be told, None if not at all, and what to remember once it is."""
    alike, combined = _combine(memory, draft)
    key = _key(draft.about, draft.reason) if combined else _key(draft.about, draft.part, draft.reason, draft.text)
    before = memory.told.get(key)
    if before is None or draft.at - before.at > SAME:
        before = _Told(draft.name, 0, draft.at, draft.at)
    told = _Told(before.name, before.count + 1, before.first, max(before.at, draft.at))
    bucket = _refilled(memory.buckets.get(_key(draft.about)), draft.at)
    allowed = bucket.tokens >= 1
    after = Memory(
        _keep(memory.told, key, told, SAME),
        _keep(memory.alike, _key(draft.about, draft.reason), alike, ALIKE_SECONDS),
        _keep(
            memory.buckets,
            _key(draft.about),
            _Bucket(bucket.tokens - 1, bucket.at) if allowed else bucket,
            BURST * REFILL_SECONDS,
        ),
    )
    if not allowed:
        return after, None
    message = (_COMBINED if combined else "") + draft.message
    return after, Posting(told.name, message, told.count, told.first, told.at)


def _combine(memory: Memory, draft: Draft) -> tuple[_Alike, bool]:
    before = memory.alike.get(_key(draft.about, draft.reason))
    if before is None or draft.at - before.at > ALIKE_SECONDS:
        before = _Alike((), draft.at)
    texts = tuple(dict.fromkeys((*before.texts, _key(draft.text))))
    combined = len(texts) >= ALIKE
    # One is left out, so that the next different one makes it so many again.
    return _Alike(texts[1:] if combined else texts, max(before.at, draft.at)), combined


def _refilled(bucket: _Bucket | None, at: float) -> _Bucket:
    if bucket is None:
        return _Bucket(BURST, at)
    # A clock that was set back gives nothing, and takes nothing.
    passed = max(0.0, at - bucket.at)
    return _Bucket(min(BURST, bucket.tokens + passed / REFILL_SECONDS), max(at, bucket.at))


def _keep(kept: Mapping[str, Kept], key: str, one: Kept, seconds: float) -> dict[str, Kept]:
    others = {other: value for other, value in kept.items() if other != key and one.at - value.at <= seconds}
    return dict(list((others | {key: one}).items())[-_MOST:])


def _key(*parts: str) -> str:
    # Each part by its length, so that no two lists of parts are one text.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:24]
