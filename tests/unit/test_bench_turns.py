"""Ways are measured by turns, each by itself; one that fails has its reason, and the others go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bench.fake import fake_runtime
from tests.support.bench.figures import DIRECT, Row
from tests.support.bench.load import LoadError
from tests.support.bench.progress import Progress
from tests.support.bench.stand import Stand, Way
from tests.support.bench.turns import Taken, by_turns, measure
from tests.support.cri import CRIClient
from tests.support.interruption import Interruption


class Quiet(Progress):
    """Shows nothing, and is never interrupted."""

    def __init__(self) -> None:
        """Nothing to remember, and no signal's handler to set: pytest has its own."""

    def show(self, text: str = "") -> None:
        """Nothing."""


@pytest.fixture
def ways(tmp_path: Path) -> Iterator[Stand]:
    """Three ways that lead nowhere, and no hookshim."""
    clients = [CRIClient(tmp_path / name) for name in ("a", "b", "c")]
    made = Stand("nothing", [Way(client.socket.name, client.socket, client) for client in clients])
    yield made
    made.close()


@pytest.fixture(scope="module")
def fake() -> Iterator[Path]:
    """The socket of a fake runtime."""
    with fake_runtime() as (socket, _):
        yield socket


def states(pid: int) -> set[str]:
    """The letters of the states of a process's threads: T is stopped."""
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")}


def test_each_way_has_each_place_equally_often(ways: Stand) -> None:
    """Nobody is always the one that is measured after somebody else."""
    orders = [[way.name for way in by_turns(ways.ways, number)] for number in range(6)]
    for place in range(3):
        assert Counter(order[place] for order in orders) == {"a": 2, "b": 2, "c": 2}


def test_every_round_but_the_first_is_counted(ways: Stand) -> None:
    """The round in which everything is done for the first time is thrown away."""
    numbers = iter(range(100))
    [row] = measure({"": Row("x", "s")}, ways, lambda _: {"": Taken(float(next(numbers)))}, 2, Quiet())
    assert sorted(value for taken in row.taken.values() for value in taken) == [3, 4, 5, 6, 7, 8]


def test_a_way_that_fails_is_left_out_with_its_reason(ways: Stand) -> None:
    """The others are measured to the end, and what the one had got until then is not shown."""
    asked: Counter[str] = Counter()

    def sample(way: Way) -> dict[str, Taken]:
        asked[way.name] += 1
        if way.name == "b" and asked["b"] == 3:
            raise LoadError("it went away")
        return {"": Taken(1.0, 0.5, 10)}

    [row] = measure({"": Row("x", "s")}, ways, sample, 4, Quiet())
    assert row.missing == {"b": "it went away"}
    assert {name: len(taken) for name, taken in row.taken.items()} == {"a": 4, "c": 4}
    assert asked == {"a": 5, "b": 3, "c": 5}


def test_a_call_that_is_refused_is_a_reason_too(ways: Stand) -> None:
    """A client's error says which call it was and what was answered."""

    def sample(way: Way) -> dict[str, Taken]:
        way.cri.version(timeout=5)
        return {}

    [row] = measure({"": Row("x", "s")}, ways, sample, 1, Quiet())
    assert set(row.missing) == {"a", "b", "c"}
    assert row.missing["a"].startswith("Version: UNAVAILABLE")


def test_a_hookshim_that_does_not_start_is_missing_and_the_others_are_measured(fake: Path, tmp_path: Path) -> None:
    """Its column says why, in its own words, and nothing of it is left running."""
    made = Stand("fake", [Way(DIRECT, fake, CRIClient(fake))])
    try:
        made.add("nonsense", fake, tmp_path)
        assert [way.name for way in made.ways] == [DIRECT]
        assert "HOOKSHIM_FRONT" in made.missing["nonsense"]
        [row] = measure({"": Row("x", "s")}, made, lambda _: {"": Taken(1.0)}, 1, Quiet())
        assert row.taken == {DIRECT: [1.0]}
        assert row.missing == made.missing
    finally:
        made.close()
    assert list(tmp_path.iterdir()) == []


def test_without_a_directory_for_its_journal_a_way_is_missing(fake: Path) -> None:
    """A machine without a file system in memory has no numbers for it, and says so."""
    made = Stand("fake")
    made.add("grpc", fake, None)
    assert made.ways == []
    assert made.missing == {"grpc": "there is no directory for its journal"}


def test_while_one_is_measured_the_others_stand_still(fake: Path, tmp_path: Path) -> None:
    """No other hookshim does anything meanwhile; afterwards all of them go on and answer."""
    made = Stand("fake", [Way(DIRECT, fake, CRIClient(fake))])
    try:
        made.add("grpc", fake, tmp_path)
        direct, through = made.ways
        assert through.daemon is not None
        with made.alone(direct):
            assert states(through.daemon.pid) == {"T"}
        with made.alone(through):
            assert "T" not in states(through.daemon.pid)
        assert through.cri.version(timeout=30).runtime_name == "fake"
    finally:
        made.close()
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_ends_it_between_two_measurements(ways: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is met where everything can still be put away."""
    interruption = object.__new__(Interruption)
    interruption.noted = True
    with pytest.raises(KeyboardInterrupt):
        measure({"": Row("x", "s")}, ways, lambda _: {}, 1, Progress(interruption))
