"""What several unit tests ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from shim.changes import InsertDelivery, InsertEvent, InsertOperation
from shim.store import FILE, Store
from tests.unit.cli_bed import EVENT, FAILED, OK, OPEN, operation


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A state directory with a journal of three deliveries and an event, and no daemon."""
    directory = tmp_path / "state dir?#%"
    directory.mkdir(mode=0o700)
    store = Store.open(directory / FILE)
    groups = [(InsertOperation(operation(each)), InsertDelivery(each)) for each in (OK, FAILED, OPEN)]
    assert store.commit([*groups, (InsertEvent(EVENT),)]) == [None] * 4
    store.close()
    return directory
