"""A journal with events in it and a sink that tells them, for the tests that need no containerd."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from shim.changes import InsertDelivery, InsertEvent, InsertOperation
from shim.records import NODE, Event
from shim.store import FILE, Store
from tests.support.waiting import PATIENCE, until
from tests.unit.records import REF, delivery, operation


class Events:
    """A journal that is written to as a daemon does; ``store`` is its open file."""

    def __init__(self, state_dir: Path) -> None:
        state_dir.mkdir(mode=0o700, exist_ok=True)
        self.path = state_dir / FILE
        self.store = Store.open(self.path)
        self._number = len(self.store.deliveries())

    def fail(
        self,
        why: str = "it failed",
        *,
        reason: str = "FailedPostStartHook",
        at: float | None = None,
        **container: str,
    ) -> str:
        """One more container's hook has failed; ``container`` changes who it is (``pod="db"``). Its delivery's id."""
        self._number += 1
        stop = operation(self._number)
        about = replace(REF, **{"id": stop.container.id, **container})
        stop = replace(stop, container=about)
        hook = delivery(stop)
        message = f"{why} (attempt 1, delivery {hook.id})"
        event = Event(time.time() if at is None else at, reason, about, hook.id, message)
        assert self.store.commit([(InsertOperation(stop), InsertDelivery(hook), InsertEvent(event))]) == [None]
        return hook.id

    def damage(self, message: str = "the journal was damaged") -> None:
        """An event about the node."""
        event = Event(time.time(), "JournalDamaged", NODE, "", message)
        assert self.store.commit([(InsertEvent(event),)]) == [None]


def kubeconfig(path: Path, server: str, **user: Any) -> Path:
    """Write one for ``server``; ``user`` has the credentials, ``cluster`` among it what is said of the cluster."""
    cluster = {"server": server, **user.pop("cluster", {})}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    new = path.with_suffix(".new")
    new.write_text(yaml.safe_dump(config))
    return new.replace(path)


class Forks:
    """The process that the sinks are forked from; ended by ``close``, and they with it."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.sinks.program"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def fork(self, *arguments: Path) -> int:
        """Start a sink; its pid."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(one) for one in arguments]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(PATIENCE)


class Sink:
    """The sink as a process, started again after each ``kill``."""

    def __init__(self, forks: Forks, state_dir: Path, kubeconfig: Path) -> None:
        self.state_dir = state_dir
        self.log = state_dir.parent / "sink.log"
        self._forks = forks
        self._kubeconfig = kubeconfig
        self._pid = 0
        self.start()

    def start(self) -> None:
        """Start it."""
        self._pid = self._forks.fork(self.state_dir, self._kubeconfig, self.log)

    def kill(self) -> None:
        """SIGKILL it, if it runs."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            until(lambda: not Path(f"/proc/{self._pid}").exists(), "the sink is gone")
            self._pid = 0

    def cursor(self) -> dict[str, Any]:
        """What it has saved, {} before it has."""
        try:
            saved: dict[str, Any] = json.loads((self.state_dir / "sinks" / "kubernetes.json").read_text())
        except FileNotFoundError:
            return {}
        return saved

    def said(self, event: str) -> list[dict[str, Any]]:
        """The log's lines with this event."""
        if not self.log.exists():
            return []
        lines = (json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("}\n"))
        return [line for line in lines if line["event"] == event]
