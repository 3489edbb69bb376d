"""Whether an unpacked containerd starts on this machine: ``python -m tests.support.probe NAME DIR``.

A newer suite's program may need a newer libc; hack/test asks before it promises tests on it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.containerd import PrivateContainerd, check_name


def main(name: str, directory: str) -> str:
    """Start it, end it; its version. Raises what went wrong."""
    with PrivateContainerd.start(Path(directory)) as probed:
        check_name(name, probed.version)
        return probed.version


if __name__ == "__main__":
    print(main(*sys.argv[1:]))  # noqa: T201 - the answer of a command
