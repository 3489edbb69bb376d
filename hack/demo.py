"""The main job, shown with a real pod on a private containerd. Run by hack/demo, which sets up what this needs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.hookshimd import COMMAND, Hookshim
from tests.support.later import later
from tests.support.signals import SignalLog, logging_container, logging_hook, now
from tests.support.waiting import until

ANNOTATION = "hookshim.dev/lifecycle"
POST_START_SECONDS = 1.0
PRE_STOP_SECONDS = 3.0
GRACE_SECONDS = 30

console = Console(highlight=False)


class DemoError(Exception):
    """The demo did not show what it is there to show."""


def main() -> int:
    """Run the demo; the process's exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        with (
            console.status("starting a private containerd"),
            PrivateContainerd.start() as containerd,
            tempfile.TemporaryDirectory(prefix="hookshim-demo-") as directory,
            _daemon(Path(directory), containerd) as daemon,
        ):
            said(f"containerd {containerd.version} at {containerd.socket} (private: it ends with this demo)")
            daemon.start()
            said(f"hookshim, pid {daemon.pid}, serves CRI at {daemon.socket}")
            show(daemon, containerd, Path(directory))
            if "--stay" in sys.argv[1:]:
                stay(daemon)
        said("all is cleaned up")
    except KeyboardInterrupt:
        said("interrupted; all is cleaned up")
        return 130
    except DemoError as error:
        console.print(f"[bold red]error:[/] {error}")
        return 1
    return 0


@contextmanager
def _daemon(directory: Path, containerd: PrivateContainerd) -> Iterator[Hookshim]:
    daemon = Hookshim(directory, containerd.socket)
    try:
        yield daemon
    finally:
        daemon.close()


def show(daemon: Hookshim, containerd: PrivateContainerd, directory: Path) -> None:
    """PostStart holds StartContainer; PreStop survives SIGKILL; the record says so."""
    log = SignalLog(directory / "log")
    lifecycle = {
        "postStart": {"exec": {"command": logging_hook("PostStart", seconds=POST_START_SECONDS)}},
        "preStop": {"exec": {"command": logging_hook("PreStop", seconds=PRE_STOP_SECONDS)}},
    }
    heading("A pod whose container declares both hooks")
    pod = daemon.cri.run_pod("demo")
    container = daemon.cri.create(
        pod, "web", logging_container(), annotations={ANNOTATION: json.dumps(lifecycle)}, mounts=log.mounts
    )
    said(f'annotation {ANNOTATION}: {{"postStart": {{"exec": …}}, "preStop": {{"exec": …}}}}')

    heading("StartContainer returns after PostStart")
    began = time.monotonic()
    daemon.cri.start(container)
    said(
        f"StartContainer was answered after {time.monotonic() - began:.1f} s; PostStart takes {POST_START_SECONDS:g} s"
    )
    if "PostStart ends" not in log.words():
        raise DemoError("StartContainer was answered before PostStart had ended")

    heading("hookshim is killed in the middle of PreStop")
    zero = now()
    stop = later(daemon.cri.stop, container, GRACE_SECONDS)
    log.wait_for("PreStop begins")
    time.sleep(1)
    daemon.kill()
    said(f"kill -9 {daemon.pid}, {now() - zero:.1f} s after StopContainer (grace {GRACE_SECONDS} s) was called")
    answer = stop.exception(30)
    if not isinstance(answer, CRIError):
        raise DemoError(f"the caller of StopContainer was told {answer!r}")
    said(f"the caller got {answer.code.name}, and gives up; the container is {containerd.cri.state(container)}")

    heading("hookshim is started again, and nobody calls it")
    daemon.start()
    with console.status("waiting for the stop to be finished"):
        until(lambda: containerd.cri.state(container) == "CONTAINER_EXITED", "the stop is finished")
    said(
        f"hookshim, pid {daemon.pid}, found PreStop still running, waited for it and finished the stop; "
        "containerd says CONTAINER_EXITED"
    )
    console.print("\n  What the container and its hooks wrote, in seconds since StopContainer:")
    for entry in log.entries():
        console.print(f"    {round(entry.at - zero, 1) + 0:6.1f}  {entry.what}")
    words = log.words()
    if words[-4:] != ["PreStop begins", "PreStop ends", "TERM", "finished"] or words.count("PreStop begins") != 1:
        raise DemoError(f"this is not what was to be seen: {words}")

    heading(f"hookshim --state-dir {daemon.state_dir} deliveries")
    sys.stdout.flush()
    until(lambda: all(delivery["finished_at"] for delivery in daemon.deliveries()), "the record is complete")
    subprocess.run([COMMAND, "--state-dir", daemon.state_dir, "deliveries"], check=True)
    states = [delivery["state"] for delivery in daemon.deliveries()]
    if states != ["delivered", "delivered"]:
        raise DemoError(f"the record says {states}")
    daemon.cri.stop_pod(pod)
    daemon.cri.remove_pod(pod)


def stay(daemon: Hookshim) -> None:
    """Serve until Ctrl-C."""
    heading("hookshim goes on serving; Ctrl-C ends it. Use it with")
    console.print(f"  crictl --runtime-endpoint unix://{daemon.socket} ps -a", soft_wrap=True)
    console.print(f"  kubelet --container-runtime-endpoint=unix://{daemon.socket} …", soft_wrap=True)
    console.print(f"  .venv/bin/hookshim --state-dir {daemon.state_dir} deliveries", soft_wrap=True)
    while daemon.running:
        time.sleep(0.2)
    raise DemoError(f"hookshim has ended:\n{daemon.tail()}")


def heading(text: str) -> None:
    """The next part."""
    console.print(f"\n[bold]{text}[/]", soft_wrap=True)


def said(text: str) -> None:
    """One thing that has happened."""
    console.print(f"  {text}", soft_wrap=True)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
