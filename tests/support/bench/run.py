"""A whole run, in its order: what is measured with which backend."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.support.bench import callbacks, calls, lives, onlookers, processes, scale
from tests.support.bench.calls import Amount
from tests.support.bench.copy import copying
from tests.support.bench.fake import fake_runtime
from tests.support.bench.figures import Check, Row, Usage
from tests.support.bench.memory import Memory
from tests.support.bench.places import file_system, in_memory, on_disk
from tests.support.bench.progress import Progress
from tests.support.bench.scale import Size
from tests.support.bench.stand import stand
from tests.support.containerd import PrivateContainerd


@dataclass(slots=True)
class Found:
    """What came of it, in the order of the tables."""

    rows: list[Row] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    memory: list[Usage] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)


def run(containerd: PrivateContainerd, amount: Amount, pods: int, progress: Progress, size: Size) -> Found:
    """Measure everything; ``pods``: rounds of pods and containers; ``size``: of what is done at scale.

    Raises KeyboardInterrupt between two measurements; RuntimeError or CRIError if a backend cannot be used.
    """
    found = Found()
    disk = on_disk()
    with (
        fake_runtime() as (socket, fake_process),
        stand(f"containerd {containerd.version}", containerd.socket, disk) as real,
        stand("fake runtime", socket, disk) as fake,
        stand("fake runtime, journal in memory", socket, in_memory(), direct=False) as unsynced,
    ):
        memory = Memory([real, fake, unsynced])
        found.checks.append(memory.check())
        with copying(containerd.socket) as copy:
            found.rows += calls.version(replace(real, ways=[*real.ways, copy]), amount, progress)
        with lives.running(containerd.cri) as container:
            found.rows += calls.status(real, container, amount, progress)
        cycles, no_commit = lives.without_hooks(real, pods, progress)
        found.rows += cycles
        found.checks.append(no_commit)
        found.rows += lives.with_hooks(real, pods, progress)
        found.rows += calls.lists(fake, amount, progress)
        found.rows += calls.deliveries(fake, f"journal on {file_system(disk)}", amount, progress)
        found.rows += calls.deliveries(unsynced, "journal in memory (tmpfs: no fsync)", amount, progress)
        seen, not_slowed = onlookers.version(socket, disk, amount, progress)
        found.rows += seen
        found.checks += (not_slowed, callbacks.of_deliveries(socket, disk, amount.deliveries, progress))
        found.memory += memory.usage()
        found.checks += scale.checks(size, socket, disk, progress)
        found.notes["fake runtime"] = (
            "a process whose answers are ready as bytes, in Python on uvloop; "
            f"{processes.cpu(fake_process.pid):.1f} s of CPU in all"
        )
    return found
