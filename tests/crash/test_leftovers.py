"""What the end of hookshim cuts off in containerd is cleared up by the next start, hooks or not."""

from __future__ import annotations

import pytest

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.image import FOREVER
from tests.support.waiting import until


def test_the_task_of_a_cut_off_start_is_deleted_for_a_container_without_hooks(
    hookshim: MakeHookshim, any_containerd: PrivateContainerd, pod_name: str
) -> None:
    """A start that failed and left its task behind keeps a pod from being removed, until hookshim is started."""
    client = any_containerd.cri
    pod = client.run_pod(pod_name)
    container = client.create(pod, "c", ["sleep", FOREVER])
    running = client.create(pod, "running", ["sleep", FOREVER])
    client.start(running)
    # what a cut-off start leaves: a task that CRI knows nothing of, and a container that was never started
    any_containerd.ctr("tasks", "start", "--detach", container)
    with pytest.raises(CRIError):
        client.start(container)
    assert (client.state(container), client.status(container).started_at) == ("CONTAINER_EXITED", 0)
    with pytest.raises(CRIError, match="cannot delete running task"):
        client.remove(container)
    daemon = hookshim(any_containerd)
    until(lambda: container not in any_containerd.ctr("tasks", "list", "--quiet"), "the task is deleted")
    daemon.cri.remove(container)
    assert client.state(running) == "CONTAINER_RUNNING"
    assert running in any_containerd.ctr("tasks", "list", "--quiet")
