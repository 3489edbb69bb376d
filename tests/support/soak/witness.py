"""What the hooks' receivers saw: requests at a real HTTP server, lines that commands appended to a mounted file."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.support.receiver import Behaviour, Receiver
from tests.support.soak.moves import INSIDE, Hook, Kind, Round
from tests.support.soak.story import Story

#: An answer that no HTTP client takes for one: a status line ends at three digits.
_NO_HTTP = Behaviour(status=10000)


class Witness:
    """Counts calls from the receivers' side. ``directory`` takes one directory a round."""

    def __init__(self, directory: Path, receiver: Receiver) -> None:
        self._directory = directory
        self._receiver = receiver
        self._lock = threading.Lock()
        #: The deliveries that requests named, by their path, of as many requests as were read.
        self._named: dict[str, list[str]] = {}
        self._read = 0

    def expect(self, moves: Round, attempt: int) -> tuple[dict[str, str], dict[Path, str]]:
        """Be ready for what this attempt creates: the annotations and mounts that the container needs."""
        directory = self._place(moves, attempt)
        directory.mkdir(parents=True)
        for hook, move in moves.hooks.items():
            if move.kind is Kind.HTTP:
                status = _NO_HTTP.status if move.fails else 200
                self._receiver.behave(moves.path(hook, attempt), Behaviour(status=status, delay=move.seconds))
        return moves.annotations(self._receiver.host, self._receiver.port, attempt), {directory: INSIDE}

    def calls(self, story: Story, hook: Hook) -> list[str | None]:
        """The calls of one hook so far: the delivery's id that each named, None for a command, which names none."""
        return self._calls(story.moves, hook, story.attempt)

    def strays(self, story: Story, hook: Hook) -> int:
        """The calls for containers that nobody has started: those of the attempts before."""
        return sum(len(self._calls(story.moves, hook, attempt)) for attempt in range(story.attempt))

    def _calls(self, moves: Round, hook: Hook, attempt: int) -> list[str | None]:
        file = self._place(moves, attempt) / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [*self._requests(moves.path(hook, attempt)), *(None for line in lines if line == hook)]

    def _place(self, moves: Round, attempt: int) -> Path:
        return self._directory / str(moves.number) / str(attempt)

    def _requests(self, path: str) -> list[str]:
        with self._lock:
            new = self._receiver.requests[self._read :]
            self._read += len(new)
            for request in new:
                self._named.setdefault(request.path, []).append(request.header("Hookshim-Delivery") or "")
            return list(self._named.get(path, ()))
