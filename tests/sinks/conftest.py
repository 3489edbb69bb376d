"""What the tests of the sinks ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sinks.api_server import ApiServer
from tests.sinks.bed import Events, Forks, Sink


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A state directory that is not there yet."""
    return tmp_path / "state"


@pytest.fixture
def events(state_dir: Path) -> Iterator[Events]:
    """A journal to have events in."""
    made = Events(state_dir)
    yield made
    made.store.close()


@pytest.fixture
def api() -> Iterator[ApiServer]:
    """An API server that lets in whoever has the token ``secret``."""
    with ApiServer(token="secret") as server:
        yield server


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    """What the sinks of a module come from."""
    made = Forks()
    yield made
    made.close()


@pytest.fixture
def run_sink(forks: Forks, state_dir: Path) -> Iterator[Callable[[Path], Sink]]:
    """Starts the sink on a kubeconfig; killed with the test, and its log shown if that fails."""
    made: list[Sink] = []

    def run(kubeconfig: Path) -> Sink:
        made.append(Sink(forks, state_dir, kubeconfig))
        return made[-1]

    yield run
    for sink in made:
        sink.kill()
        print(sink.log.read_text() if sink.log.exists() else "no log")  # noqa: T201 - pytest shows it with a failure
