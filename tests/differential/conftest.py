"""Both ways to every containerd of the run."""

from __future__ import annotations

import pytest

from tests.conftest import MakeHookshim
from tests.differential.ways import Ways
from tests.support.containerd import PrivateContainerd


@pytest.fixture
def ways(any_containerd: PrivateContainerd, hookshim: MakeHookshim) -> Ways:
    """Containerd's socket, and that of the real daemon in front of it."""
    return Ways(any_containerd.cri, hookshim(any_containerd))
