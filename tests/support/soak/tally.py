"""Compares what was due with what the receivers saw and what hookshim says: the soak's figures."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.soak.caller import Story
from tests.support.soak.moves import Hook, HookMove, Kind
from tests.support.soak.witness import Witness

#: One delivery as ``hookshim deliveries --json`` shows it.
Row = dict[str, Any]

#: Why a hook that was due may be recorded as failed though it was not meant to: a stop came first, hookshim was killed
#: too often, or the grace was over (which a PostStart has not), perhaps before the runtime had begun the command.
_GIVEN_UP = {
    Hook.POST_START: re.compile(r"stopped before it ended$|interrupted \d+ times"),
    Hook.PRE_STOP: re.compile(r"timed out|interrupted \d+ times"),
}


@dataclass(slots=True)
class Figures:
    """Counts of hook calls. ``delivered`` were seen by their receiver at least once.

    ``lost``: due, seen by nobody, and not recorded as given up. ``duplicated``: seen more than once. ``void``: their
    container's start failed. ``failed``: seen, and recorded as failed as they were meant to. ``cut_short``: seen, and
    recorded as failed since a stop, a deadline or too many kills ended them. ``why_given_up``: the same, not seen.
    ``slowest``: the seconds of the round that took longest, and its number.
    """

    seed: int
    rounds: int = 0
    kills: int = 0
    seconds: float = 0.0
    due: int = 0
    delivered: int = 0
    duplicated: int = 0
    lost: int = 0
    void: int = 0
    failed: int = 0
    cut_short: int = 0
    starts_failed: int = 0
    slowest: tuple[float, int] = (0.0, 0)
    why_given_up: Counter[str] = field(default_factory=Counter)
    #: Everything that must not be, each with its round, container and deliveries.
    problems: list[str] = field(default_factory=list)

    @property
    def given_up(self) -> int:
        """How many were recorded as given up before anybody had seen them called."""
        return self.why_given_up.total()

    @property
    def good(self) -> bool:
        """Whether the soak has shown what it is to show."""
        return self.lost == 0 and not self.problems

    def line(self) -> str:
        """All figures in one line."""
        why = ", ".join(f"{count} {reason}" for reason, count in self.why_given_up.items())
        return (
            f"seed {self.seed}: {self.rounds} rounds in {self.seconds:.0f} s, {self.kills} kills; hook calls due "
            f"{self.due}, delivered {self.delivered}, duplicated {self.duplicated}, lost {self.lost}; void {self.void} "
            f"of {self.starts_failed} starts cut off, failed as declared {self.failed}, cut short {self.cut_short}, "
            f"given up {self.given_up}{f' ({why})' if why else ''}; slowest round {self.slowest[0]:.0f} s "
            f"({self.slowest[1]}); problems {len(self.problems)}"
        )


class Tally:
    """Counts stories into figures; ``rows`` are all deliveries."""

    def __init__(self, figures: Figures, rows: Sequence[Row], witness: Witness) -> None:
        self._figures = figures
        self._rows = rows
        self._witness = witness
        self._about: Story

    def count(self, story: Story) -> None:
        """Add one round."""
        self._about = story
        self._figures.slowest = max(self._figures.slowest, (story.seconds, story.moves.number))
        for problem in story.problems:
            self._problem(problem)
        if not story.container:
            return
        if not story.started:
            self._figures.starts_failed += 1
            if not story.broken:
                self._problem("it was not started, though no call for its start had broken")
        for hook in Hook:
            move = story.moves.hooks.get(hook)
            rows = [row for row in self._of(story) if row["hook"] == hook]
            calls = self._witness.calls(story.moves, hook)
            if move is None:
                if rows or calls:
                    self._problem(f"{hook} was not declared, and has {len(rows)} rows and {len(calls)} calls")
            elif story.started:
                self._due(hook, move, rows, calls)
            else:
                self._not_due(hook, rows, calls)

    def _due(self, hook: Hook, move: HookMove, rows: list[Row], calls: list[str | None]) -> None:
        figures = self._figures
        figures.due += 1
        states = Counter(str(row["state"]) for row in rows)
        [row] = rows if len(rows) == 1 else [{}]
        failed = row.get("state") == "failed"
        given_up = _GIVEN_UP[hook].search(row["error"]) if failed else None
        if not calls:
            if given_up:
                figures.why_given_up[f"{hook} {given_up[0]}"] += 1
            else:
                figures.lost += 1
                self._problem(f"LOST: {hook} was due and never called; recorded: {dict(states) or 'nothing'}")
            return
        figures.delivered += 1
        figures.duplicated += len(calls) > 1
        figures.failed += failed and move.fails and given_up is None
        figures.cut_short += given_up is not None
        right = given_up is not None or row.get("state") == ("failed" if move.fails else "delivered")
        if not right:
            self._problem(f"{hook} was called {len(calls)} times, and is recorded as {dict(states) or 'nothing'}")
        if move.kind is Kind.HTTP and any(call != row.get("id") for call in calls):
            self._problem(f"{hook} was called as {calls}, which is not the delivery's id")

    def _not_due(self, hook: Hook, rows: list[Row], calls: list[str | None]) -> None:
        if calls:
            self._problem(f"{hook} was called {len(calls)} times, though the container was never started")
        self._figures.void += len(rows)
        if any(row["state"] != "void" for row in rows):
            self._problem(f"{hook} is recorded as {[row['state'] for row in rows]}, though it was never started")

    def _of(self, story: Story) -> list[Row]:
        return [row for row in self._rows if row["container_id"] == story.container]

    def _problem(self, what: str) -> None:
        story = self._about
        status = story.status
        lines = [
            f"round {story.moves.number} of seed {self._figures.seed}: {what}",
            f"  container {story.container or 'none'}, moves: {story.moves.describe()}",
            f"  StartContainer: {story.start_answer or 'not answered'}; StopContainer: {story.stop_answers or 'none'}",
            f"  containerd: started_at {status.started_at}, finished_at {status.finished_at}, "
            f"exit code {status.exit_code}, {status.reason} {status.message}".rstrip(),
        ]
        for row in self._of(story):
            calls = self._witness.calls(story.moves, Hook(row["hook"]))
            lines.append(
                f"  delivery {row['id']}: {row['hook']} {row['handler']} {row['state']}, {row['attempts']} attempts, "
                f"{len(calls)} calls seen, {row['created_at']} to {row['finished_at']}, error: {row['error'] or 'none'}"
            )
        self._figures.problems.append("\n".join(lines))
