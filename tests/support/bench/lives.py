"""Pods and containers that live and end, with hooks and without: what a caller waits for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.support.bench import pods
from tests.support.bench.figures import JUDGED, Check, Of, Row, Target, Verdict
from tests.support.bench.journal import Commits
from tests.support.bench.progress import Progress
from tests.support.bench.stand import Stand, Way
from tests.support.bench.turns import Taken, measure
from tests.support.cri import CRIClient, CRIError, unique
from tests.wire import cri_pb2 as cri

#: The targets: a pod's cycle takes at most 1.02 of direct; an exec PostStart takes at most 5 ms more than its caller's.
_CYCLE, _POST_START = Target(Of.RATIO, 1.02), Target(Of.ADDED, 5.0)

_MILLISECONDS = "ms"


def without_hooks(real: Stand, rounds: int, progress: Progress) -> tuple[list[Row], Check]:
    """A pod's cycle without hooks, call by call; and whether any journal has got a commit by it."""
    rows = {"": Row("pod's cycle without hooks", _MILLISECONDS, _CYCLE)}
    rows |= {call: Row(f"of that, {call}", _MILLISECONDS) for call in pods.CYCLE}

    def sample(way: Way) -> dict[str, Taken]:
        before = way.cpu
        seconds = pods.cycle(way.cri)
        used = way.cpu - before if way.daemon else None
        of_calls = {call: Taken(value * 1e3) for call, value in seconds.items()}
        return {"": Taken(sum(seconds.values()) * 1e3, used, len(seconds)), **of_calls}

    with ExitStack() as stack:
        journals = {way.name: stack.enter_context(Commits(way.daemon.state_dir)) for way in real.ways if way.daemon}
        measured = measure(rows, real, sample, rounds, progress)
        changed = [name for name, journal in journals.items() if journal.changed()]
    verdict = Verdict.UNKNOWN if JUDGED in rows[""].missing else Verdict.NOT_MET if changed else Verdict.MET
    found = f"some, with {' and '.join(changed)}" if changed else "none"
    return measured, Check("commits to the journal by pods without hooks", found, "none", verdict)


def with_hooks(real: Stand, rounds: int, progress: Progress) -> list[Row]:
    """Starts and stops with a command as a hook against the caller's own ExecSync; and stops with a no-op hook."""
    with ExitStack() as stack:
        made: dict[str, str] = {}

        def pod(way: Way) -> str:
            if way.name not in made:
                made[way.name] = stack.enter_context(_pod(way.cri))
            return made[way.name]

        def commands(way: Way) -> dict[str, Taken]:
            seconds = pods.execs(way.cri, pod(way), by_caller=way.daemon is None)
            return {name: Taken(value * 1e3) for name, value in seconds.items()}

        def no_op(way: Way) -> dict[str, Taken]:
            return {"": Taken(pods.stop(way.cri, pod(way), hook=way.daemon is not None) * 1e3)}

        rows = {
            "start": Row("exec PostStart; direct: StartContainer + ExecSync", _MILLISECONDS, _POST_START),
            "stop": Row("exec PreStop; direct: ExecSync + StopContainer", _MILLISECONDS),
        }
        plain = {"": Row("no-op PreStop; direct: StopContainer", _MILLISECONDS)}
        return [*measure(rows, real, commands, rounds, progress), *measure(plain, real, no_op, rounds, progress)]


@contextmanager
def running(client: CRIClient) -> Iterator[str]:
    """The id of a container that runs."""
    with _pod(client) as pod:
        request = pods.sleeping(client, pod, "c", {})
        container = client.ask("CreateContainer", request, cri.CreateContainerResponse).container_id
        client.start(container)
        yield container


@contextmanager
def _pod(client: CRIClient) -> Iterator[str]:
    """A pod, which is removed with all that is in it."""
    pod = client.run_pod(unique("bench"))
    yield pod
    # what is left when a measurement fails goes with its containerd
    try:
        client.stop_pod(pod, 120)
        client.remove_pod(pod, 120)
    except CRIError:
        return
