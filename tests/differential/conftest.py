"""All ways to every containerd of the run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.differential.doors import Doors, shown
from tests.differential.ways import Ways
from tests.support.containerd import PrivateContainerd


@pytest.fixture(scope="module")
def doors() -> Iterator[Doors]:
    """The module's daemons: the tests of the next one may have containerd to themselves."""
    made = Doors()
    yield made
    made.close()


@pytest.fixture
def ways(any_containerd: PrivateContainerd, doors: Doors) -> Iterator[Ways]:
    """Containerd's socket, and those of the real daemon in front of it, with either front door."""
    daemons = doors.before(any_containerd)
    with shown(daemons):
        yield Ways(any_containerd.cri, {front: daemon.cri for front, daemon in daemons.items()})
