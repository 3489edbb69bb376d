"""Where a journal is kept while it is measured: what an fsync costs there is a good part of a delivery."""

from __future__ import annotations

import tempfile
from pathlib import Path

#: Directories for the journal whose file system has a disk behind it, the likeliest first; and one in memory.
_DISKS = (tempfile.gettempdir(), "/var/tmp", "/var/lib")
_MEMORY = "/dev/shm"

#: File systems without a disk behind them: there fsync returns at once.
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def on_disk() -> Path:
    """A directory whose file system is not in memory; if there is none, the first: ``file_system`` tells of it."""
    return next((Path(each) for each in _DISKS if file_system(Path(each)) not in _IN_MEMORY), Path(_DISKS[0]))


def in_memory() -> Path | None:
    """A directory whose file system is in memory, None if there is none."""
    return Path(_MEMORY) if Path(_MEMORY).is_dir() and file_system(Path(_MEMORY)) in _IN_MEMORY else None


def file_system(directory: Path) -> str:
    """The type of the file system it is on, as ``ext4``: that of the longest mount point above it."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    above = [(fields[1], fields[2]) for fields in mounts if directory.resolve().is_relative_to(fields[1])]
    return max(above, key=lambda mount: len(mount[0]), default=("", "unknown"))[1]
