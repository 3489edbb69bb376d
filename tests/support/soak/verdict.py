"""What became of one hook, judged from its receiver, its container and the journal together. Pure.

The rules (../shared/semantics.md, "Delivery"): a container that was started has one record of each hook; a record that
says ``delivered`` has a call; what is due and was not called says why. A container that ended without a call makes
``exited``, ``missed`` and, for PreStop, ``skipped`` possible, and nothing else does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from tests.support.soak.moves import Hook, HookMove, Kind
from tests.support.soak.story import UNKNOWN_EXIT, Story

#: One delivery as ``hookshim deliveries --json`` shows it.
Row = dict[str, Any]

#: Why a hook that was due may be recorded as failed though it was not meant to: a stop came first, hookshim was killed
#: too often, or the grace was over (which a PostStart has not), perhaps before the runtime had begun the command.
_GIVEN_UP = {
    Hook.POST_START: re.compile(r"stopped before it ended$|interrupted \d+ times"),
    Hook.PRE_STOP: re.compile(r"timed out|interrupted \d+ times"),
}

#: Seconds by which the time that containerd keeps of an end may be later than its task's Wait told of it.
_LATER = 1.0


class Fate(StrEnum):
    """``AS_DECLARED``: delivered, or failed as it was meant to. ``GIVEN_UP``: recorded as failed, with the reason.

    ``ENDED_FIRST``: its container ended under it. ``NOT_DUE``: its container ended by itself before, and the record
    says so. ``UNRECORDED``: the same, but it was removed before hookshim had looked. ``VOID``: its container never
    started. ``UNKNOWABLE``: containerd itself has lost whether it did.
    """

    AS_DECLARED = "as declared"
    GIVEN_UP = "given up"
    ENDED_FIRST = "ended first"
    NOT_DUE = "not due"
    UNRECORDED = "unrecorded"
    UNKNOWABLE = "unknowable"
    VOID = "void"
    UNDECLARED = "undeclared"
    WRONG = "wrong"

    @property
    def due(self) -> bool:
        """Whether a call was due."""
        return self in (Fate.AS_DECLARED, Fate.GIVEN_UP, Fate.ENDED_FIRST, Fate.WRONG)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason`` says why a hook that was due was not carried out. ``problem`` is what was expected and seen, or empty.

    ``lost``: it was due, nobody saw it, and no record says why.
    """

    fate: Fate
    reason: str = ""
    problem: str = ""
    lost: bool = False


def judge(story: Story, hook: Hook, rows: Sequence[Row], calls: Sequence[str | None]) -> Verdict:
    """What became of this hook, of whose deliveries there are ``rows``."""
    move = story.moves.hooks.get(hook)
    if move is None:
        return _none(Fate.UNDECLARED, f"no {hook}, which is not declared", rows, calls)
    if story.unknowable:
        return Verdict(Fate.UNKNOWABLE)
    if not story.started:
        void = [row for row in rows if row["state"] != "void"]
        return _none(Fate.VOID, f"no call of {hook}, and void: its container was never started", void, calls)
    verdict = _started(story, hook, move, rows, calls)
    if not verdict.problem and move.kind is Kind.HTTP and any(call != rows[0]["id"] for call in calls):
        return Verdict(Fate.WRONG, problem=f"expected: every call of {hook} names {rows[0]['id']}; seen: {calls}")
    return verdict


def _none(fate: Fate, expected: str, rows: Sequence[Row], calls: Sequence[str | None]) -> Verdict:
    problem = f"expected: {expected}; seen: {_seen(rows, calls)}" if rows or calls else ""
    return Verdict(fate, problem=problem)


def _started(story: Story, hook: Hook, move: HookMove, rows: Sequence[Row], calls: Sequence[str | None]) -> Verdict:
    if len(rows) != 1:
        if not rows and not calls and hook is Hook.PRE_STOP and story.ended_itself and story.removed:
            return Verdict(Fate.UNRECORDED)
        return _wrong(f"one record of {hook}", rows, calls)
    state, error = str(rows[0]["state"]), str(rows[0]["error"])
    if state == "delivered":
        right = bool(calls) and not move.fails
        return Verdict(Fate.AS_DECLARED) if right else _wrong(f"a call of {hook} that succeeds", rows, calls)
    if state == "failed":
        if given_up := _GIVEN_UP[hook].search(error):
            return Verdict(Fate.GIVEN_UP, given_up[0])
        right = bool(calls) and move.fails
        return Verdict(Fate.AS_DECLARED) if right else _wrong(f"{hook} carried out as declared", rows, calls)
    if state in ("exited", "missed"):
        right = story.ended_itself and _after_its_end(story, rows[0])
        return Verdict(Fate.ENDED_FIRST, state) if right else _wrong(f"{hook} carried out", rows, calls)
    if state == "skipped" and hook is Hook.PRE_STOP:
        right = story.ended_itself and not calls and error.startswith("ended by itself")
        right = right and _after_its_end(story, rows[0])
        return (
            Verdict(Fate.NOT_DUE) if right else _wrong(f"{hook} carried out, as its container was stopped", rows, calls)
        )
    return _wrong(f"{hook} carried out", rows, calls)


def _after_its_end(story: Story, row: Row) -> bool:
    """Whether a record that says that its container has ended is not from before that.

    Of an end that it has missed, containerd knows only when it was back.
    """
    if story.status.exit_code == UNKNOWN_EXIT:
        return True
    at = datetime.fromisoformat(row["finished_at"]).timestamp()
    return at >= story.status.finished_at / 1e9 - _LATER


def _wrong(expected: str, rows: Sequence[Row], calls: Sequence[str | None]) -> Verdict:
    lost = "" if calls else "LOST; "
    return Verdict(Fate.WRONG, problem=f"{lost}expected: {expected}; seen: {_seen(rows, calls)}", lost=not calls)


def _seen(rows: Sequence[Row], calls: Sequence[str | None]) -> str:
    states = dict(Counter(str(row["state"]) for row in rows))
    return f"{len(calls)} calls, recorded: {states or 'nothing'}"
