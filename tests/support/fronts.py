"""Both front doors, for what has to hold whichever it is."""

from __future__ import annotations

from typing import Final

#: By the names that the configuration has for them: the one that relays, and the reference.
FRONTS: Final = ("relay", "grpc")


def front_env(front: str) -> dict[str, str]:
    """The environment of a daemon with this front door."""
    return {"HOOKSHIM_FRONT": front}
