"""The simulated world as a fixture, and the check of what was told of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

pytest.register_assert_rewrite("tests.engine.promises", "tests.engine.stories")

# after the line above, which is about what they import
from tests.engine.reach import FIRST, HISTORIES  # noqa: E402
from tests.engine.simulation import World  # noqa: E402


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which seeds were lived through."""
    reports = [one for many in terminalreporter.stats.values() for one in many if isinstance(one, pytest.TestReport)]
    if any("test_histories.py" in report.nodeid for report in reports):
        terminalreporter.section("simulated histories")
        terminalreporter.line(f"seeds {FIRST} to {FIRST + HISTORIES - 1} (HOOKSHIM_SIM_SEED, HOOKSHIM_SIM_HISTORIES)")


@pytest.fixture
def world() -> Iterator[World]:
    """A node with a containerd, a hookshim and nothing else."""
    with closing(World()) as made:
        yield made
