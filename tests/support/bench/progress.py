# ruff: noqa: T201 - a command prints
"""Where a run is, for whoever waits for it, and whether it was interrupted."""

from __future__ import annotations

import sys

from tests.support.interruption import Interruption


class Progress:
    """A line that is written over, on a terminal only. Every call may raise KeyboardInterrupt."""

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption

    def show(self, text: str = "") -> None:
        """Write it over what is there; nothing: leave an empty line."""
        self._interruption.check()
        if sys.stderr.isatty():
            print(f"\r{text:<100}\r", end="", file=sys.stderr, flush=True)
