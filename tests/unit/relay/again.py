"""The reference's own tests, run once more on the relay."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType


def again(module: ModuleType, without: set[str]) -> dict[str, Callable[..., object]]:
    """The tests of a module but for some, by their names, each of which has to be there."""
    tests = {name: test for name, test in vars(module).items() if name.startswith("test_")}
    if missing := without - tests.keys():
        raise LookupError(f"{module.__name__} has no {', '.join(sorted(missing))}")
    return {name: test for name, test in tests.items() if name not in without}
