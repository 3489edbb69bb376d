"""A process that a test started: logs to a file, is waited for, and is ended by its own pid, never by a name."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.waiting import PATIENCE

#: Bytes of a log that an error shows.
_TAIL = 4000


class Process:
    """Started at once, in a session of its own, so that a signal of the terminal's ends only the tests."""

    def __init__(self, command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """How it ended (negative: by that signal), None while it runs."""
        return self._process.poll()

    def wait(self, within: float = PATIENCE) -> int:
        """Wait for its end by itself. Raises TimeoutError with the log's tail after ``within`` seconds."""
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"pid {self.pid} still runs after {within:g} s; its log:\n{self.tail()}") from None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone; nothing if it is."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def terminate(self, within: float = PATIENCE) -> int:
        """SIGTERM, and wait for its exit status. Raises TimeoutError like wait()."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait(within)

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_bytes()[-_TAIL:].decode(errors="replace")
