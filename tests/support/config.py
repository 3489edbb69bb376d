"""The configuration of a private containerd: version 2 for containerd 1.x, version 3 for 2.x."""

from __future__ import annotations

from pathlib import Path

#: What both versions share. Two options are for machines that give less than a laptop: without CAP_SYS_RESOURCE runc
#: fails on the sandbox's negative OOM score, and not every kernel has AppArmor.
_DAEMON = """\
root = "{d}/root"
state = "{d}/state"

[grpc]
address = "{socket}"

[ttrpc]
address = "{socket}.ttrpc"

[plugins."io.containerd.internal.v1.opt"]
path = "{d}/opt"

[plugins."io.containerd.nri.v1.nri"]
disable = true
"""

_CRI_1 = """\
version = 2
{daemon}
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni}"
conf_dir = "{d}/cni"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{d}/runc"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{d}/certs.d"
"""

_CRI_2 = """\
version = 3
{daemon}
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{cni}"]
conf_dir = "{d}/cni"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
Root = "{d}/runc"

[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"

[plugins."io.containerd.cri.v1.images".registry]
config_path = "{d}/certs.d"

[plugins."io.containerd.grpc.v1.cri"]
stream_server_address = "127.0.0.1"
stream_server_port = "0"
"""


def containerd_config(version: str, directory: Path, socket: Path, cni: Path, pause: str) -> str:
    """The TOML for containerd ``version`` (as ``1.6.20``) with everything it owns below ``directory``."""
    daemon = _DAEMON.format(d=directory, socket=socket)
    cri = _CRI_1 if version.startswith("1.") else _CRI_2
    return cri.format(daemon=daemon, d=directory, cni=cni, pause=pause)
