"""One pod behind hookshim, whose containers log their signals, and whose hooks are counted where they arrive."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from shim.plan import GRACE_KEY, KUBELET_KEY
from tests.support.hookshimd import Hookshim
from tests.support.receiver import Receiver
from tests.support.signals import INSIDE, SignalLog, logging_container, logging_hook

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


def kubelets_container(
    stage: Stage,
    handler: dict[str, Any] | str,
    *,
    grace: int = 60,
    lifecycle: dict[str, Any] | None = None,
    command: Sequence[str] | None = None,
) -> str:
    """Create a container as a kubelet does whose pod has this preStop and termination grace; text goes as it is.

    ``lifecycle`` is declared to hookshim beside it.
    """
    text = handler if isinstance(handler, str) else json.dumps(handler)
    annotations = {KUBELET_KEY: text, GRACE_KEY: str(grace)}
    if lifecycle:
        annotations[KEY] = json.dumps(lifecycle)
    command = list(command or logging_container())
    return stage.cri.create(stage.pod, "c", command, annotations=annotations, mounts=stage.log.mounts)


def held_hook(name: str) -> list[str]:
    """The command of an exec hook that logs ``NAME begins``, and ends once it is let go (``let_go``)."""
    begin, _, end = logging_hook(name)[2].rpartition("sleep 0;")
    return ["sh", "-c", f"{begin} while [ ! -e {INSIDE}/go ]; do sleep 0.02; done; {end}"]


def let_go(stage: Stage) -> None:
    """Let every held hook of the stage's containers end, those that begin later too."""
    [directory] = stage.log.mounts
    (directory / "go").touch()


def waiting(name: str, then: str = "exit 0") -> list[str]:
    """The command of a container that runs until ``let_end(stage, name)``, and then does ``then``."""
    return ["sh", "-c", f"until [ -e {INSIDE}/{name} ]; do sleep 0.02; done; {then}"]


def let_end(stage: Stage, name: str) -> None:
    """Let the containers go on that wait for this name."""
    [directory] = stage.log.mounts
    (directory / name).touch()


def put_rule(daemon: Hookshim, name: str, when: Sequence[str], *handlers: str, containers: str = "*") -> Path:
    """Write a rule of the node, whole from the moment it has its name; ``handlers`` are TOML, ``containers`` a glob."""
    directory = daemon.directory / "hooks.d"
    directory.mkdir(mode=0o755, exist_ok=True)
    new = directory / f".{name}"
    text = f"when = {json.dumps(when)}\n[match]\ncontainers = [{json.dumps(containers)}]\n"
    new.write_text(text + "".join(f"[[handlers]]\n{handler}\n" for handler in handlers))
    new.chmod(0o644)
    return new.rename(directory / f"{name}.toml")
