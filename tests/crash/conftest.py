"""Whatever dies here, it dies behind both front doors."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.fronts import FRONTS, front_env
from tests.support.hookshimd import Hookshim


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    """Each front door in turn, unless the test says which."""
    return str(request.param)


@pytest.fixture
def hookshim(hookshim: MakeHookshim, front: str) -> MakeHookshim:
    """Makes daemons with this front door."""

    def make(
        containerd: PrivateContainerd,
        *,
        env: dict[str, str] | None = None,
        options: Sequence[str] = (),
        start: bool = True,
    ) -> Hookshim:
        return hookshim(containerd, env={**front_env(front), **(env or {})}, options=options, start=start)

    return make
