"""The values that labels may have: sets that no annotation and no caller can make larger."""

from __future__ import annotations

import re
from typing import Final

from server.front.methods import FORWARDED, UNARY

#: The kinds of handlers.
KINDS: Final = ("exec", "httpGet", "sleep", "tcpSocket", "run")

#: The journal writes a declaration with the handler first.
_KIND: Final = re.compile(rf'\{{"({"|".join(KINDS)})":')

#: What is not known: the handler of a declaration that turned out to be malformed, or of a record that is not there.
UNKNOWN: Final = "unknown"

#: A method that CRI did not have when this was written, or that is none of CRI's, and a reason beyond the limit.
OTHER: Final = "other"

#: CRI's methods that are streams.
_STREAMS: Final = ("GetContainerEvents",)

_METHODS: Final = {path: path.rpartition("/")[2] for path in UNARY} | {
    f"{FORWARDED}RuntimeService/{name}": name for name in _STREAMS
}

#: The most reasons of events that are told apart: hookshim has a handful.
_REASONS: Final = 32


def handler(declaration: str) -> str:
    """The kind of a delivery's handler: ``exec``, ``httpGet``, ``sleep``, ``tcpSocket``, ``run`` or ``unknown``."""
    found = _KIND.match(declaration)
    return found[1] if found else UNKNOWN


def method(path: str) -> str:
    """A method's name (``StopContainer``) if CRI knows it, else ``other``."""
    return _METHODS.get(path, OTHER)


class Reasons:
    """The reasons of events, the first of them by their names."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def bounded(self, reason: str) -> str:
        """The reason, or ``other``."""
        if reason not in self._seen and len(self._seen) >= _REASONS:
            return OTHER
        self._seen.add(reason)
        return reason
