"""A node's worth of pods: how long a start takes that finds a long journal, a hundred at once, and memory over a day.

Everything is in front of fake runtimes, which are named so; what the hooks do is nothing. How the daemon behaves at
that size is tests/integration/test_scale.py's to say.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from tests.support.bench import history, processes
from tests.support.bench.fake import SHORT, VERSION
from tests.support.bench.figures import JUDGED, Check, Verdict
from tests.support.bench.journal import delivered
from tests.support.bench.load import Callers, LoadError, Request, load
from tests.support.bench.node import Given, node
from tests.support.bench.progress import Progress
from tests.support.bench.stand import FRONTS, Way, stand
from tests.support.cri import CRIError
from tests.support.hookshimd import Hookshim
from tests.wire import cri_pb2 as cri

_SERVICE = "/runtime.v1.RuntimeService/"

#: Seconds within which a daemon with a long journal serves.
RECOVERS = 2.0

#: Flat: bytes that a daemon may grow by after the first tenth of what is asked of it.
GROWTH = 6_000_000

#: Seconds between two looks whether a daemon serves, and in which it has to.
_LOOK, _PATIENCE = 0.005, 60.0

#: In how many parts calls and deliveries are made, by turns.
_PARTS = 10

_NOTHING = json.dumps({"sleep": {"seconds": 0}})
_HOOKS = {"hookshim.dev/lifecycle": json.dumps({hook: json.loads(_NOTHING) for hook in ("postStart", "preStop")})}


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything: rows ``ended`` and ``opened`` in the journal, and how often a daemon starts with it.

    ``pods``, of which ``at_once`` are started and as many stopped in one moment. ``calls`` (a multiple of 160, at least
    320) and ``deliveries`` (of 1,000, or less) while the memory is looked at.
    """

    ended: int
    opened: int
    starts: int
    pods: int
    at_once: int
    calls: int
    deliveries: int


#: By the bench's mode. Memory has grown by the first tenth to what the daemon works with, in all but the last.
SIZES = {
    "full": Size(100_000, 1_000, starts=5, pods=500, at_once=100, calls=100_000, deliveries=10_000),
    "quick": Size(100_000, 1_000, starts=2, pods=500, at_once=100, calls=32_000, deliveries=4_000),
    "smoke": Size(1_000, 44, starts=1, pods=20, at_once=4, calls=320, deliveries=100),
}


def checks(size: Size, fake: Path, directory: Path, progress: Progress) -> list[Check]:
    """All of them; journals lie below ``directory``, ``fake`` is the socket of the fake runtime for deliveries."""
    return [
        recovers(size, directory, progress),
        starts_and_stops(size, directory, progress),
        *stays_flat(size, fake, directory, progress),
    ]


def recovers(size: Size, directory: Path, progress: Progress) -> Check:
    """From the start of the process to the first answer to Version, and what CPU it took."""
    opened = history.left(size.opened)
    seconds: dict[str, list[float]] = {front: [] for front in FRONTS}
    cpu: dict[str, list[float]] = {front: [] for front in FRONTS}
    with (
        node(Given(one.container, one.pod, state, ran) for one, state, ran in history.known(opened)) as (socket, _),
        tempfile.TemporaryDirectory(prefix="hookshim-p-") as bytecode,
        tempfile.TemporaryDirectory(prefix="hookshim-j-", dir=directory) as journal,
    ):
        history.write(Path(journal), size.ended, opened, lambda _: _NOTHING)
        # the first start of each has the code compiled, as a package that is installed has it
        warm_up = 1 if size.starts > 1 else 0
        env = _compiled(bytecode) if warm_up else {}
        for number in range(size.starts + warm_up):
            for front in FRONTS:
                progress.show(f"recovery: start {number} of {size.starts}, {front}")
                with _daemon(directory, socket, front, env) as daemon:
                    shutil.copytree(journal, daemon.state_dir)
                    took, used = _first_answer(daemon)
                if number >= warm_up:
                    seconds[front].append(took)
                    cpu[front].append(used)
    median = {front: statistics.median(values) for front, values in seconds.items()}
    found = "; ".join(f"{front} {median[front]:.2f} s ({statistics.median(cpu[front]):.2f} s CPU)" for front in FRONTS)
    verdict = Verdict.MET if median[JUDGED] < RECOVERS else Verdict.NOT_MET
    what = f"{size.opened:,} open of {size.ended + size.opened:,} (fake), from its start to the first answer"
    return Check(what, found, f"< {RECOVERS:g} s", verdict)


