"""The simulated world as a fixture, and the check of what was told of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

pytest.register_assert_rewrite("tests.engine.promises", "tests.engine.stories")

from tests.engine.simulation import World  # noqa: E402 - after the line above, which is about what it imports


@pytest.fixture
def world() -> Iterator[World]:
    """A node with a containerd, a hookshim and nothing else."""
    with closing(World()) as made:
        yield made
