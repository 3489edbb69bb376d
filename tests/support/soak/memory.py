"""The journal, read beside the daemon: what it has accepted, and what is open."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from tests.support.hookshimd import Hookshim
from tests.support.journal import ask


@dataclass(frozen=True, slots=True)
class Memory:
    """Reads a daemon's journal."""

    daemon: Hookshim

    def stops(self, container: str) -> bool:
        """Whether a stop of this container was accepted."""
        return bool(ask(self.daemon, "SELECT id FROM operation WHERE kind = 'stop' AND container_id = ?", container))

    def stopped(self, container: str) -> bool:
        """Whether a stop of this container is done."""
        question = "SELECT id FROM operation WHERE kind = 'stop' AND state = 'done' AND container_id = ?"
        return bool(ask(self.daemon, question, container))

    def knows(self, container: str, hook: str) -> bool:
        """Whether there is a delivery of this hook of the container."""
        return bool(ask(self.daemon, "SELECT id FROM delivery WHERE container_id = ? AND hook = ?", container, hook))

    def open(self) -> list[str]:
        """What is open, for a person."""
        try:
            return [
                *(
                    f"delivery {row[0]}: {row[1]} of container {row[2]} is {row[3]}"
                    for row in ask(
                        self.daemon, "SELECT id, hook, container_id, state FROM delivery WHERE finished_at IS NULL"
                    )
                ),
                *(
                    f"operation {row[0]}: {row[1]} of container {row[2]} is {row[3]}"
                    for row in ask(
                        self.daemon, "SELECT id, kind, container_id, state FROM operation WHERE finished_at IS NULL"
                    )
                ),
            ]
        except sqlite3.OperationalError as error:  # one that is just being made
            return [f"the journal cannot be read: {error}"]