def starts_and_stops(size: Size, directory: Path, progress: Progress) -> Check:
    """Starts and stops of pods with hooks, all in one moment: until the last is answered, and what was delivered."""
    found, kept = [], True
    for front in FRONTS:
        progress.show(f"{size.at_once} started and {size.at_once} stopped at once, {front}")
        with node(_pods(size)) as (socket, _), _daemon(directory, socket, front) as daemon:
            daemon.start()
            used = processes.cpu(daemon.pid)
            took, failed = _all_at_once(size, daemon.socket)
            used = processes.cpu(daemon.pid) - used
            made = delivered(daemon.state_dir)
        kept = kept and not failed and made == 2 * size.at_once
        said = f"; {failed} calls failed" if failed else ""
        found.append(f"{front} {took:.2f} s ({used:.2f} s CPU), {made} hooks{said}")
    what = f"{size.at_once} started and {size.at_once} stopped at once, of {size.pods} pods with hooks (fake)"
    promised = f"{2 * size.at_once} hooks, no call fails"
    return Check(what, "; ".join(found), promised, Verdict.MET if kept else Verdict.NOT_MET)


def stays_flat(size: Size, fake: Path, directory: Path, progress: Progress) -> list[Check]:
    """Resident memory of the daemon after the first tenth, and after all."""
    with stand("fake runtime", fake, directory, direct=False) as where:
        return [_flat(size, way, progress) for way in where.ways]


def _flat(size: Size, way: Way, progress: Progress) -> Check:
    assert way.daemon is not None
    version = Request(f"{_SERVICE}Version", b"", len(VERSION))
    message = cri.StopContainerRequest(container_id=SHORT, timeout=30).SerializeToString()
    stop = Request(f"{_SERVICE}StopContainer", message, 0)
    resident = []
    what = f"memory of the daemon over {size.calls:,} calls and {size.deliveries:,} deliveries (fake), {way.name}"
    promised = f"≤ {GROWTH / 1e6:g} MB more after the first tenth"
    try:
        for part in range(_PARTS):
            progress.show(f"memory: part {part + 1} of {_PARTS}, {way.name}")
            load(way.socket, version, Callers(16), size.calls // _PARTS)
            load(way.socket, stop, Callers(min(100, size.deliveries // _PARTS)), size.deliveries // _PARTS, cold=True)
            processes.settle(way.daemon.pid)
            resident.append(processes.resident(way.daemon.pid)[way.daemon.pid][1])
    except LoadError as error:
        return Check(what, str(error), promised, Verdict.UNKNOWN)
    grown = resident[-1] - resident[0]
    found = f"{resident[0] / 1e6:.1f} MB, then {resident[-1] / 1e6:.1f} MB ({grown / 1e6:+.1f})"
    return Check(what, found, promised, Verdict.MET if grown <= GROWTH else Verdict.NOT_MET)


@contextmanager
def _daemon(directory: Path, socket: Path, front: str, env: dict[str, str] | None = None) -> Iterator[Hookshim]:
    """A daemon with a directory of its own, which is not started yet."""
    with tempfile.TemporaryDirectory(prefix="hookshim-b-", dir=directory) as made:
        daemon = Hookshim(Path(made), socket, {"HOOKSHIM_FRONT": front, **(env or {})})
        try:
            yield daemon
        finally:
            daemon.close()


def _compiled(bytecode: str) -> dict[str, str]:
    """Have Python keep what it compiles there."""
    return {"PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}


def _first_answer(daemon: Hookshim) -> tuple[float, float]:
    """Start it; seconds until it answers, and of its CPU. Raises RuntimeError if it ends, TimeoutError."""
    os.sync()  # what was written for it is not to be waited for with what it writes
    began = time.perf_counter()
    daemon.start(wait=False)
    while time.perf_counter() - began < _PATIENCE:
        if daemon.exit_status is not None:
            raise RuntimeError(f"hookshim ended at its start:\n{daemon.tail()}")
        try:
            if daemon.socket.exists():
                daemon.cri.version(5)
                return time.perf_counter() - began, processes.cpu(daemon.pid)
        except CRIError:  # not yet
            pass
        time.sleep(_LOOK)
    raise TimeoutError(f"hookshim does not serve after {_PATIENCE:g} s:\n{daemon.tail()}")


def _pods(size: Size) -> Iterator[Given]:
    """Those that are to be started, and the others, which run."""
    for number in range(size.pods):
        runs = number >= size.at_once
        state = "CONTAINER_RUNNING" if runs else "CONTAINER_CREATED"
        yield Given(_id(number), f"b{number:063x}", state, runs, _HOOKS)


def _id(number: int) -> str:
    return f"a{number:063x}"


def _all_at_once(size: Size, socket: Path) -> tuple[float, int]:
    """Seconds until all are answered, and how many of them with an error."""
    options = (("grpc.default_authority", "localhost"),)
    with grpc.insecure_channel(f"unix:{socket}", options) as channel:
        grpc.channel_ready_future(channel).result(30)
        start: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{_SERVICE}StartContainer")
        stop: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{_SERVICE}StopContainer")
        began = time.perf_counter()
        calls: list[grpc.Future[bytes]] = []
        for number in range(size.at_once):
            first = cri.StartContainerRequest(container_id=_id(number))
            other = cri.StopContainerRequest(container_id=_id(size.at_once + number), timeout=30)
            calls.append(start.future(first.SerializeToString(), timeout=60))
            calls.append(stop.future(other.SerializeToString(), timeout=60))
        failed = sum(call.exception() is not None for call in calls)
        return time.perf_counter() - began, failed
