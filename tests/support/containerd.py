"""A containerd of the tests' own, beside any other on the machine.

Its directories, sockets, network and runc root are its own too, so that a test may kill it, and nobody else's notices.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Self

from tests.support import leftovers
from tests.support.config import containerd_config
from tests.support.cri import CRIClient, CRIError
from tests.support.image import BUSYBOX, OPINIONATED, PAUSE, write_archive
from tests.support.leftovers import Traces
from tests.support.network import Bridge, plugin_dir
from tests.support.process import Process
from tests.support.waiting import until

#: A RuntimeClass's handler besides containerd's default: the same runc with a root of its own, which tells them apart.
SECOND_HANDLER = "runc2"

#: That handler for the plugin that runs containers, which containerd 2 has renamed.
_SECOND_HANDLER = """
[plugins."{plugin}".containerd.runtimes.{handler}]
runtime_type = "io.containerd.runc.v2"

[plugins."{plugin}".containerd.runtimes.{handler}.options]
Root = "{root}"
"""

#: Seconds for what containerd does at once or never: to be ready, to end a pod.
_PATIENCE = 60.0


#: What containerd says of a task whose shim ends while it is asked.
_SHIM_GOING = "ttrpc: closed"


class LeftoverError(AssertionError):
    """An instance was ended and something of it stayed."""


class PrivateContainerd:
    """Made by start(), ended by end(); a context manager does both.

    ``unpacked`` is a directory with ``usr/bin/containerd``, its shim and ctr (an unpacked Debian package); None takes
    the machine's own. ``cri`` is a client of its socket.
    """

    def __init__(self, unpacked: Path | None = None) -> None:
        self._path = os.pathsep.join(
            [*([str(unpacked / "usr/bin")] if unpacked else []), os.environ["PATH"], "/usr/sbin", "/sbin"]
        )
        self.version = _version(self._program("containerd"))
        self.directory = _directory()
        self.socket = self.directory / "c.sock"
        self.log = self.directory / "containerd.log"
        self._state = self.directory / "state"
        self._process: Process | None = None
        self._bridge = Bridge.claim()
        self._bridge.write_config(self.directory / "cni", self.directory / "addresses")
        config = containerd_config(self.version, self.directory, self.socket, plugin_dir(), PAUSE)
        config += _SECOND_HANDLER.format(
            plugin="io.containerd.grpc.v1.cri" if self.version.startswith("1.") else "io.containerd.cri.v1.runtime",
            handler=SECOND_HANDLER,
            root=self.runc_root(SECOND_HANDLER),
        )
        (self.directory / "config.toml").write_text(config)
        self.cri = CRIClient(self.socket)

    @classmethod
    def start(cls, unpacked: Path | None = None) -> Self:
        """A running instance with the image imported. Raises TimeoutError with the log's tail if it does not start."""
        made = cls(unpacked)
        try:
            made.launch()
            made.import_image()
        except BaseException:
            made._force(made.traces())
            raise
        return made

    def __enter__(self) -> Self:
        """Nothing to do: start() has."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.end()

    @property
    def pid(self) -> int:
        """The pid of the daemon. Raises RuntimeError if it does not run."""
        return self._running().pid

    @property
    def running(self) -> bool:
        """Whether the daemon runs."""
        return self._process is not None and self._process.exit_status is None

    def runc_root(self, handler: str) -> Path:
        """Where runc keeps what it runs for this handler: ``k8s.io/CONTAINER`` below it while there is a container."""
        return self.directory / handler

    def trust_registry(self, address: str) -> None:
        """Have images of the registry at ``HOST:PORT`` pulled in plain http. containerd reads this at each pull."""
        place = self.directory / "certs.d" / address
        place.mkdir(parents=True, exist_ok=True)
        host = f'server = "http://{address}"\n[host."http://{address}"]\ncapabilities = ["pull", "resolve"]\n'
        (place / "hosts.toml").write_text(host)

    def launch(self) -> None:
        """Start the daemon (again) and wait until it is ready to run pods."""
        config = self.directory / "config.toml"
        self._process = Process([self._program("containerd"), "--config", config], self.log, {"PATH": self._path})
        until(self._ready, f"containerd {self.version} is ready", _PATIENCE)

    def kill(self) -> None:
        """SIGKILL the daemon; pods and containers go on."""
        self._running().kill()

    def stop(self) -> None:
        """SIGTERM the daemon and wait for its end; pods and containers go on."""
        self._running().terminate(_PATIENCE)

    def restart(self) -> None:
        """SIGKILL the daemon if it runs, and start it again."""
        if self.running:
            self.kill()
        self.launch()

    def ctr(self, *arguments: str | Path) -> str:
        """What ``ctr`` says in the namespace of the CRI. Raises RuntimeError with what went wrong."""
        command: Sequence[str | Path] = [
            self._program("ctr"),
            "--address",
            self.socket,
            "--namespace",
            "k8s.io",
            *arguments,
        ]
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            env={**os.environ, "PATH": self._path},
        )
        if done.returncode:
            raise RuntimeError(f"ctr {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done.stdout

    def import_image(self) -> None:
        """Give it the tests' images, and wait until the CRI knows them."""
        archive = self.directory / "image.tar"
        write_archive(archive)
        self.ctr("images", "import", archive)
        archive.unlink()
        until(lambda: {BUSYBOX, OPINIONATED, PAUSE} <= self.cri.images(), "the images are known to the CRI")

    def clear(self) -> None:
        """Stop and remove every pod, starting the daemon if it is down. Raises CRIError."""
        if not self.running:
            self.launch()
        for pod in self.cri.list_pods():
            until(partial(self._stop_pod, pod.id), f"pod {pod.id} is stopped", _PATIENCE)
            self.cri.remove_pod(pod.id, _PATIENCE)

    def _stop_pod(self, pod_id: str) -> bool:
        """Whether it is stopped: False if it is to be asked for again, as kubelets do."""
        try:
            self.cri.stop_pod(pod_id, _PATIENCE)
        except CRIError as error:
            # containerd was about to kill a container whose shim was just going, since it had ended by itself
            if _SHIM_GOING in str(error):
                return False
            raise
        return True

    def end(self) -> None:
        """End the daemon and everything it made. Raises LeftoverError naming what could not be removed."""
        if not self.directory.exists():
            return
        problems = []
        # containerd clears up after a shim that was killed, but not its socket
        before = self.traces()
        try:
            # the CRI undoes what only it knows of, as port mappings
            self.clear()
        except (CRIError, RuntimeError, TimeoutError) as error:
            problems.append(f"a pod could not be removed: {error}\n{self._process.tail() if self._process else ''}")
        problems += self._force(before)
        if problems:
            raise LeftoverError(f"of containerd {self.version} in {self.directory}:\n" + "\n".join(problems))

    def traces(self) -> Traces:
        """What leftovers() has to know and end() removes: take it while there are containers."""
        return leftovers.traces(self._state)

    def leftovers(self, seen: Traces) -> list[str]:
        """What is there of it: processes, mounts, network namespaces, sockets, cgroups, bridge, directory."""
        return [
            *leftovers.remaining(self.directory, seen),
            *([f"bridge {self._bridge.name}"] if self._bridge.exists else []),
            *(f"CNI result {path}" for path in self._bridge.results),
            *([f"directory {self.directory}"] if self.directory.exists() else []),
        ]

    def _force(self, before: Traces) -> list[str]:
        """End everything without asking anybody; what is left all the same."""
        seen = before | self.traces()
        self.cri.close()
        if self.running:
            self.kill()
        leftovers.clear(self.directory, seen)
        self._bridge.remove()
        shutil.rmtree(self.directory)
        return self.leftovers(seen)

    def _running(self) -> Process:
        if self._process is None or self._process.exit_status is not None:
            raise RuntimeError(f"containerd in {self.directory} does not run")
        return self._process

    def _ready(self) -> bool:
        process = self._process
        if process is None or process.exit_status is not None:
            raise RuntimeError(f"containerd {self.version} ended at its start:\n{process.tail() if process else ''}")
        try:
            return not self.cri.conditions(timeout=5)
        except CRIError:  # not listening yet, or its plugins are not loaded yet
            return False

    def _program(self, name: str) -> str:
        found = shutil.which(name, path=self._path)
        if found is None:
            raise FileNotFoundError(f"{name} is missing: hack/test installs Debian's containerd")
        return found


