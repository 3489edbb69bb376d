# ruff: noqa: T201 - a command prints
"""What hookshim costs: the same calls directly to containerd and through hookshim, in turn, in one run.

Both ways are measured in pairs that lie next to each other in time, each pair in the other order than the one before,
and compared pair by pair: what else the machine does meanwhile meets both. The client is Python's grpcio, and its own
time is in both numbers.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIClient, unique
from tests.support.hookshimd import Hookshim
from tests.support.image import FOREVER
from tests.support.interruption import Interruption
from tests.wire import cri_pb2 as cri

#: What is promised of the pod's cycle: at most so many times direct.
POD_CYCLE_LIMIT = 1.05

#: Seconds that hookshim gets to look at what happened while it stood still.
_CATCH_UP = 0.1

#: How many containers are in the list.
LISTED = 200


class Progress:
    """A line that is written over, on a terminal only. Every call may raise KeyboardInterrupt."""

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption

    def show(self, text: str = "") -> None:
        """Write it over what is there; nothing: leave an empty line."""
        self._interruption.check()
        if sys.stderr.isatty():
            print(f"\r{text:<70}\r", end="", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Pairs:
    """How many pairs are measured, and where it is shown."""

    count: int
    progress: Progress


#: Takes one measurement with a client: seconds by step, of which the whole is the sum.
Sample = Callable[[CRIClient], dict[str, float]]


@dataclass(slots=True)
class Series:
    """The pairs of one measurement; the seconds by step, of each pair the direct one and the one through hookshim."""

    name: str
    direct: list[dict[str, float]] = field(default_factory=list)
    through: list[dict[str, float]] = field(default_factory=list)

    def seconds(self, samples: list[dict[str, float]], step: str | None = None) -> list[float]:
        """One number a sample: of a step, or of all."""
        return [sum(sample.values()) if step is None else sample[step] for sample in samples]

    def ratios(self) -> list[float]:
        """Through hookshim over direct, pair by pair."""
        pairs = zip(self.seconds(self.direct), self.seconds(self.through), strict=True)
        return [through / direct for direct, through in pairs]

    def line(self) -> str:
        """The medians in milliseconds, and the ratio's median, quartiles and range."""
        ratios = self.ratios()
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        direct, through = (statistics.median(self.seconds(side)) * 1e3 for side in (self.direct, self.through))
        return (
            f"{self.name:<32}{len(ratios):>6}{direct:>11.2f}{through:>11.2f}"
            f"{middle:>9.3f}   {low:.3f} to {high:.3f}   {min(ratios):.3f} to {max(ratios):.3f}"
        )

    def steps(self) -> Iterator[str]:
        """Each step's medians in milliseconds, and what lies between them."""
        for step in self.direct[0]:
            direct, through = (
                statistics.median(self.seconds(side, step)) * 1e3 for side in (self.direct, self.through)
            )
            yield f"  {step:<30}{'':>6}{direct:>11.2f}{through:>11.2f}{through - direct:>+9.2f} ms"


@contextmanager
def aside(daemon: Hookshim) -> Iterator[None]:
    """Hookshim stands still: it watches every container's end, also of those that are run past it."""
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
        # what it has missed is looked at now, not during its own turn
        time.sleep(_CATCH_UP)


def measure(name: str, sample: Sample, containerd: PrivateContainerd, daemon: Hookshim, pairs: Pairs) -> Series:
    """Measure in pairs, after one pair that is thrown away."""
    series = Series(name)
    for number in range(pairs.count + 1):
        pairs.progress.show(f"{name}: {number} of {pairs.count} pairs")
        for direct in (True, False) if number % 2 else (False, True):
            if direct:
                with aside(daemon):
                    series.direct.append(sample(containerd.cri))
            else:
                series.through.append(sample(daemon.cri))
        if number == 0:
            series.direct.clear()
            series.through.clear()
    pairs.progress.show()
    return series


def calls(method: str, count: int) -> Sample:
    """``count`` calls with an empty message, one after another; the seconds of one."""

    def sample(client: CRIClient) -> dict[str, float]:
        began = time.perf_counter()
        for _ in range(count):
            if (reply := client.call(method)).code is not grpc.StatusCode.OK:
                raise RuntimeError(f"{method}: {reply.code.name}: {reply.message}")
        return {method: (time.perf_counter() - began) / count}

    return sample


