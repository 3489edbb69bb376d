"""The node's clock, and chance."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SystemClock:
    """Implements shim.ports.Clock."""

    def __init__(self) -> None:
        self._boot_id = _BOOT_ID.read_text().strip()

    @property
    def boot_id(self) -> str:
        """The kernel's id of this boot."""
        return self._boot_id

    def wall(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def boottime(self) -> float:
        """Seconds since boot, suspends included (clock_gettime(2), CLOCK_BOOTTIME)."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def new_id(self) -> str:
        """16 hexadecimal digits of chance."""
        return secrets.token_hex(8)
