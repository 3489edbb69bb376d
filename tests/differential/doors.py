"""Daemons that stand before a containerd for many tests: one with each front door.

These tests declare no hooks and leave nothing behind, so that a daemon finds each of them as it found the first.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.containerd import PrivateContainerd
from tests.support.fronts import FRONTS, front_env
from tests.support.hookshimd import Hookshim


class Doors:
    """The daemons that were asked for, by containerd; to be ended before anything else uses these."""

    def __init__(self) -> None:
        self._made: dict[Path, dict[str, Hookshim]] = {}

    def before(self, containerd: PrivateContainerd) -> Mapping[str, Hookshim]:
        """The daemons before this containerd, by their front doors' names; serving."""
        made = self._made.setdefault(containerd.socket, {})
        for front in FRONTS:
            if front not in made:
                # not pytest's tmp_path: a unix socket's path has at most 107 bytes
                directory = Path(tempfile.mkdtemp(prefix="hookshim-d-"))
                made[front] = Hookshim(directory, containerd.socket, front_env(front))
                made[front].start(wait=False)
        for daemon in made.values():
            daemon.wait_until_serving()
        return made

    def close(self) -> None:
        """End them all."""
        for daemons in self._made.values():
            for daemon in daemons.values():
                daemon.close()
                shutil.rmtree(daemon.directory)


@contextmanager
def shown(daemons: Mapping[str, Hookshim]) -> Iterator[None]:
    """What the daemons log in a block is printed at its end, which pytest shows if a test fails."""
    before = {front: daemon.log.stat().st_size for front, daemon in daemons.items()}
    try:
        yield
    finally:
        for front, daemon in daemons.items():
            print(front, daemon.log.read_bytes()[before[front] :].decode(errors="replace"))  # noqa: T201 - pytest's
