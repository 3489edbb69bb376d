"""What a journal holds without an outcome when it is opened: what whoever counts its changes begins with."""

from __future__ import annotations

from dataclasses import dataclass

from shim.records import DeliveryState, Hook
from shim.store import Store, statements

_STATEMENTS = statements("unfinished.sql")


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A delivery without an outcome. Times in seconds since the epoch.

    ``due_at``: since when it is due, unless it is armed. ``first_at``: when its first attempt began, ``began_at`` when
    the present one did; None if there is none. What was before its owner asked for it again does not count.
    """

    id: str
    hook: Hook
    handler: str
    state: DeliveryState
    interruptions: int
    due_at: float
    first_at: float | None = None
    began_at: float | None = None


def unfinished(store: Store) -> list[Unfinished]:
    """All of them. Raises JournalUnavailableError and JournalCorruptError."""
    return [
        Unfinished(
            id=row["id"],
            hook=Hook(row["hook"]),
            handler=row["handler"],
            state=DeliveryState(row["state"]),
            interruptions=row["interruptions"],
            due_at=row["due_at"],
            first_at=row["first_at"],
            began_at=row["began_at"],
        )
        for row in store.rows(_STATEMENTS["unfinished"], {})
    ]
