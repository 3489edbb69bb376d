"""Every way to end a container, from every state, with every kind of hook, by every kind of caller, on real parts.

Looked at from the container's side (its log), from the receiver's, in the journal, and in containerd itself: what
hookshim answers counts for the answers only.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import BASE, Containerds
from tests.support.ends import SLOW_SECONDS, Act, Bed, Callers, Kind, Seen, State, Way
from tests.support.hookshimd import Hookshim
from tests.support.network import node_address
from tests.support.receiver import Receiver


class Case(NamedTuple):
    """One point of the matrix."""

    act: Act
    kind: Kind

    def __str__(self) -> str:
        return "-".join((self.act.way, self.act.state.removeprefix("CONTAINER_").lower(), self.kind, self.act.callers))


def meaningless(act: Act) -> str | None:
    """Why there is no such thing, None if there is."""
    if act.callers is Callers.SHORTER and act.way is not Way.STOP:
        return f"only StopContainer has a timeout that a second one can shorten; {act.way} has none"
    return None


ALL = [Act(way, state, callers) for state, way, callers in product(State, Way, Callers)]
ACTS = [act for act in ALL if meaningless(act) is None]


def pairwise(acts: Iterable[Act]) -> list[Act]:
    """A greedy choice of acts with every pair of a way, a state and callers (each act has every kind of hook)."""
    rest = list(acts)
    wanted = {pair for act in rest for pair in pairs(act)}
    chosen = []
    while wanted:
        best = max(rest, key=lambda act: len(wanted & pairs(act)))
        chosen.append(best)
        wanted -= pairs(best)
    return chosen


def pairs(act: Act) -> set[tuple[str, str]]:
    """The pairs that an act is an example of."""
    return set(combinations((act.way.value, act.state.value, act.callers.value), 2))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The whole matrix on the machine's own containerd, pairs of it on each other one."""
    if "case" in metafunc.fixturenames:
        others = [given.split("=", 1)[0] for given in metafunc.config.getoption("--containerd")]
        acts = {BASE: ACTS, **dict.fromkeys(others, pairwise(ACTS))}
        points = [(version, Case(act, kind)) for version, chosen in acts.items() for act in chosen for kind in Kind]
        metafunc.parametrize(
            ("version", "case"),
            [
                # The five cases of a scene stay in one process, where it is played once.
                pytest.param(
                    version, case, marks=pytest.mark.xdist_group(f"{version} {case.act}"), id=f"{version}-{case}"
                )
                for version, case in points
            ],
        )


class Theatre:
    """A bed for each version, and the scenes that were played on it: one scene has five cases."""

    def __init__(self, containerds: Containerds) -> None:
        self._containerds = containerds
        self._directory = Path(tempfile.mkdtemp(prefix="hookshim-m-"))
        self._address = ExitStack()
        self._receiver = Receiver(self._address.enter_context(node_address()))
        self._beds: dict[str, Bed] = {}
        self._played: dict[tuple[str, Act], dict[Kind, Seen]] = {}

    def seen(self, version: str, case: Case) -> Seen:
        """What became of the case's container."""
        if version not in self._beds:
            place = self._directory / version
            place.mkdir()
            # One of its own, since it is killed to make containers unknown.
            containerd = self._containerds.new(version)
            daemon = Hookshim(place, containerd.socket)
            self._beds[version] = Bed(containerd, daemon, self._receiver, place)
            daemon.start()
        key = (version, case.act)
        if key not in self._played:
            self._played[key] = self._beds[version].play(case.act)
        return self._played[key][case.kind]

    def close(self) -> None:
        """End everything."""
        for bed in self._beds.values():
            bed.daemon.close()
            bed.containerd.end()
        self._receiver.close()
        self._address.close()
        shutil.rmtree(self._directory)


@pytest.fixture(scope="module")
def theatre(containerds: Containerds) -> Iterator[Theatre]:
    """Containerds and daemons for the whole matrix."""
    made = Theatre(containerds)
    yield made
    made.close()


