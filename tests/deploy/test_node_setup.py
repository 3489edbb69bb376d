"""What puts hookshim in front of a node's kubelet and takes it away, on a Debian 12 with a real systemd.

The kubelet is a stand-in with the unit of kubeadm's packages; the containers are real ones.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubernetes.config import new_client_from_config

from tests.conftest import BASE, Containerds
from tests.deploy.debian import ROOT, System
from tests.support.waiting import until

pytestmark = [pytest.mark.xdist_group("deploy"), pytest.mark.timeout(600)]

DIRECT = "unix:///run/containerd/containerd.sock"
THROUGH = "unix:///run/hookshim/hookshim.sock"
DEPLOY = ROOT / "hack/deploy"

#: How kubeadm's packages start a kubelet (kubernetes/release, cmd/krel/templates/latest/kubeadm/10-kubeadm.conf).
UNIT = "[Service]\nExecStart=/usr/bin/kubelet\nRestart=always\nRestartSec=1\n"
KUBEADM = """[Service]
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"""


class Node:
    """A node with a kubelet, and with what a pod of the DaemonSet brings along."""

    def __init__(self, system: System, package: Path) -> None:
        self.system = system
        self.package = f"/hookshim/{package.name}"
        for path, text in {
            "lib/systemd/system/kubelet.service": UNIT,
            "lib/systemd/system/kubelet.service.d/10-kubeadm.conf": KUBEADM,
            "var/lib/kubelet/kubeadm-flags.env": f"KUBELET_KUBEADM_ARGS=--container-runtime-endpoint={DIRECT}\n",
            "etc/default/kubelet": 'KUBELET_EXTRA_ARGS="--v=2 --node-ip=10.0.0.1"\n',
            "credentials/ca.crt": "an authority",
            "credentials/token": "a token",
        }.items():
            (system / path).parent.mkdir(parents=True, exist_ok=True)
            (system / path).write_text(text)
        shutil.copy(Path(__file__).with_name("kubelet.py"), system / "usr/bin/kubelet")
        (system / "hookshim").mkdir()
        for file in (package, DEPLOY / "node-setup", DEPLOY / "kubelet-hookshim.conf", DEPLOY / "image/cluster-setup"):
            shutil.copy(file, system / "hookshim")
        (system / "var/lib/hookshim-setup").mkdir()
        (system / "setup").symlink_to("/var/lib/hookshim-setup")
        system.run("systemctl", "daemon-reload")
        system.run("systemctl", "start", "kubelet")

    def setup(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run what the pod runs."""
        variables = ["NODE_NAME=n1", "KUBERNETES_SERVICE_HOST=fd00::1", "KUBERNETES_SERVICE_PORT=443"]
        # Shorter than on a node, where nobody waits for it.
        variables += ["NODE_SETUP_SETTLING=3"]
        return self.system.try_run("env", *variables, "/hookshim/cluster-setup", *words)

    def command_line(self) -> str:
        """That of the kubelet, which runs; empty if it has not got so far."""
        assert self.system.property("kubelet", "ActiveState") == "active"
        record = self.system / "var/log/kubelet"
        return record.read_text().splitlines()[-1] if record.exists() else ""

    def pids(self) -> list[str]:
        """The kubelet's and hookshim's."""
        return [self.system.property(unit, "MainPID") for unit in ("kubelet", "hookshim")]

    def files(self) -> set[str]:
        """What there is on the node."""
        return set(self.system.files("/etc", "/usr", "/root", "/var/lib/hookshim-setup"))


@pytest.fixture(scope="module")
def installed(boot: Callable[[], System], package: Path) -> Node:
    """A node that has the package, and a kubelet that does not use it: each test leaves it so."""
    made = Node(boot(), package)
    made.system.run("dpkg", "--install", made.package)
    until(lambda: DIRECT in made.command_line(), "the kubelet is up")
    return made


@pytest.fixture
def node(boot: Callable[[], System], package: Path) -> Iterator[Node]:
    """A node whose kubelet is up."""
    made = Node(boot(), package)
    until(lambda: DIRECT in made.command_line(), "the kubelet is up")
    yield made
    print(made.system.try_run("journalctl", "--no-pager", "--lines=80").stdout)  # noqa: T201 - pytest shows it with a failure


