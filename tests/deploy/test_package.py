"""The Debian package on a Debian 12 with a real systemd: installed, run, upgraded, removed and purged."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.conftest import client
from tests.deploy.debian import ROOT, System, run
from tests.support.waiting import until
from tests.unit.records import write_version_1

pytestmark = [pytest.mark.xdist_group("deploy"), pytest.mark.timeout(600)]

UNIT = "hookshim.service"
DROPINS = "etc/systemd/system/hookshim.service.d"

#: What a package may write to beside its own files.
EVERYWHERE = ("/etc", "/usr", "/opt", "/srv", "/root", "/home", "/var/lib")


def install(system: System, package: Path) -> None:
    """As ``apt-get install ./FILE`` does."""
    shutil.copy(package, system / "tmp")
    system.run("dpkg", "--install", f"/tmp/{package.name}")


def active(system: System) -> bool:
    """Whether the service has said READY."""
    return system.try_run("systemctl", "is-active", UNIT).stdout.strip() == "active"


def files(system: System) -> set[str]:
    """What there is but dpkg's own records."""
    return {path for path in system.files(*EVERYWHERE) if not path.startswith(("/var/lib/dpkg/", "/var/lib/apt/"))}


def ids(system: System) -> list[str]:
    """The deliveries that the installed command shows."""
    return [each["id"] for each in json.loads(system.run("hookshim", "deliveries", "--json"))]


@pytest.fixture(scope="module")
def node(boot: Callable[[], System], package: Path) -> System:
    """A system with the package installed."""
    system = boot()
    install(system, package)
    until(lambda: active(system), "the service is active")
    return system


