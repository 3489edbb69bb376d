"""What the tests of the command line ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.bed import write


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A state directory with the journal that the golden files show, and no daemon."""
    return write(tmp_path / "state")
