"""Failed hooks as Events of their pods, where a cluster's people look: ``kubectl describe pod``.

It runs in the observer, never in the daemon: the official client takes memory, threads and time.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.config import Config
from server.sinks import kube_event
from server.sinks.aside import aside
from server.sinks.correlation import Memory, correlate
from server.sinks.courier import Courier, RefusedError
from server.sinks.cursor import CursorFile
from server.sinks.kube_api import EventsApi
from server.sinks.source import JournalFile
from shim.outbox import Entry
from shim.store import FILE

_NAME = "kubernetes"


class KubernetesEvents:
    """A cluster as a receiver."""

    name = _NAME

    def __init__(self, api: EventsApi, node: str) -> None:
        """``node``: this node's name in Kubernetes."""
        self._api = api
        self._node = node

    async def take(self, entry: Entry, memory: Mapping[str, Any]) -> Mapping[str, Any]:
        """As in Receiver."""
        event = kube_event.draft(entry, self._node)
        after, posting = correlate(Memory.load(memory), event.draft)
        if posting is None:
            reason = "there were too many events about this pod; `hookshim events` has them all"
            raise RefusedError("rate limit", reason, after.dump())
        count, change = posting.count, kube_event.counted(posting)
        if count == 1 or not await aside(lambda: self._api.patch(event.namespace, posting.name, change)):
            body = kube_event.created(event, posting, self._node)
            await aside(lambda: self._api.create(event.namespace, body))
        return after.dump()


def kubernetes_sink(config: Config) -> Courier:
    """The sink of ``[events] kubeconfig``, whose ``run`` the observer has as a task.

    Raises nothing: a kubeconfig that cannot be used is logged, and read again.
    """
    events = config.events
    # Beside the socket, which is in memory on a node: credentials are written to no disk, and wait for none.
    api = EventsApi(Path(events.kubeconfig), config.admin.with_name(f".{config.admin.name}.credentials"))
    api.clear()
    # As the kubelet calls a node that nobody has named.
    node = events.node_name or socket.gethostname().lower()
    return Courier(
        KubernetesEvents(api, node), JournalFile(config.state_dir / FILE), CursorFile(config.state_dir, _NAME)
    )
