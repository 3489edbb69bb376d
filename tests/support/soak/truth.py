"""containerd's own word, asked at its own socket, again while it is down: nobody judges by a broken answer."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from tests.support.cri import CRIClient, CRIError
from tests.support.soak.insist import Insistence
from tests.wire import cri_pb2 as cri

RUNNING = "CONTAINER_RUNNING"
CREATED = "CONTAINER_CREATED"
EXITED = "CONTAINER_EXITED"

#: What a container that containerd does not have is said to be.
GONE = "gone"


class Truth:
    """A client of containerd that insists on its answers. All of it raises CRIError and AbandonedError."""

    def __init__(self, client: CRIClient, insistence: Insistence) -> None:
        self._client = client
        self._insistence = insistence

    def status(self, container: str) -> cri.ContainerStatus | None:
        """The container's status, None if there is no such container."""
        try:
            return self._insistence.repeat(lambda: self._client.status(container))
        except CRIError as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                return None
            raise

    def state(self, container: str) -> str:
        """The state by CRI's name, or GONE."""
        status = self.status(container)
        return GONE if status is None else cri.ContainerState.Name(status.state)

    def containers(self) -> dict[str, str]:
        """The state of every container by its id."""
        found = self._insistence.repeat(self._client.list)
        return {container.id: cri.ContainerState.Name(container.state) for container in found}

    def pods(self) -> Sequence[str]:
        """The ids of all sandboxes."""
        return [pod.id for pod in self._insistence.repeat(self._client.list_pods)]
