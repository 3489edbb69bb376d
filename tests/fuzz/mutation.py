"""Changes to an input that keep it nearly a declaration: bytes changed at random seldom get past the first brace."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from random import Random

FIELDS = [
    "postStart", "preStop", "postStop", "exec", "httpGet", "sleep", "tcpSocket", "run", "command", "port", "path",
    "host", "scheme", "httpHeaders", "expectStatus", "url", "name", "value", "seconds", "timeoutSeconds", "retry",
    "attempts", "backoffSeconds", "maxBackoffSeconds", "onFailure", "*", "web",
]  # fmt: skip
SCALARS = [
    "HTTP", "HTTPS", "8080", "http", "2xx", "3xx", "unlimited", "ignore", "kill", "", "a", "Host", "::1", "a.b",
    "\x1b[2J\u202e", "\ud800", "\0", 0, -1, 1, 2, 200, 404, 599, 65535, 65536, 1.5, 1e300, 10**25, math.inf, math.nan,
    None, True, False,
]  # fmt: skip

#: Changes bytes as libFuzzer does: (data, the most bytes) -> data.
Mutate = Callable[[bytes, int], bytes]


def mutated(data: bytes, most: int, seed: int, mutate: Mutate) -> bytes:
    """Another input of at most ``most`` bytes: the reader's name and its text, of which mostly the text changes."""
    random = Random(seed)
    name, newline, text = data.partition(b"\n")
    if not newline or random.random() < 0.02:
        return mutate(data, most)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return (name + newline + mutate(text, most - len(name) - 1))[:most]
    if random.random() < 0.3:
        return (name + newline + mutate(text, most - len(name) - 1))[:most]
    for _ in range(random.randint(1, 3)):
        value = _changed(random, value)
    return (name + newline + json.dumps(value).encode())[:most]


def _changed(random: Random, value: object) -> object:
    deeper = random.random() < 0.8
    if isinstance(value, dict):
        if value and deeper:
            chosen = random.choice(list(value))
            return {key: _changed(random, one) if key == chosen else one for key, one in value.items()}
        return _resized(random, value)
    if isinstance(value, list):
        if value and deeper:
            chosen = random.randrange(len(value))
            return [_changed(random, one) if index == chosen else one for index, one in enumerate(value)]
        return [*value, *(random.sample(value, 1) if value else []), _made(random)][random.randint(0, 1) :]
    if isinstance(value, str) and value and deeper:
        at = random.randrange(len(value))
        return value[:at] + random.choice(["", "é", "\n", "-", ".", ":", "0", "x", "\u2028", "["]) + value[at + 1 :]
    if isinstance(value, int | float) and not isinstance(value, bool) and deeper:
        return random.choice([value + 1, value - 1, value * 10, -value, value / 2])
    return _made(random)


def _resized(random: Random, value: dict[str, object]) -> dict[str, object]:
    """With a member more, or one less, or one under another name."""
    changed = dict(value)
    action = random.randrange(3)
    taken = changed.pop(random.choice(list(changed))) if changed and action else _made(random)
    if action != 1:
        changed[random.choice(FIELDS) if random.random() < 0.9 else str(random.choice(SCALARS))] = taken
    return changed


def _made(random: Random) -> object:
    if random.random() < 0.7:
        return random.choice(SCALARS)
    return random.choice([[], {}, [random.choice(SCALARS)], {random.choice(FIELDS): random.choice(SCALARS)}])
