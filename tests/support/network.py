"""A network for one private containerd's pods: its own bridge and subnet, so that instances live beside each other.

The bridge is made here and not by the CNI plugin: creating it is what claims the subnet among all test runs, and the
plugin as a gateway would switch on the machine's IP forwarding.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

#: Two octets that private networks seldom use, a bridge per third octet.
_PREFIX = "10.213"

#: Every address that a bridge or a pod of the tests may have.
EVERY_SUBNET = f"{_PREFIX}.0.0/16"

#: Where Debian's containernetworking-plugins and the upstream archive put the plugins.
PLUGIN_DIRS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))

#: Where libcni keeps its results, whoever it runs in (an older one in the second); names begin with the network's.
_RESULT_DIRS = (Path("/var/lib/cni/results"), Path("/var/lib/cni/cache/results"))


def plugin_dir() -> Path:
    """Where the CNI plugins are. Raises FileNotFoundError."""
    for directory in PLUGIN_DIRS:
        if (directory / "bridge").exists():
            return directory
    raise FileNotFoundError("the CNI plugins are missing: hack/test installs them (containernetworking-plugins)")


class Bridge:
    """A bridge on the node, taken by claim() and given back by remove()."""

    def __init__(self, number: int) -> None:
        self.name = f"hookshim{number}"
        self.subnet = f"{_PREFIX}.{number}.0/24"
        self.gateway = f"{_PREFIX}.{number}.1"
        self._index = 0

    @classmethod
    def claim(cls) -> Self:
        """The first one that nobody has. Raises RuntimeError if there is none left or bridges cannot be made."""
        refusals = []
        for number in range(256):
            bridge = cls(number)
            if _ip("-4", "route", "show", "root", bridge.subnet).stdout:
                continue
            made = _ip("link", "add", bridge.name, "type", "bridge")
            if made.returncode == 0:
                for command in (
                    ("addr", "add", f"{bridge.gateway}/24", "dev", bridge.name),
                    ("link", "set", bridge.name, "up"),
                ):
                    _ip(*command).check_returncode()
                bridge._index = socket.if_nametoindex(bridge.name)
                return bridge
            refusals.append(made.stderr.strip())
            if "exists" not in made.stderr:
                break
        raise RuntimeError(f"no bridge for the pods: {refusals[-1] if refusals else 'all subnets are in use'}")

    def write_config(self, conf_dir: Path, data_dir: Path) -> None:
        """Write the network's CNI configuration; addresses are recorded under ``data_dir``."""
        plugins = [
            {
                "type": "bridge",
                "bridge": self.name,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": self.subnet, "gateway": self.gateway}]],
                    "dataDir": str(data_dir),
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ]
        conf_dir.mkdir(parents=True, exist_ok=True)
        network = {"cniVersion": "0.4.0", "name": self.name, "plugins": plugins}
        (conf_dir / "10-bridge.conflist").write_text(json.dumps(network))

    @property
    def exists(self) -> bool:
        """Whether this very bridge is there: another run may have taken the name since it was given back."""
        try:
            return socket.if_nametoindex(self.name) == self._index
        except OSError:
            return False

    @property
    def results(self) -> list[Path]:
        """What libcni remembers of this network's pods, for as long as the name is this network's."""
        return [path for directory in _RESULT_DIRS for path in directory.glob(f"{self.name}-*") if self.exists]

    def remove(self) -> None:
        """Take the bridge away, with what libcni remembers of it."""
        for path in self.results:
            path.unlink(missing_ok=True)
        if self.exists:
            _ip("link", "delete", self.name).check_returncode()


@contextmanager
def node_address() -> Iterator[str]:
    """An address of the node that is neither loopback's nor a pod's: for servers that hooks call."""
    bridge = Bridge.claim()
    try:
        yield bridge.gateway
    finally:
        bridge.remove()


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True, timeout=30)
