"""The relay between a client and a runtime, as the reference's tests have the reference."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from server.relay import RelayFront
from tests.unit.front_bed import Bed, running_bed


@pytest_asyncio.fixture
async def bed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Bed]:
    """A relay in front of a runtime; whatever the test does, grpc and asyncio find nothing to complain of."""
    async with running_bed(tmp_path, RelayFront) as made:
        yield made
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