def check_name(name: str, version: str) -> None:
    """Raise ValueError unless ``name`` (as 1.6 or 2.x) is a name of ``version`` (as 1.6.20)."""
    if not version.startswith(f"{name.removesuffix('.x')}."):
        raise ValueError(f"containerd {name} was to be tested, but {version} was found")


def _version(program: str) -> str:
    """What the program says it is, as ``1.6.20``. Raises RuntimeError if it says something else."""
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True, timeout=30).stdout
    found = re.search(r"\s(\d+\.\d+\.\d+)", said)
    if found is None:
        raise RuntimeError(f"{program} --version says {said!r}")
    return found[1]


def _directory() -> Path:
    """A fresh directory on which overlayfs can be mounted, its path short enough for unix sockets.

    Raises RuntimeError: a container's own root file system, for one, is an overlay, and no overlay goes on top.
    """
    refusals = []
    for parent in dict.fromkeys((tempfile.gettempdir(), "/var/tmp", "/dev/shm")):
        directory = Path(tempfile.mkdtemp(prefix="hookshim-", dir=parent))
        refusal = _overlay_refusal(directory / "probe")
        if not refusal:
            return directory
        shutil.rmtree(directory)
        refusals.append(f"{parent}: {refusal}")
    raise RuntimeError(
        "containerd needs a directory where overlayfs can be mounted; set TMPDIR to one: " + "; ".join(refusals)
    )


def _overlay_refusal(probe: Path) -> str:
    for name in ("lower", "upper", "work", "merged"):
        (probe / name).mkdir(parents=True)
    options = f"lowerdir={probe}/lower,upperdir={probe}/upper,workdir={probe}/work"
    done = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, probe / "merged"],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    if done.returncode == 0:
        subprocess.run(["umount", probe / "merged"], check=True, timeout=30)
        shutil.rmtree(probe)
    return done.stderr.strip()