def check_events(node: Node) -> None:
    """Hookshim has the account's token, in a file that is root's alone, and speaks in the name of this node."""
    file = node.system / "etc/hookshim/events.kubeconfig"
    assert file.stat().st_mode & 0o777 == 0o600
    environment = node.system.property("hookshim", "Environment")
    assert "HOOKSHIM_EVENTS_KUBECONFIG=/etc/hookshim/events.kubeconfig" in environment
    assert "HOOKSHIM_EVENTS_NODE_NAME=n1" in environment
    configuration = new_client_from_config(str(file)).configuration
    assert configuration.host == "https://[fd00::1]:443"
    assert configuration.auth_settings()["BearerToken"]["value"] == "Bearer a token"
    assert Path(configuration.ssl_ca_cert).read_text() == "an authority"


def test_a_node_gets_hookshim_and_loses_it_with_no_container_stopped(node: Node, containerds: Containerds) -> None:
    """Installed, installed again (which restarts nothing), and taken away: the container has run all the time."""
    cri = containerds.shared(BASE).cri
    container = cri.create(cri.run_pod("bystander"), "c", ["sleep", "3600"])
    cri.start(container)
    started = cri.status(container).started_at
    before = node.files()

    done = node.setup("install")
    assert done.returncode == 0, done.stdout + done.stderr
    words = node.command_line().split()
    assert words == [f"--container-runtime-endpoint={DIRECT}", "--v=2", "--node-ip=10.0.0.1", words[-1]]
    assert words[-1] == f"--container-runtime-endpoint={THROUGH}"
    assert "hookshim.service" in node.system.property("kubelet", "Wants")
    assert "hookshim.service" in node.system.property("kubelet", "After")
    assert node.system.property("hookshim", "ActiveState") == "active"
    check_events(node)
    assert not list((node.system / "var/lib/hookshim-setup").glob("kubeconfig*"))

    pids = node.pids()
    done = node.setup("install")
    assert done.returncode == 0, done.stdout + done.stderr
    assert node.pids() == pids

    # The package's own removal would take the runtime away from under the kubelet.
    refused = node.system.try_run("dpkg", "--remove", "hookshim")
    assert refused.returncode != 0
    assert f"the kubelet (pid {pids[0]}) uses /run/hookshim/hookshim.sock" in refused.stderr
    assert node.pids() == pids

    done = node.setup("uninstall")
    assert done.returncode == 0, done.stdout + done.stderr
    assert node.command_line().split()[-1] == "--node-ip=10.0.0.1"
    assert DIRECT in node.command_line()
    assert node.system.try_run("systemctl", "is-active", "hookshim").stdout.strip() == "inactive"
    assert (node.system / "var/lib/hookshim/journal.db").exists()

    assert node.setup("uninstall").returncode == 0
    assert node.system.try_run("sh", "/hookshim/node-setup", "uninstall", "--purge").returncode == 0
    assert sorted(node.files() - before) == []
    assert not (node.system / "var/lib/hookshim").exists()
    status = cri.status(container)
    assert (status.started_at, status.finished_at) == (started, 0)


def test_a_kubelet_that_does_not_come_up_gets_its_runtime_back(installed: Node) -> None:
    """It is told loudly, and the node works as before."""
    refused = installed.system / "etc/kubelet-refuses"
    refused.write_text(THROUGH)
    done = installed.setup("install")
    assert done.returncode == 1
    assert "it is pointed at containerd again, and up" in done.stderr
    assert THROUGH not in installed.command_line()
    assert not (installed.system / "etc/systemd/system/kubelet.service.d/90-hookshim.conf").exists()
    refused.unlink()


def test_a_hookshim_that_does_not_serve_gets_no_kubelet(installed: Node) -> None:
    """Its containerd is not there: why is said, and the kubelet is not touched."""
    system = installed.system
    (system / "etc/hookshim/config.toml").write_text('containerd = "/run/nobody.sock"\n')
    system.run("systemctl", "--no-block", "restart", "hookshim")
    until(lambda: "nobody.sock" in system.property("hookshim", "StatusText"), "hookshim waits for containerd")
    # What another test has left: a change of it would start hookshim again, whose status is then not there yet.
    (system / "etc/systemd/system/hookshim.service.d/50-events.conf").unlink(missing_ok=True)
    kubelet = installed.pids()[0]
    done = system.try_run("env", "NODE_SETUP_SERVING=1", "/hookshim/node-setup", "install", installed.package)
    assert done.returncode == 1
    assert "hookshim does not serve: Not serving yet" in done.stderr
    assert "/run/nobody.sock" in done.stderr
    assert installed.pids()[0] == kubelet
    (system / "etc/hookshim/config.toml").unlink()
    system.run("systemctl", "restart", "hookshim")
