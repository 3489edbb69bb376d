"""Kubernetes sinks as processes, so that a test can kill them: ``-m tests.sinks.program`` forks one for each line.

A line has the state directory, the kubeconfig and the log's file, as a JSON list; the answer is the process's id. What
takes long, reading the client's code, is done once. Their settings and their logs are the observer's. They end with
stdin.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from server import log
from server.config import Config, EventsConfig
from server.sinks.kubernetes import kubernetes_sink


def main() -> None:
    """Fork until stdin ends."""
    # Whoever is killed is gone at once, without being waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    made = []
    for line in sys.stdin:
        if not (pid := os.fork()):
            _tell(*json.loads(line))
        made.append(pid)
        print(pid, flush=True)  # noqa: T201 - the answer
    for pid in made:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)


def _tell(state_dir: str, kubeconfig: str, log_file: str) -> None:
    """Tell events until killed."""
    os.dup2(os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    log.setup("info", "json")
    config = Config(
        state_dir=Path(state_dir),
        admin=Path(state_dir).with_name("admin.sock"),
        events=EventsConfig(kubeconfig=kubeconfig, node_name="node-1"),
    )
    try:
        asyncio.run(kubernetes_sink(config).run())
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
