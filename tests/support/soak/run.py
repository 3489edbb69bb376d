"""The soak as a whole: hookshim, a receiver and the callers, begun, joined and ended."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.containerd import PrivateContainerd
from tests.support.hookshimd import Hookshim
from tests.support.network import node_address
from tests.support.receiver import Receiver
from tests.support.soak.aftermath import Aftermath
from tests.support.soak.caller import Caller
from tests.support.soak.calls import Calls
from tests.support.soak.company import Company
from tests.support.soak.death import Slayer
from tests.support.soak.evidence import Evidence
from tests.support.soak.figures import Figures
from tests.support.soak.insist import Insistence
from tests.support.soak.keeper import Keeper
from tests.support.soak.memory import Memory
from tests.support.soak.tally import Tally
from tests.support.soak.truth import Truth
from tests.support.soak.witness import Witness

#: How many callers there are unless told otherwise.
CALLERS = 10

#: Told now and then how many rounds are over and how many kills of daemons there were. What it raises ends the soak.
Progress = Callable[[int, int], None]


def soak(
    containerd: PrivateContainerd,
    rounds: int,
    seed: int,
    callers: int = CALLERS,
    progress: Progress = lambda _rounds, _kills: None,
    keep: Path | None = None,
) -> Figures:
    """Play ``rounds`` rounds against a daemon of its own in front of ``containerd``, which is killed too.

    ``keep``: the directory into which hookshim's log and journal and containerd's log go if anything was wrong, and
    what was seen of both while a call hung.
    """
    began, over = time.monotonic(), threading.Event()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookshim-s-")))
        receiver = stack.enter_context(Receiver(stack.enter_context(node_address())))
        (directory / "rounds").mkdir()
        witness = Witness(directory / "rounds", receiver)
        daemon = Hookshim(directory, containerd.socket)
        stack.callback(daemon.close)
        evidence = Evidence(daemon, containerd, keep or directory)
        stack.callback(evidence.clear)
        calls = Calls(evidence.collect)
        keeper, truth = Keeper(daemon, containerd, calls, seed), Truth(containerd.cri, Insistence(over))
        stack.enter_context(_watched(calls, keeper, daemon, containerd))
        slayer = Slayer(containerd.runc_root("runc"), over)
        company = Company(
            [Caller(daemon.cri, truth, Memory(daemon), keeper, slayer, witness, over) for _ in range(max(1, callers))],
            over,
            lambda done: progress(done, keeper.kills.total()),
        )
        # In the other order: nobody kills any more, then calls break for want of a daemon, then the callers go.
        stack.callback(company.disperse)
        stack.callback(daemon.kill)
        stack.callback(keeper.abandon)
        stack.callback(over.set)
        aftermath = Aftermath(daemon, containerd, truth, Insistence(over))
        keeper.start()
        stories = company.play(seed, rounds)
        keeper.finish()
        figures = Figures(seed, max(1, callers), rounds=len(stories), kills=keeper.kills, fronts=keeper.fronts)
        wrong = [*aftermath.settled(), *aftermath.stopped(stories)]
        company.leave()
        wrong += [*aftermath.removed(), *aftermath.ended(), *keeper.problems, *company.problems]
        calls.finish()
        wrong += calls.problems
        figures.problems += [f"seed {seed}: {problem}\n  again: {figures.again}" for problem in wrong]
        tally = Tally(figures, daemon.deliveries(), witness)
        for story in stories:
            tally.count(story)
        figures.slowest_for = calls.of_round(figures.slowest[1])
        figures.ends_mended = len(keeper.mended)
        figures.hung, figures.slowest_call, figures.spared = calls.hung, calls.slowest, keeper.spared
        figures.seconds = time.monotonic() - began
        if keep is not None and not figures.good:
            for path in (daemon.log, containerd.log, *daemon.state_dir.glob("*.db*")):
                shutil.copy(path, keep)
    return figures


@contextmanager
def _watched(calls: Calls, keeper: Keeper, daemon: Hookshim, containerd: PrivateContainerd) -> Iterator[None]:
    """Have all calls at both sockets watched."""
    unwatched = containerd.cri.around
    daemon.cri.around = calls.through(lambda: f"hookshim's socket (front door {keeper.front})")
    containerd.cri.around = calls.through(lambda: "containerd's socket")
    calls.start()
    try:
        yield
    finally:
        calls.finish()
        containerd.cri.around = unwatched
