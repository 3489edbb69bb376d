"""On what it was measured: without that, no number means anything to another reader."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import tempfile
import time
from importlib import metadata
from pathlib import Path

from tests.support.bench.load import program
from tests.support.bench.places import file_system, on_disk

#: How often a write is made durable to learn what that takes.
_SYNCS = 50


def describe(containerd: str) -> dict[str, str]:
    """What the machine is and what runs on it, for people."""
    disk = on_disk()
    return {
        "machine": f"{_model()}, {len(os.sched_getaffinity(0))} cores, {_memory() / 2**30:.0f} GB, "
        f"Linux {platform.release()}",
        "software": f"containerd {containerd}, Python {platform.python_version()}, uvloop {_version('uvloop')}, "
        f"grpcio {_version('grpcio')}, {_h2load()}",
        "journal": f"on {file_system(disk)}, where a write of 4 KB and its fdatasync take "
        f"{_sync(disk) * 1e3:.2f} ms (median of {_SYNCS})",
    }


def _model() -> str:
    """The CPU's name; the architecture where the kernel tells none."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _h2load() -> str:
    done = subprocess.run([program(), "--version"], check=True, capture_output=True, text=True, timeout=30)
    return done.stdout.strip()


def _sync(directory: Path) -> float:
    """Median seconds to make 4 KB durable in a file there."""
    took = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(_SYNCS):
            began = time.perf_counter()
            os.pwrite(file.fileno(), b"\0" * 4096, 0)
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return statistics.median(took)
