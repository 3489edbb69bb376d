"""What a test tells of a world, compared with what happened."""

from __future__ import annotations

import textwrap

from tests.engine.promises import check_always
from tests.engine.simulation import World


def tells(world: World, story: str) -> None:
    """Assert that exactly this has happened: a line each, with seconds since the story's begin."""
    check_always(world)
    assert textwrap.dedent(world.story()) == textwrap.dedent(story).lstrip("\n")
    assert len(world.daemon.tools.tasks) == 0, "something goes on"