def test_every_point_is_played_or_left_out_for_a_reason() -> None:
    """Nothing falls out of the matrix silently: 320 points, of which 60 have no meaning."""
    assert len(ALL) * len(Kind) == 4 * 4 * 5 * 4
    left_out = [act for act in ALL if meaningless(act)]
    assert len(left_out) * len(Kind) == 3 * 4 * 5
    assert {pair for act in pairwise(ACTS) for pair in pairs(act)} == {pair for act in ACTS for pair in pairs(act)}


@pytest.mark.timeout(180)
def test_a_container_ends_with_its_hook(theatre: Theatre, version: str, case: Case) -> None:
    """The hook runs once, before anything is sent to a process that lives, and never otherwise."""
    seen = theatre.seen(version, case)
    assert seen.words == words(case)
    assert_order(case, seen)
    assert_records(case, seen)
    assert_answers(case, seen)
    assert seen.state == last_state(case.act)
    if case.kind is not Kind.NONE:
        # Whoever stayed or left: what has hooks was ended before anybody called again.
        alive = seen.left_as in (State.RUNNING, State.UNKNOWN)
        assert not alive


def hooked(case: Case) -> bool:
    """Whether a PreStop is due."""
    return case.act.state.alive and case.kind is not Kind.NONE


def by_exec(case: Case) -> bool:
    """Whether the hook logs itself in the container."""
    return hooked(case) and (case.act.state is State.RUNNING or case.kind is Kind.FAILING)


def words(case: Case) -> list[str]:
    """What the container's log says at the end."""
    if not case.act.state.alive:
        return []
    hook = []
    if by_exec(case):
        hook = ["preStop begins"] if case.kind is Kind.HANGING else ["preStop begins", "preStop ends"]
    # Only StopContainer sends TERM; containerd kills inside the others.
    return ["started", *hook, *(["TERM", "finished"] if case.act.way is Way.STOP else [])]


def assert_order(case: Case, seen: Seen) -> None:
    """A hook that arrives elsewhere did so once, and was let end before TERM."""
    arrives = hooked(case) and not by_exec(case) and case.kind is not Kind.FAILING
    assert len(seen.asked) == (1 if arrives else 0)
    if arrives and "TERM" in seen.words:
        took = SLOW_SECONDS if case.kind is Kind.SLOW else 0.0
        # The container's clock is cut to hundredths of a second.
        assert seen.times[seen.words.index("TERM")] + 0.01 >= seen.asked[0] + took


def assert_records(case: Case, seen: Seen) -> None:
    """One delivery of a hook that was due, with one attempt; an event if it failed. None of what was not due."""
    if not hooked(case):
        # One that ended by itself may leave the record that its hook was not due.
        allowed = {"skipped"} if case.act.state is State.EXITED and case.kind is not Kind.NONE else set()
        assert {delivery["state"] for delivery in seen.deliveries} <= allowed
        assert seen.events == []
        return
    [delivery] = seen.deliveries
    fails = case.kind in (Kind.FAILING, Kind.HANGING)
    assert (delivery["hook"], delivery["state"]) == ("preStop", "failed" if fails else "delivered")
    assert delivery["attempts"] == 1
    assert ("timed out after" in delivery["error"]) == (case.kind is Kind.HANGING)
    assert [event["reason"] for event in seen.events] == (["FailedPreStopHook"] if fails else [])


def assert_answers(case: Case, seen: Seen) -> None:
    """Everybody who stayed is told OK. Of two at once, containerd may let one lose, and says so itself."""
    assert len(seen.answers) == (2 if case.act.callers in (Callers.TWO, Callers.SHORTER) else 1)
    codes = {answer.split(":")[0] for answer in seen.answers}
    if case.act.callers is Callers.GONE:
        # It had gone, or containerd was faster.
        assert codes <= {"CANCELLED", "OK"}
    elif case.act.callers is Callers.TWO and case.act.way is not Way.STOP:
        # "not found", "in removing state", "no such device" of its network plugin: no code that hookshim gives.
        assert codes <= {"OK", "UNKNOWN", "NOT_FOUND"}
    else:
        assert codes == {"OK"}


def last_state(act: Act) -> State | None:
    """How containerd shows the container at last; None: not at all."""
    if act.way in (Way.REMOVE, Way.REMOVE_POD):
        return None
    return State.CREATED if act.state is State.CREATED else State.EXITED
