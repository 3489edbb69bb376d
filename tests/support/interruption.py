"""Ctrl-C and SIGTERM, noticed where it is safe.

An exception that a signal raises amid a gRPC call leaves the library's locks held, and who then ends what was started
hangs. So a signal is only noted, and raised where the command looks.
"""

from __future__ import annotations

import signal
from types import FrameType


class Interruption:
    """Notes SIGINT and SIGTERM from now on, to the end of the process. Made in the main thread."""

    def __init__(self) -> None:
        #: Whether one has come: what fails then may have failed of it, as a command that a terminal interrupts too.
        self.noted = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has come."""
        if self.noted:
            raise KeyboardInterrupt

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.noted = True
