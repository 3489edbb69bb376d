"""The simulation can fail: each mistake that is made on purpose is found by some seed among a bounded number."""

from __future__ import annotations

import pytest

from tests.engine.lives import live
from tests.engine.mutations import MUTATIONS, Mutation

#: Seeds of which one must find it: ``test_histories`` has ten times as many.
BOUND = 1000


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_mistake_is_found(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the bound, a promise is broken that the engine as it is keeps."""
    mutation(monkeypatch)
    found = next((life for life in map(live, range(1, BOUND)) if life.problem), None)
    assert found is not None, f"{mutation.__doc__} Nobody notices."
    monkeypatch.undo()
    assert not live(found.seed).problem
