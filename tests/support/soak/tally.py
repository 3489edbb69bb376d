"""Counts what became of all rounds into figures, and tells of each that is wrong."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.soak.figures import Figures
from tests.support.soak.moves import Hook
from tests.support.soak.story import Story
from tests.support.soak.verdict import Fate, Row, judge
from tests.support.soak.witness import Witness


class Tally:
    """Counts stories into figures; ``rows`` are all deliveries."""

    def __init__(self, figures: Figures, rows: Sequence[Row], witness: Witness) -> None:
        self._figures = figures
        self._witness = witness
        self._rows: dict[str, list[Row]] = {}
        for row in rows:
            self._rows.setdefault(row["container_id"], []).append(row)

    def count(self, story: Story) -> None:
        """Add one round."""
        figures = self._figures
        figures.slowest = max(figures.slowest, (story.seconds, story.moves.number))
        problems = list(story.problems)
        if story.container:
            figures.own_ends += story.ended_itself
            figures.ends_lost += [story.moves.number] if story.end_lost else []
            figures.starts_failed += not story.started
            figures.killed_at_start += not story.started and bool(story.struck)
            if not story.started and not story.broken and not story.struck:
                problems.append("expected: it was started, since no call for its start had broken; seen: it was not")
            for hook in Hook:
                problems += self._hook(story, hook)
        figures.problems += [self._tell(story, problem) for problem in problems]

    def _hook(self, story: Story, hook: Hook) -> list[str]:
        figures, move = self._figures, story.moves.hooks.get(hook)
        calls = self._witness.calls(story, hook)
        verdict = judge(story, hook, [row for row in self._of(story) if row["hook"] == hook], calls)
        figures.fates[verdict.fate] += 1
        figures.due += verdict.fate.due
        figures.delivered += verdict.fate.due and bool(calls)
        figures.lost += verdict.lost
        if move is not None:
            figures.duplicated[move.kind] += len(calls) > 1
        if verdict.fate in (Fate.GIVEN_UP, Fate.ENDED_FIRST):
            counts = figures.cut_short if calls else figures.not_called
            counts[f"{hook} {verdict.reason}"] += 1
        if verdict.fate is Fate.UNRECORDED:
            figures.unrecorded.append(story.moves.number)
        problems = [verdict.problem] if verdict.problem else []
        if strays := self._witness.strays(story, hook):
            expected = f"no call of {hook} for a container whose CreateContainer was cut off, and that never started"
            problems.append(f"expected: {expected}; seen: {strays} calls")
        return problems

    def _of(self, story: Story) -> list[Row]:
        return self._rows.get(story.container, [])

    def _tell(self, story: Story, problem: str) -> str:
        status = story.status
        lines = [
            f"round {story.moves.number} of seed {self._figures.seed}: {problem}",
            f"  container {story.container or 'none'}, moves: {story.moves.describe()}",
            f"  StartContainer: {story.start_answer or 'not answered'}; StopContainer: {story.stop_answers or 'none'}",
            f"  killed at {story.struck}; removed: {story.removed}; created at the attempt {story.attempt}",
            f"  containerd: started_at {status.started_at}, finished_at {status.finished_at}, "
            f"exit code {status.exit_code}, {status.reason} {status.message}".rstrip(),
        ]
        for row in self._of(story):
            calls = self._witness.calls(story, Hook(row["hook"]))
            lines.append(
                f"  delivery {row['id']}: {row['hook']} {row['handler']} {row['state']}, {row['attempts']} attempts, "
                f"{len(calls)} calls seen, {row['created_at']} to {row['finished_at']}, error: {row['error'] or 'none'}"
            )
        return "\n".join([*lines, f"  again: {self._figures.again}"])
