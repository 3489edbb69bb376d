"""What is looked at while a call hangs, to tell a hang of hookshim's from containerd's; written for a person to read.

How it is read: a socket that answers a new client's Version serves, so that the call waits for something of its own;
one that does not is held up as a whole, and its process's threads say in what. Of hookshim, what its tasks wait for
names the call to containerd, the lock or the answer that is missing; a call that is in hookshim and in no goroutine of
containerd's is lost between them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from server.admin.client import AdminClient
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIClient
from tests.support.hookshimd import Hookshim
from tests.support.soak import goroutines, shown, system
from tests.support.soak.memory import Memory
from tests.support.waiting import until

#: Seconds that a question may take here.
_QUESTION = 2.0

#: Lines of a log that are shown, and how much of each.
_LINES, _WIDTH = 12, 400

#: Bytes at a log's end in which these lines are.
_TAIL = 32 << 10


class Evidence:
    """Writes what it sees of ``daemon`` and containerd into files ``hang-N.txt`` of a directory.

    To be made before the daemon is started, which it is to be able to ask.
    """

    def __init__(self, daemon: Hookshim, containerd: PrivateContainerd, directory: Path) -> None:
        self.daemon = daemon
        self._containerd = containerd
        self._directory = directory
        self._collected = 0
        self._shown = daemon.directory / "shown"
        daemon.program = [sys.executable, "-P", Path(shown.__file__)]
        daemon.env[shown.PLACE] = str(self._shown)

    def collect(self, calls: Sequence[str]) -> str:
        """Look at everything now; the file in which it is. ``calls`` are those under way, in words."""
        self._collected += 1
        number = self._collected
        file = self._directory / f"hang-{number}.txt"
        sections: list[tuple[str, Callable[[], Sequence[str]]]] = [
            ("calls under way", lambda: calls),
            ("containerd, asked on a new connection", partial(_version, self._containerd.socket)),
            ("hookshim, asked on a new connection", partial(_version, self.daemon.socket)),
            ("hookshim, asked at its admin socket", self._status),
            ("what is open in hookshim's journal", Memory(self.daemon).open),
            ("what hookshim's event loop waits for", self._loop),
            ("hookshim's threads, in Python", self._threads),
            ("hookshim's threads, in the kernel", lambda: system.threads(self.daemon.pid)),
            ("hookshim's main thread, in the kernel", lambda: system.kernel_stack(self.daemon.pid)),
            ("the sockets", lambda: system.unix_sockets([self._containerd.socket], self.daemon.pid)),
            ("containerd's threads, in the kernel", lambda: system.threads(self._containerd.pid)),
            ("the end of hookshim's log", partial(_tail, self.daemon.log)),
            ("the end of containerd's log", partial(_tail, self._containerd.log)),
            # They are in the log then.
            (f"containerd's goroutines (all: hang-{number}-goroutines.txt)", partial(self._goroutines, number)),
        ]
        with file.open("w") as output:
            output.write(time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime()))
            for title, look in sections:
                lines = _seen(look)
                output.write("\n".join([f"\n== {title}", *lines]) + "\n")
                output.flush()
        return str(file)

    def clear(self) -> None:
        """Remove what containerd has written outside of the directory. To be called when nobody looks any more."""
        goroutines.clear(self._containerd.log)

    def _status(self) -> list[str]:
        began = time.monotonic()
        with AdminClient(self.daemon.admin, _QUESTION) as client:
            status = client.status()
        containerd = "answers it" if status.containerd_reachable else f"does not: {status.containerd_reason}"
        return [
            f"it answers in {time.monotonic() - began:.3f} s; serving: {status.reason or 'yes'}",
            f"containerd {containerd}; journal: {status.journal_reason or 'well'}; {status.open_operations} open",
        ]

    def _loop(self) -> list[str]:
        return self._said(signal.SIGUSR1, self._shown, f"{shown.END}\n")

    def _threads(self) -> list[str]:
        # Its main thread's are the last.
        return self._said(signal.SIGUSR2, self._shown.with_name(f"{self._shown.name}.threads"), "in <module>\n")

    def _said(self, number: signal.Signals, file: Path, end: str) -> list[str]:
        seen = file.stat().st_size if file.exists() else 0
        os.kill(self.daemon.pid, number)

        def said() -> str:
            text = file.read_text()[seen:] if file.exists() else ""
            return text if text.endswith(end) else ""

        return until(said, f"hookshim (pid {self.daemon.pid}) has written {file.name}", _QUESTION).splitlines()

    def _goroutines(self, number: int) -> list[str]:
        stacks = goroutines.dumped(self._containerd.pid, self._containerd.log)
        (self._directory / f"hang-{number}-goroutines.txt").write_text(stacks)
        return goroutines.telling(stacks)


def _seen(look: Callable[[], Sequence[str]]) -> Sequence[str]:
    try:
        return look() or ["nothing"]
    except Exception as error:  # noqa: BLE001 - what cannot be seen is evidence too, and the rest is to be seen
        return [f"not to be seen: {type(error).__name__}: {error}"]


def _version(socket: Path) -> list[str]:
    with CRIClient(socket) as client:
        client.connect(_QUESTION)
        began = time.monotonic()
        reply = client.call("Version", timeout=_QUESTION)
    return [f"{reply.code.name} {reply.message}".strip() + f" in {time.monotonic() - began:.3f} s"]


def _tail(log: Path) -> list[str]:
    lines = log.read_bytes()[-_TAIL:].decode(errors="replace").splitlines()
    return [line[:_WIDTH] for line in lines[-_LINES:]]
