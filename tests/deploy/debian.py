"""A Debian 12 of its own with a real systemd: packages are installed, run and purged in it as on a node.

debootstrap makes its files once, from the mirror that this machine's apt has; a tar of them stays under .cache. A
system writes above them only, has a process tree of its own, and is gone when it ends.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.cri import unique
from tests.support.process import Process
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
_BOOT = Path(__file__).with_name("boot.sh")
_CACHE = ROOT / ".cache" / "debian"
_CGROUPS = [Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")]

#: What a node has beside a minimal Debian.
_PACKAGES = ("python3", "systemd")

#: Units of a machine, of no use in here.
_MASKED = (
    *("dev-hugepages.mount", "dev-mqueue.mount", "sys-fs-fuse-connections.mount", "sys-kernel-debug.mount"),
    *("sys-kernel-tracing.mount", "systemd-logind.service", "getty.target", "systemd-modules-load.service"),
    *("systemd-remount-fs.service", "apt-daily.timer", "apt-daily-upgrade.timer", "systemd-pcrphase.service"),
)


def once(path: Path, make: Callable[[Path], None]) -> Path:
    """``path``, made by one process of all that ask for it: ``make`` is given another name, which is then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            beside = path.with_name(f"{path.name}.new")
            with suppress(FileNotFoundError):
                shutil.rmtree(beside) if beside.is_dir() else beside.unlink()
            make(beside)
            beside.rename(path)
    return path


def run(*command: str | Path) -> str:
    """The command's standard output. Raises AssertionError with all that it said if it fails."""
    done = subprocess.run([str(word) for word in command], check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def base(directory: Path) -> Path:
    """The files of a fresh Debian, unpacked at ``directory``; only to be read."""
    architecture = run("dpkg", "--print-architecture").strip()
    tar = once(_CACHE / f"bookworm-{'-'.join(_PACKAGES)}-{architecture}.tar", _bootstrap)

    def unpack(place: Path) -> None:
        place.mkdir()
        run("tar", "-xf", tar, "-C", place)

    return once(directory, unpack)


def _bootstrap(tar: Path) -> None:
    which = ("Created-By: Packages", "Origin: Debian", "Component: main", "Codename: bookworm")
    mirrors = run("apt-get", "indextargets", "--format", "$(REPO_URI)", *which).split()
    assert mirrors, "the sources of apt here name no mirror of Debian bookworm: look at them, and run apt-get update"
    place = tar.with_suffix(".root")
    shutil.rmtree(place, ignore_errors=True)
    try:
        options = ("--variant=minbase", f"--include={','.join(_PACKAGES)}")
        run("debootstrap", *options, "bookworm", place, mirrors[0])
        for unit in _MASKED:
            (place / "etc/systemd/system" / unit).symlink_to("/dev/null")
        for fetched in (place / "var/cache/apt/archives").glob("*.deb"):
            fetched.unlink()
        run("tar", "-cf", tar, "-C", place, "--one-file-system", ".")
    finally:
        shutil.rmtree(place, ignore_errors=True)


class System:
    """A booted Debian above the files of ``lower``; ``containerd`` is the socket that it has as its own."""

    def __init__(self, lower: Path, directory: Path, containerd: Path) -> None:
        self._cgroup = unique("hookshim-system")
        self._log = directory / "console.log"
        self._upper = directory / "upper"
        runtime = directory / "runtime"
        runtime.mkdir()
        # A link of the socket itself: all that the system needs of containerd's directory.
        (runtime / "containerd.sock").hardlink_to(containerd)
        #: What was written in the system, over what there was.
        self.written = self._upper / "diff"
        settings = self.written / "etc/dpkg/dpkg.cfg.d/hookshim-tests"
        settings.parent.mkdir(parents=True)
        # Nothing here outlives a power cut: a package is not synced to the disk file by file.
        settings.write_text("force-unsafe-io\n")
        self._outer = Process(["sh", _BOOT, lower, self._upper, self._cgroup, runtime], self._log)
        self._init = 0

    def __enter__(self) -> Self:
        """Wait until it has started. Raises TimeoutError with what its console says."""
        try:
            self._init = until(self._find_init, "the system's first process runs")
            until(self._is_up, "the system is up")
        except BaseException as error:
            error.add_note(self._outer.tail())
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Kill it, with all that runs in it."""
        if error is not None:
            error.add_note(self.try_run("journalctl", "--no-pager", "--lines=60").stdout)
        self._outer.kill()
        for hierarchy in _CGROUPS:
            for path in sorted((hierarchy / self._cgroup).glob("**/"), reverse=True):
                until(lambda path=path: _removed(path), f"{path} is empty")  # type: ignore[misc]
        shutil.rmtree(self._upper)

    def __truediv__(self, path: str) -> Path:
        """A file of the system, as seen from here."""
        return Path(f"/proc/{self._init}/root") / path.lstrip("/")

    def try_run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the system, as root."""
        enter = ["nsenter", f"--target={self._init}", "--all", "--root", "--wd", "--"]
        return subprocess.run([*enter, *command], check=False, capture_output=True, text=True, timeout=120)

    def run(self, *command: str) -> str:
        """Run a command in the system: its standard output. Raises AssertionError if it fails."""
        done = self.try_run(*command)
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def property(self, unit: str, name: str) -> str:
        """A property of a unit, as ``systemctl show`` has it."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).strip()

    def files(self, *below: str) -> Sequence[str]:
        """Every file and directory there is in these directories."""
        return self.run("find", *below, "-xdev").splitlines()

    def _find_init(self) -> int:
        assert self._outer.exit_status is None, self._outer.tail()
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        if not children or Path(f"/proc/{children[0]}/comm").read_text().strip() != "systemd":
            return 0
        return int(children[0])

    def _is_up(self) -> bool:
        return self.try_run("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}


def _removed(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # busy until the kernel has seen its last process go
        return False
    return True