@pytest.fixture(scope="module")
def newer(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package as a later version: its parts as they are (deb(5)), but what it says of itself."""
    directory = tmp_path_factory.mktemp("newer")
    run("dpkg-deb", "--control", package, directory / "DEBIAN")
    control = directory / "DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 9."))
    run("tar", "-cf", directory / "control.tar", "-C", directory / "DEBIAN", ".")
    run("ar", "x", "--output", directory, package)
    newer = directory / "newer.deb"
    [data] = directory.glob("data.tar*")
    run("ar", "rc", newer, directory / "debian-binary", directory / "control.tar", data)
    return newer


@pytest.fixture
def dropin(node: System) -> Iterator[Callable[[str], None]]:
    """Gives the service other settings for this test, and restarts it."""

    def restart() -> None:
        node.run("systemctl", "daemon-reload")
        node.run("systemctl", "restart", UNIT)

    def write(text: str) -> None:
        (node / DROPINS).mkdir(exist_ok=True)
        (node / DROPINS / "test.conf").write_text(text)
        restart()

    yield write
    (node / DROPINS / "test.conf").unlink(missing_ok=True)
    restart()


def test_it_serves_when_it_is_installed(node: System) -> None:
    """Enabled and started, as Debian's services are; it is ready when calls come through to containerd."""
    assert node.run("systemctl", "is-enabled", UNIT).strip() == "enabled"
    assert node.property(UNIT, "StatusText").startswith("Serving at /run/hookshim/hookshim.sock")
    cri = client(node)
    assert cri.version(timeout=10).runtime_name == "containerd"
    cri.close()
    assert node.run("hookshim", "version").startswith("hookshim 0.")
    assert 'listen = "/run/hookshim/hookshim.sock"  # default' in node.run("hookshim", "check-config")
    assert ids(node) == []


def test_what_it_keeps_is_roots_alone(node: System) -> None:
    """The journal's directory, and the sockets."""
    modes = {
        path: stat.S_IMODE((node / path).stat().st_mode)
        for path in ("var/lib/hookshim", "var/lib/hookshim/journal.db", "run/hookshim", "run/hookshim/hookshim.sock")
    }
    assert list(modes.values()) == [0o700, 0o600, 0o755, 0o660]


def test_systemd_finds_nothing_wrong_with_the_unit(node: System, dropin: Callable[[str], None]) -> None:
    """Not with the hardened one either, which serves as well as the other."""
    verify = ("systemd-analyze", "verify", "--man=no", f"/lib/systemd/system/{UNIT}")
    assert node.try_run(*verify).stderr == ""
    assert node.run(*verify) == ""
    dropin((ROOT / "hack/deploy/hookshim-hardened.conf").read_text())
    assert node.try_run(*verify).stderr == ""
    assert node.property(UNIT, "ProtectSystem") == "strict"
    cri = client(node)
    pod = cri.run_pod("hardened")
    lifecycle = '{"postStart": {"sleep": {"seconds": 1}}}'
    cri.start(cri.create(pod, "c", ["sleep", "3600"], annotations={"hookshim.dev/lifecycle": lifecycle}))
    cri.close()
    [delivery] = json.loads(node.run("hookshim", "deliveries", "--json"))
    assert delivery["state"] == "delivered"


def test_running_it_writes_nothing_beside_its_own_files(node: System) -> None:
    """Below /usr there is what dpkg knows of, unchanged: nothing is left when it is removed."""
    assert node.run("dpkg", "--verify", "hookshim") == ""
    known = set(node.run("dpkg", "--listfiles", "hookshim").splitlines())
    assert set(node.files("/usr/lib/hookshim")) <= known


def test_the_shell_completes_its_commands(node: System) -> None:
    """With Debian's file, which bash-completion loads by its name."""
    script = "source /usr/share/bash-completion/completions/hookshim && complete -p hookshim"
    assert node.run("bash", "-c", script).strip().endswith("hookshim")


def test_a_daemon_that_no_client_reaches_is_restarted(node: System, dropin: Callable[[str], None]) -> None:
    """The watchdog is not fed, systemd ends it, and every thread's stack is in the log."""
    dropin("[Service]\nWatchdogSec=4\n")
    pid = node.property(UNIT, "MainPID")
    (node / "run/hookshim/hookshim.sock").rename(node / "run/hookshim/aside")
    until(lambda: node.property(UNIT, "MainPID") not in {pid, "0"} and active(node), "another one serves")
    told = node.run("journalctl", "--unit", UNIT, "--no-pager")
    assert "Watchdog timeout" in told
    assert "Fatal Python error: Aborted" in told
    assert (node / "run/hookshim/hookshim.sock").is_socket()


def test_what_a_run_hook_has_left_behind_outlives_a_restart(node: System) -> None:
    """A process of the node's owner is not hookshim's to kill."""
    rule = node / "etc/hookshim/hooks.d/left.toml"
    command = 'command = ["/bin/sh", "-c", "sleep 3600 </dev/null >/dev/null 2>&1 & echo $! >/run/left"]'
    rule.write_text(f'when = ["postStart"]\n[match]\ncontainers = ["left"]\n[[handlers]]\nrun = {{ {command} }}\n')
    node.run("systemctl", "restart", UNIT)
    cri = client(node)
    cri.start(cri.create(cri.run_pod("left"), "left", ["sleep", "3600"]))
    cri.close()
    pid = (node / "run/left").read_text().strip()
    assert UNIT in node.run("cat", f"/proc/{pid}/cgroup")
    node.run("systemctl", "restart", UNIT)
    assert node.run("cat", f"/proc/{pid}/comm").strip() == "sleep"
    node.run("sh", "-c", f"kill {pid}")
    rule.unlink()


def test_an_upgrade_keeps_the_journal_and_a_purge_leaves_nothing(
    boot: Callable[[], System], package: Path, newer: Path, tmp_path: Path
) -> None:
    """Here from the first version's journal on: its records are shown after each step, up to the purge."""
    system = boot()
    before = files(system)
    journal = system / "var/lib/hookshim/journal.db"
    journal.parent.mkdir(mode=0o700)
    # Not written there: SQLite follows the system's root to this one's.
    write_version_1(tmp_path / "journal.db")
    shutil.copy(tmp_path / "journal.db", journal)
    install(system, package)
    until(lambda: active(system), "the service is active")
    assert ids(system) == ["d1"]
    pid = system.property(UNIT, "MainPID")
    settings = system / "etc/hookshim/config.toml"
    settings.write_text(settings.read_text() + "# the owner's\n")

    install(system, newer)
    until(lambda: system.property(UNIT, "MainPID") not in {pid, "0"} and active(system), "it was restarted")
    assert ids(system) == ["d1"]
    assert settings.read_text().endswith("# the owner's\n")

    system.run("dpkg", "--remove", "hookshim")
    assert not active(system)
    assert journal.exists()
    assert settings.exists()
    assert not (system / "usr/lib/hookshim").exists()

    system.run("dpkg", "--purge", "hookshim")
    assert sorted(files(system) - before) == []
    assert sorted(before - files(system)) == []


def test_what_the_owner_has_disabled_stays_so(node: System, newer: Path) -> None:
    """An upgrade starts nothing that was stopped and disabled."""
    node.run("systemctl", "disable", "--now", UNIT)
    install(node, newer)
    assert node.try_run("systemctl", "is-enabled", UNIT).stdout.strip() == "disabled"
    assert not active(node)
    node.run("systemctl", "enable", "--now", UNIT)
