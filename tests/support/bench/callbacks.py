"""Whether anything holds the event loop: the longest of its callbacks while hooks are delivered by the hundred."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.support.bench import processes
from tests.support.bench.calls import DELIVERING
from tests.support.bench.fake import SHORT
from tests.support.bench.figures import JUDGED, Check, Verdict
from tests.support.bench.load import Callers, LoadError, Request, load
from tests.support.bench.progress import Progress
from tests.support.hookshimd import Hookshim
from tests.wire import cri_pb2 as cri

#: The most that one callback may take, in seconds of CPU: a call in another stream waits for it. The longest are those
#: in which Python looks for garbage, of which a hundred deliveries at once make some.
_LONGEST = 0.05

#: Deliveries before the callbacks are timed: what is done once is not what is asked for here.
_FIRST = DELIVERING

_STOP = cri.StopContainerRequest(container_id=SHORT, timeout=30).SerializeToString()
_REQUEST = Request("/runtime.v1.RuntimeService/StopContainer", _STOP, 0)


def of_deliveries(socket: Path, journals: Path, count: int, progress: Progress) -> Check:
    """Of so many deliveries with the fake runtime at ``socket``, the journal below a directory."""
    progress.show("callbacks of the event loop")
    title = f"longest callback of the event loop, {DELIVERING} callers wanting deliveries"
    promised = f"≤ {_LONGEST * 1e3:g} ms of CPU"
    with tempfile.TemporaryDirectory(prefix="hookshim-b-", dir=journals) as made:
        directory = Path(made)
        daemon = Hookshim(directory, socket, {"HOOKSHIM_FRONT": JUDGED})
        file = directory / "callbacks.json"
        daemon.program = [sys.executable, "-m", "tests.support.bench.timed", file]
        try:
            daemon.start()
            load(daemon.socket, _REQUEST, Callers(DELIVERING), _FIRST, cold=True)
            processes.settle(daemon.pid)
            os.kill(daemon.pid, signal.SIGUSR2)
            load(daemon.socket, _REQUEST, Callers(DELIVERING), count, cold=True)
            daemon.terminate()
            told = json.loads(file.read_text())
        except (LoadError, RuntimeError, TimeoutError, OSError) as error:
            return Check(title, f"not measured: {str(error).splitlines()[-1]}", promised, Verdict.UNKNOWN)
        finally:
            daemon.close()
    found = f"{told['longest'] * 1e3:.1f} ms, p99 {told['p99'] * 1e3:.2f} ms, of {told['callbacks']:,}"
    return Check(title, found, promised, Verdict.MET if told["longest"] <= _LONGEST else Verdict.NOT_MET)
