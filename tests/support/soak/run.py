"""The soak as a whole: hookshim, a receiver and the callers, begun, joined and ended."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from tests.support.containerd import PrivateContainerd
from tests.support.hookshimd import Hookshim
from tests.support.receiver import Receiver
from tests.support.soak.caller import Caller, Story
from tests.support.soak.insist import AbandonedError
from tests.support.soak.keeper import Keeper
from tests.support.soak.moves import draw
from tests.support.soak.tally import Figures, Tally
from tests.support.soak.witness import Witness
from tests.support.waiting import until

#: How many callers there are unless told otherwise.
CALLERS = 8

#: Seconds for what is open to be settled when nobody kills hookshim any more: a PreStop's grace, and more.
_SETTLE = 60.0

#: Seconds between two reports of progress.
_REPORT = 0.5

#: Told now and then how many rounds are over and how often hookshim was killed. What it raises ends the soak.
Progress = Callable[[int, int], None]


def soak(
    containerd: PrivateContainerd,
    rounds: int,
    seed: int,
    callers: int = CALLERS,
    progress: Progress = lambda _rounds, _kills: None,
    keep: Path | None = None,
) -> Figures:
    """Play ``rounds`` rounds against a daemon of its own in front of ``containerd``.

    ``keep``: the directory into which hookshim's log and journal and containerd's log go if anything was wrong.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookshim-s-")))
        receiver = stack.enter_context(Receiver())
        (directory / "rounds").mkdir()
        witness = Witness(directory / "rounds", receiver)
        daemon = Hookshim(directory, containerd.socket)
        stack.callback(daemon.close)
        keeper = Keeper(daemon, seed)
        company = Company(daemon, containerd, keeper, witness, callers, progress)
        stack.callback(company.disperse)
        keeper.start()
        stories = company.play([(seed, number) for number in range(1, rounds + 1)])
        keeper.finish()
        company.leave()
        figures = Figures(seed, rounds=len(stories), kills=keeper.kills)
        figures.problems += [*keeper.problems, *company.problems, *_open_rows(daemon)]
        tally = Tally(figures, daemon.deliveries(), witness)
        for story in stories:
            tally.count(story)
        figures.seconds = time.monotonic() - began
        if keep is not None and not figures.good:
            for path in (daemon.log, containerd.log, *daemon.state_dir.glob("*.db*")):
                shutil.copy(path, keep)
    return figures


class Company:
    """The callers, each in a thread of its own."""

    def __init__(
        self,
        daemon: Hookshim,
        containerd: PrivateContainerd,
        keeper: Keeper,
        witness: Witness,
        callers: int,
        progress: Progress,
    ) -> None:
        self._daemon = daemon
        self._progress = progress
        self._keeper = keeper
        self._over = threading.Event()
        self._callers = [
            Caller(daemon.cri, containerd.cri, keeper, witness, self._over) for _ in range(max(1, callers))
        ]
        self._threads: list[threading.Thread] = []
        self._stories: list[Story] = []
        self._lock = threading.Lock()

    @property
    def problems(self) -> list[str]:
        """The callers' own."""
        return [problem for caller in self._callers for problem in caller.problems]

    def play(self, rounds: list[tuple[int, int]]) -> list[Story]:
        """All rounds, each (seed, number) by whoever is free; their stories."""
        waiting = iter(rounds)

        def work(caller: Caller) -> None:
            while True:
                with self._lock:
                    following = next(waiting, None)
                if following is None:
                    return
                story = caller.play(draw(*following))
                with self._lock:
                    self._stories.append(story)

        self._do(work)
        return sorted(self._stories, key=lambda story: story.moves.number)

    def leave(self) -> None:
        """Have the callers remove their pods."""
        self._do(Caller.leave)

    def disperse(self) -> None:
        """End the callers that are still at work: without a daemon their calls break, and they see that it is over."""
        self._over.set()
        self._keeper.abandon()
        self._daemon.kill()
        for thread in self._threads:
            thread.join()

    def _do(self, work: Callable[[Caller], None]) -> None:
        def guarded(caller: Caller) -> None:
            try:
                work(caller)
            except AbandonedError:
                return
            except Exception as error:  # noqa: BLE001 - a caller that ends early is a problem like any other
                caller.problems.append(f"a caller ended: {type(error).__name__}: {error}")

        self._threads = [
            threading.Thread(target=guarded, args=(caller,), name=f"caller {number}", daemon=True)
            for number, caller in enumerate(self._callers)
        ]
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_REPORT)
                self._progress(len(self._stories), self._keeper.kills)


def _open_rows(daemon: Hookshim) -> list[str]:
    """What the journal still holds as open, when it has had time, and how the daemon ended if it did so badly."""

    def settled() -> bool:
        return not any(row["finished_at"] is None for row in daemon.deliveries())

    problems = []
    try:
        until(settled, "every delivery has an outcome", _SETTLE)
    except TimeoutError as error:
        problems.append(str(error))
    if status := daemon.terminate():
        problems.append(f"hookshim exited with {status} at SIGTERM:\n{daemon.tail()}")
    problems += [
        f"open at the end: {row['id']}, {row['hook']} of {row['container']}, {row['state']}"
        for row in daemon.deliveries()
        if row["finished_at"] is None
    ]
    [journal] = daemon.state_dir.glob("*.db")
    query = "SELECT id, kind, state, container_id FROM operation WHERE state <> 'done'"
    with closing(sqlite3.connect(journal)) as db:
        problems += ["open at the end: operation {}, {} {} of container {}".format(*row) for row in db.execute(query)]
    return problems
