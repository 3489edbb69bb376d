"""What the hooks' receivers saw: requests at a real HTTP server, lines that commands appended to a mounted file."""

from __future__ import annotations

from pathlib import Path

from tests.support.receiver import Behaviour, Receiver
from tests.support.soak.moves import INSIDE, Hook, Kind, Round

#: An answer that no HTTP client takes for one: a status line ends at three digits.
_NO_HTTP = Behaviour(status=10000)


class Witness:
    """Counts calls from the receivers' side. ``directory`` takes one directory a round."""

    def __init__(self, directory: Path, receiver: Receiver) -> None:
        self._directory = directory
        self._receiver = receiver

    def expect(self, moves: Round) -> tuple[dict[str, str], dict[Path, str]]:
        """Be ready for a round: the annotations and mounts that its container needs."""
        directory = self._directory / str(moves.number)
        directory.mkdir()
        for hook, move in moves.hooks.items():
            if move.kind is Kind.HTTP:
                status = _NO_HTTP.status if move.fails else 200
                self._receiver.behave(moves.path(hook), Behaviour(status=status, delay=move.seconds))
        return moves.annotations(self._receiver.host, self._receiver.port), {directory: INSIDE}

    def calls(self, moves: Round, hook: Hook) -> list[str | None]:
        """The calls of one hook so far: the delivery's id that each named, None for a command, which names none."""
        requests = [request.header("Hookshim-Delivery") or "" for request in self._receiver.seen(moves.path(hook))]
        file = self._directory / str(moves.number) / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [*requests, *(None for line in lines if line == hook)]
