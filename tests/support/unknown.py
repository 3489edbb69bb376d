"""Containers in CONTAINER_UNKNOWN, on a real containerd: one whose task it could not make out at its start.

When it is started again, containerd has no case for a task that is paused (1.6 ``pkg/cri/server/restart.go``, 2.x
``internal/cri/server/restart.go``: "unexpected task status"): it calls the container unknown from then on, also when
the task goes on.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.support.containerd import PrivateContainerd


def make_unknown(containerd: PrivateContainerd, containers: Iterable[str]) -> None:
    """Pause the running ``containers``, SIGKILL containerd and start it again, and let them go on.

    Raises RuntimeError if one is not in that state afterwards.
    """
    ids = list(containers)
    for container in ids:
        containerd.ctr("tasks", "pause", container)
    containerd.restart()
    for container in ids:
        containerd.ctr("tasks", "resume", container)
        state = containerd.cri.state(container)
        if state != "CONTAINER_UNKNOWN":
            raise RuntimeError(f"container {container} was to be CONTAINER_UNKNOWN and is {state}")
