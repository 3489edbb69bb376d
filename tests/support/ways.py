"""Both ways to one containerd: its own socket, and that of a daemon in front of it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.cri import CRIClient
from tests.support.hookshimd import Hookshim


@dataclass(frozen=True, slots=True)
class Ways:
    """The direct way, and a daemon with the default front door."""

    direct: CRIClient
    daemon: Hookshim

    @property
    def through(self) -> CRIClient:
        """The way through hookshim."""
        return self.daemon.cri
