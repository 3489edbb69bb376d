"""The one seed of a simulated history, and the streams that are drawn from it."""

from __future__ import annotations

from random import Random


class Chance:
    """All chance there is. A stream's name is part of its seed, so that more draws in one do not change another."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def of(self, what: str) -> Random:
        """The stream of this name, from its beginning; the same in every process."""
        return Random(f"{self.seed} {what}")
