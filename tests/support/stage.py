"""One pod behind hookshim, whose containers log their signals, and whose hooks are counted where they arrive."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tests.support.hookshimd import Hookshim
from tests.support.receiver import Receiver
from tests.support.signals import SignalLog, logging_container, logging_hook

#: The annotation that declares hooks.
KEY = "hookshim.dev/lifecycle"

Kind = Literal["exec", "httpGet"]


def exec_hook(command: Sequence[str]) -> dict[str, Any]:
    """An ``exec`` handler as it is declared."""
    return {"exec": {"command": list(command)}}


def http_hook(receiver: Receiver, path: str) -> dict[str, Any]:
    """An ``httpGet`` handler that calls the receiver on the node's loopback."""
    return {"httpGet": {"host": receiver.host, "port": receiver.port, "path": path}}


class Stage:
    """A pod, its containers' log, and the receiver of its hooks."""

    def __init__(self, daemon: Hookshim, pod_name: str, directory: Path, receiver: Receiver) -> None:
        self.daemon = daemon
        self.cri = daemon.cri
        self.pod_name = pod_name
        self.pod = self.cri.run_pod(pod_name)
        self.log = SignalLog(directory)
        self.receiver = receiver

    def hook(self, name: str, kind: Kind) -> dict[str, Any]:
        """A handler whose calls ``calls`` counts."""
        return exec_hook(logging_hook(name)) if kind == "exec" else http_hook(self.receiver, f"/{name}")

    def calls(self, name: str) -> int:
        """How often the hook was called, as its receiver or its container saw it."""
        return self.log.words().count(f"{name} begins") + len(self.receiver.seen(f"/{name}"))

    def container(self, lifecycle: dict[str, Any], command: Sequence[str] | None = None, *, name: str = "c") -> str:
        """Create a container that declares ``lifecycle``; without a command of its own it logs its signals."""
        declared = {KEY: json.dumps(lifecycle)} if lifecycle else {}
        return self.cri.create(
            self.pod,
            name,
            list(command or logging_container()),
            annotations=declared,
            mounts=self.log.mounts,
        )

    def deliveries(self) -> list[tuple[str, str]]:
        """(hook, state) of every delivery, oldest first."""
        return [(delivery["hook"], delivery["state"]) for delivery in self.daemon.deliveries()]
