"""The real daemon as a process, as a node's owner runs it: ``hookshim serve``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from server import report
from tests.support.cri import CRIClient, CRIError
from tests.support.network import EVERY_SUBNET
from tests.support.process import Process
from tests.support.waiting import PATIENCE, until

#: The command that the distribution installs, beside the Python that runs the tests.
COMMAND = Path(sys.executable).with_name("hookshim")


class Hookshim:
    """One state directory and socket, and the daemons that serve them one after another. ``cri`` is a client of it."""

    def __init__(
        self, directory: Path, containerd: Path, env: Mapping[str, str] | None = None, options: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        self.state_dir = directory / "state"
        self.socket = directory / "h.sock"
        self.admin = directory / "a.sock"
        self.log = directory / "hookshim.log"
        self.containerd = containerd
        # The receivers of the tests are on the node, which a pod may not name without this.
        self.env = {
            "HOOKSHIM_REACH_CIDRS": EVERY_SUBNET,
            "HOOKSHIM_HOOKS_DIR": str(directory / "hooks.d"),
            "HOOKSHIM_ADMIN": str(self.admin),
            **(env or {}),
        }
        self.options = list(options)
        #: What is run: anything that takes the command's arguments.
        self.program: list[str | Path] = [COMMAND]
        self.cri = CRIClient(self.socket)
        self._process: Process | None = None

    def start(self, env: Mapping[str, str] | None = None, *, wait: bool = True) -> None:
        """Start a daemon; ``env`` (as HOOKSHIM_FAILPOINTS) is this one's only.

        Waits until it serves. Raises RuntimeError with the log's tail if it ends instead.
        """
        if self.running:
            raise RuntimeError(f"pid {self.pid} serves {self.state_dir} already")
        command: list[str | Path] = [*self.program, "--state-dir", self.state_dir, "serve"]
        command += ["--listen", self.socket, "--containerd", self.containerd, *self.options]
        self._process = Process(command, self.log, {**self.env, **(env or {})})
        if wait:
            self.wait_until_serving()

    def wait_until_serving(self, within: float = PATIENCE) -> None:
        """Wait until a call comes through to containerd. Raises RuntimeError if the daemon ends, TimeoutError."""
        until(self._serves, "hookshim serves", within)

    @property
    def pid(self) -> int:
        """The pid of the daemon, which may have ended."""
        return self._started().pid

    @property
    def running(self) -> bool:
        """Whether a daemon runs."""
        return self._process is not None and self._process.exit_status is None

    @property
    def exit_status(self) -> int | None:
        """How the last daemon ended (negative: by that signal), None while it runs."""
        return self._started().exit_status

    def kill(self) -> None:
        """SIGKILL the daemon, if it runs."""
        if self._process is not None:
            self._process.kill()

    def terminate(self, within: float = PATIENCE) -> int:
        """SIGTERM the daemon, and wait for its exit status."""
        return self._started().terminate(within)

    def wait(self, within: float = PATIENCE) -> int:
        """Wait until the daemon ends by itself (a failpoint does it); its exit status."""
        return self._started().wait(within)

    def restart(self, env: Mapping[str, str] | None = None) -> None:
        """SIGKILL the daemon, if it runs, and start another."""
        self.kill()
        self.start(env)

    def deliveries(self) -> list[dict[str, Any]]:
        """What ``hookshim deliveries --json`` prints, the daemon running or not, without a process for it."""
        answer: list[dict[str, Any]] = json.loads(report.deliveries_json(report.deliveries(self.state_dir) or []))
        return answer

    def events(self) -> list[dict[str, Any]]:
        """What ``hookshim events --json`` prints."""
        answer: list[dict[str, Any]] = json.loads(report.events_json(report.events(self.state_dir) or []))
        return answer

    def close(self) -> None:
        """End the daemon and the client."""
        self.kill()
        self.cri.close()

    def tail(self) -> str:
        """The end of the daemon's log."""
        return self._started().tail()

    def _serves(self) -> bool:
        if self.exit_status is not None:
            raise RuntimeError(f"hookshim ended at its start with {self.exit_status}:\n{self.tail()}")
        try:
            self.cri.version(timeout=5)
        except CRIError:  # not listening yet, or not reconciled yet
            return False
        return True

    def _started(self) -> Process:
        if self._process is None:
            raise RuntimeError("no daemon was started")
        return self._process
