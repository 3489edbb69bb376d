"""How far a sink has come, in a file of its own: read at its start, replaced after each event that was taken.

It is not in the journal, because who reads that may not write it, and a receiver's trouble is none of a hook's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from shim.outbox import Place

log = structlog.get_logger(__name__)

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place, and what the receiver wants remembered with it (JSON)."""

    place: Place
    memory: Mapping[str, Any] = field(default_factory=dict)


class CursorFile:
    """``sinks/NAME.json`` of the state directory. Its methods block."""

    def __init__(self, state_dir: Path, name: str) -> None:
        self.path = state_dir / "sinks" / f"{name}.json"

    def load(self) -> Cursor | None:
        """What was saved; None if there is nothing, or nothing that can be used, which is logged."""
        try:
            found = json.loads(self.path.read_bytes())
            if found["version"] != _VERSION:
                raise ValueError(f"version {found['version']}, expected {_VERSION}")  # noqa: TRY301 - one way out
            return Cursor(Place(float(found["born"]), int(found["id"])), dict(found["memory"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("a sink's cursor cannot be read; it begins anew", path=str(self.path), reason=str(error))
            return None

    def save(self, cursor: Cursor) -> None:
        """Replace what was saved, durably and whole or not at all. Raises OSError."""
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        saved = {"version": _VERSION, "born": cursor.place.born, "id": cursor.place.id, "memory": cursor.memory}
        new = self.path.with_suffix(".new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123 - its mode
            json.dump(saved, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
