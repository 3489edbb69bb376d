"""What is said to a person beside the answer, on stderr, each line once."""

from __future__ import annotations

from pathlib import Path

import click

from server import report
from server.log import printable


class Notes:
    """Remarks about the journal in ``state_dir``."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._told: set[str] = set()

    def tell(self, line: str) -> None:
        """Say it, unless it was said before."""
        if line not in self._told:
            self._told.add(line)
            click.echo(printable(line), err=True)

    def tell_set_aside(self) -> None:
        """Name each journal that was found damaged and set aside."""
        for line in report.damaged(self._state_dir):
            self.tell(line)
