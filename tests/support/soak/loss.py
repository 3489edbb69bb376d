"""Containers whose end containerd has lost: it shows their tasks STOPPED, and CRI shows them RUNNING for ever.

It may miss the end of one that ends while it recovers after a kill (containerd's issues 10390 and 12600, mended in 2.1
by its pull request 11579). Whoever stops such a container waits in vain, at containerd's own socket as at hookshim's,
until containerd is started again.
"""

from __future__ import annotations

import time

from tests.support.containerd import PrivateContainerd
from tests.wire import cri_pb2 as cri

#: Seconds between the two looks: CRI follows its task within that, if it has seen the end.
_FOLLOWS = 2.0


def lost_ends(containerd: PrivateContainerd) -> set[str]:
    """The ids of these containers. Raises CRIError, and RuntimeError if ctr is refused."""
    if not (first := _look(containerd)):
        return first
    time.sleep(_FOLLOWS)
    return first & _look(containerd)


def _look(containerd: PrivateContainerd) -> set[str]:
    rows = [line.split() for line in containerd.ctr("tasks", "ls").splitlines()]
    stopped = {row[0] for row in rows if row[-1] == "STOPPED"}
    return {one.id for one in containerd.cri.list() if one.state == cri.CONTAINER_RUNNING} & stopped
