"""An observer as the daemon starts it, on a journal that a test writes: its settings on stdin, its log in a file."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from server.config import Config
from server.observe.supervisor import COMMAND
from tests.support.waiting import PATIENCE, until

#: What the log says when HTTP is there.
SERVED = "HTTP is served"


class Observer:
    """One process. ``url`` is where it serves; ``log`` is what it has said."""

    def __init__(self, directory: Path, listen: str, **settings: Any) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        values = {"state_dir": directory, "admin": directory / "a.sock", "http": {"listen": listen}, **settings}
        self.config = Config.model_validate(values)
        self.log = directory / f"observer-{secrets.token_hex(4)}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stderr=log, start_new_session=True)
        assert self._process.stdin is not None
        self._process.stdin.write(self.config.model_dump_json(warnings=False).encode() + b"\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Where it serves; waits until it does."""

        def served() -> str | None:
            assert self._process.poll() is None, self.log.read_text()
            return next((str(line["listen"]) for line in self.lines() if line["event"] == SERVED), None)

        return f"http://{until(served, SERVED)}"

    def lines(self) -> list[dict[str, Any]]:
        """The whole lines of its log."""
        return [json.loads(line) for line in re.findall(r"^\{.*\}$", self.log.read_text(), re.MULTILINE)]

    def abandon(self) -> int:
        """End its stdin, as the daemon's end does, and wait for its exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(PATIENCE)

    def terminate(self) -> int:
        """SIGTERM, and wait for its exit status."""
        self._process.terminate()
        return self._process.wait(PATIENCE)


@contextmanager
def observer(directory: Path, listen: str = "127.0.0.1:0", **settings: Any) -> Iterator[Observer]:
    """An observer that serves HTTP."""
    with Observer(directory, listen, **settings) as made:
        assert made.url
        yield made