def pod_cycle(client: CRIClient) -> dict[str, float]:
    """One pod with one container, from RunPodSandbox to RemovePodSandbox; the seconds of each call."""
    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - began

    with step("RunPodSandbox"):
        pod = client.run_pod(unique("bench"))
    request = sleeping_container(client, pod, "c")
    with step("CreateContainer"):
        container = client.ask("CreateContainer", request, cri.CreateContainerResponse).container_id
    with step("StartContainer"):
        client.start(container)
    with step("StopContainer"):
        client.stop(container, 30)
    with step("RemoveContainer"):
        client.remove(container)
    with step("StopPodSandbox"):
        client.stop_pod(pod)
    with step("RemovePodSandbox"):
        client.remove_pod(pod)
    return seconds


def sleeping_container(client: CRIClient, pod: str, name: str) -> cri.CreateContainerRequest:
    """A container that TERM ends at once, from its first moment on.

    It shares its pod's PID namespace: a PID 1 would not be ended by a signal that it has no handler for yet.
    """
    request = client.container_request(pod, name, ["sleep", FOREVER])
    request.config.linux.security_context.namespace_options.pid = cri.NamespaceMode.POD
    return request


def fill(client: CRIClient, progress: Progress) -> str:
    """A pod with LISTED containers, created and not started; the pod's id."""
    pod = client.run_pod(unique("listed"), host_network=True)
    for number in range(LISTED):
        progress.show(f"creating containers: {number} of {LISTED}")
        request = sleeping_container(client, pod, f"c{number}")
        client.ask("CreateContainer", request, cri.CreateContainerResponse)
    progress.show()
    return pod


def bench(containerd: PrivateContainerd, daemon: Hookshim, progress: Progress, *, quick: bool) -> list[Series]:
    """All measurements. ``quick`` takes fewer pairs."""
    few, many = (Pairs(5, progress), Pairs(10, progress)) if quick else (Pairs(30, progress), Pairs(40, progress))
    done = [measure("Version", calls("Version", 100), containerd, daemon, many)]
    done.append(measure("pod cycle, no hooks", pod_cycle, containerd, daemon, few))
    direct = containerd.cri
    pod = fill(direct, progress)
    if (listed := len(direct.list())) != LISTED:
        raise RuntimeError(f"{listed} containers are listed instead of {LISTED}")
    done.append(measure(f"ListContainers, {LISTED} containers", calls("ListContainers", 10), containerd, daemon, many))
    progress.show("removing them")
    direct.stop_pod(pod, 120)
    direct.remove_pod(pod, 120)
    progress.show()
    return done


def report(series: list[Series], version: str, load: float) -> bool:
    """Print the table; whether the pod's cycle is within its limit."""
    cores = len(os.sched_getaffinity(0))
    print(
        f"machine: {cores} cores, Linux {platform.release()}, containerd {version}, Python {platform.python_version()}"
    )
    print(f"client: Python grpcio {grpc.__version__}, synchronous, one caller; its own time is in both columns")
    print(f"load average: {load:.2f} before, {os.getloadavg()[0]:.2f} after\n")
    print(f"{'medians in ms':<32}{'pairs':>6}{'direct':>11}{'hookshim':>11}{'ratio':>9}   {'quartiles':<16} range")
    cycle = 0.0
    for one in series:
        print(one.line())
        if len(one.direct[0]) > 1:
            print(*one.steps(), sep="\n")
            cycle = statistics.median(one.ratios())
    within = cycle <= POD_CYCLE_LIMIT
    print(f"\npod cycle: {cycle:.3f} of direct, {'within' if within else 'ABOVE'} the limit of {POD_CYCLE_LIMIT}")
    return within


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 if the pod's cycle is within its limit."""
    parser = argparse.ArgumentParser(prog="hack/bench", description="Measure calls directly and through hookshim.")
    parser.add_argument("--quick", action="store_true", help="fewer pairs: half a minute, and less to be trusted")
    options = parser.parse_args(arguments)
    interruption = Interruption()
    progress = Progress(interruption)
    directory = Path(tempfile.mkdtemp(prefix="hookshim-b-"))
    try:
        load = os.getloadavg()[0]
        with PrivateContainerd.start() as containerd:
            daemon = Hookshim(directory, containerd.socket)
            try:
                daemon.start()
                within = report(bench(containerd, daemon, progress, quick=options.quick), containerd.version, load)
            finally:
                daemon.close()
    except (KeyboardInterrupt, RuntimeError):
        if not interruption.noted:
            raise
        print("interrupted; everything was ended", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(directory)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
