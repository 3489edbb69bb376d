"""A node that is restarted, as far as containerd and hookshim can tell: nothing runs, and the boot id is new."""

from __future__ import annotations

import shlex
import shutil
import uuid
from pathlib import Path

from tests.support import leftovers
from tests.support.containerd import PrivateContainerd

#: Runs a program that sees another file in the place of the kernel's boot id, alone in its mount namespace.
_ELSEWHEN = """\
#!/bin/sh
exec unshare --mount sh -c 'mount --bind {boot_id} /proc/sys/kernel/random/boot_id && exec "$0" "$@"' {program} "$@"
"""


def reboot(containerd: PrivateContainerd) -> None:
    """End containerd and every process of its pods at once, empty its state directory, and start it again."""
    seen = containerd.traces()
    containerd.kill()
    leftovers.clear(containerd.directory, seen)
    shutil.rmtree(containerd.directory / "state")
    containerd.launch()


def in_another_boot(program: Path, directory: Path) -> Path:
    """A program to start in place of ``program``, for which the kernel has been booted anew."""
    boot_id = directory / "boot_id"
    boot_id.write_text(f"{uuid.uuid4()}\n")
    script = directory / program.name
    script.write_text(_ELSEWHEN.format(boot_id=shlex.quote(str(boot_id)), program=shlex.quote(str(program))))
    script.chmod(0o755)
    return script
