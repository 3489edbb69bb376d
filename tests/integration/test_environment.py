"""An exec hook sees what its container's own process sees, and what a plain ExecSync at containerd's socket sees.

Env, user, groups, capabilities, limits, directory, hostname, namespaces, cgroup and mounts are containerd's to make;
hookshim adds who it is that asks, and nothing else. The kubelet has resolved the downward API before CRI: its values
are env and files in mounts by then.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import MakeHookshim
from tests.differential.ways import field
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIClient
from tests.support.image import BUSYBOX, FOREVER, OPINIONATED
from tests.support.stage import KEY, exec_hook
from tests.support.waiting import until
from tests.wire import cri_pb2 as cri

#: Where the looks are written, in the container.
SEEN = "/seen"

#: Looks at the process that runs it and writes what it sees below SEEN, whole or not at all. The shell's own additions
#: to its environment are not in /proc.
LOOK = f"""set -e
to={SEEN}/$1; mkdir $to.new; p=/proc/$$
for what in environ limits cgroup mountinfo oom_score_adj; do cat $p/$what >$to.new/$what; done
grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp|Umask):' $p/status >$to.new/status
readlink $p/cwd >$to.new/cwd
readlink $p/root >$to.new/root
for space in $p/ns/*; do readlink $space; done >$to.new/namespaces
hostname >$to.new/hostname
mv $to.new $to"""

#: What an exec hook may have beyond its container's environment.
IDENTITY = {b"HOOKSHIM_DELIVERY", b"HOOKSHIM_ATTEMPT"}


#: Both hooks, whose names are also what their looks are called.
HOOKS = ("postStart", "preStop")


def look(name: str, then: str = "") -> list[str]:
    """The command that looks, calls what it saw ``name``, and goes on with ``then``, whose status is its own."""
    return ["sh", "-c", f"{LOOK}\n{then}", "sh", name]


def looking_hooks(then: str = "") -> str:
    """The declaration of both hooks."""
    return json.dumps({hook: exec_hook(look(hook, then)) for hook in HOOKS})


def looking_container() -> list[str]:
    """The command of a container that looks for itself and then waits for its TERM."""
    return look("itself", f"trap 'exit 0' TERM; sleep {FOREVER} & wait")


@dataclass(frozen=True, slots=True)
class Seen:
    """What one process saw, by what it looked at; ``environ`` in its order."""

    environ: list[bytes]
    rest: dict[str, str]

    @property
    def env(self) -> dict[str, str]:
        """The environment as a table."""
        return dict(each.decode().split("=", 1) for each in self.environ)

    def status(self, name: str) -> list[str]:
        """The words of a line of /proc/PID/status."""
        [line] = [line for line in self.rest["status"].splitlines() if line.startswith(f"{name}:")]
        return line.split()[1:]

    def mount(self, inside: str) -> str:
        """The options of the mount at this path of the container."""
        [options] = [line.split()[5] for line in self.rest["mountinfo"].splitlines() if line.split()[4] == inside]
        return options


class Theatre:
    """A pod, and one container in it that looks for itself, has looking hooks and is looked at directly."""

    def __init__(self, containerd: PrivateContainerd, daemon: CRIClient, directory: Path) -> None:
        self.containerd = containerd
        self.daemon = daemon
        self.directory = directory / "seen"
        self.directory.mkdir()
        self.directory.chmod(0o777)

    def request(self, pod: str, image: str, *security: bytes) -> cri.CreateContainerRequest:
        """A container with looking hooks; ``security`` are fields of its LinuxContainerSecurityContext."""
        request = self.daemon.container_request(
            pod,
            "c",
            looking_container(),
            image=image,
            annotations={KEY: looking_hooks()},
            mounts={self.directory: SEEN},
        )
        for more in security:
            request.config.linux.security_context.MergeFromString(more)
        return request

    def play(self, request: cri.CreateContainerRequest) -> dict[str, Seen]:
        """Start it and stop it through hookshim; what each saw: itself, postStart, preStop, and ``direct``."""
        container = create(self.daemon, request)
        self.daemon.start(container)
        self.wait_for("itself")
        answer = self.containerd.cri.exec_sync(container, look("direct"))
        assert (answer.exit_code, answer.stderr) == (0, b"")
        self.daemon.stop(container, grace=20)
        assert self.daemon.status(container).exit_code == 0
        return {name: self.seen(name) for name in (*HOOKS, "itself", "direct")}

    def wait_for(self, name: str) -> Seen:
        """What it saw, once it has looked."""
        until((self.directory / name).exists, f"{name} has looked")
        return self.seen(name)

    def seen(self, name: str) -> Seen:
        """What it saw. Raises FileNotFoundError if it never looked."""
        files = {file.name: file.read_bytes() for file in (self.directory / name).iterdir()}
        environ = files.pop("environ").removesuffix(b"\0").split(b"\0")
        return Seen(environ, {what: content.decode() for what, content in files.items()})


def create(client: CRIClient, request: cri.CreateContainerRequest) -> str:
    """CreateContainer as it is; the container's id."""
    return client.ask("CreateContainer", request, cri.CreateContainerResponse).container_id


def agreed(seen: dict[str, Seen]) -> Seen:
    """What all saw alike, but for the identity of an attempt in a hook's environment."""
    direct = seen["direct"]
    for name in HOOKS:
        hook = seen[name]
        kept = [each for each in hook.environ if each.partition(b"=")[0] not in IDENTITY]
        assert (name, kept) == (name, direct.environ)
        assert (name, hook.rest) == (name, direct.rest)
    assert seen["itself"] == direct
    return direct


@pytest.fixture
def theatre(any_containerd: PrivateContainerd, hookshim: MakeHookshim, tmp_path: Path) -> Theatre:
    """Behind a daemon, on every containerd of the run."""
    return Theatre(any_containerd, hookshim(any_containerd).cri, tmp_path)


def test_a_hook_has_the_environment_of_the_image_under_that_of_the_container(theatre: Theatre, pod_name: str) -> None:
    """The image's values stay, the container's come over them, and none is read as a shell or a config would."""
    given = {
        "OF_BOTH": "the container's",
        "POD_NAME": pod_name,
        "POD_IP": "10.1.2.3",
        "CPU_LIMIT": "2",
        "EMPTY": "",
        "LINES": "one\ntwo = $HOME $(POD_NAME) `id` é",
    }
    pod = theatre.daemon.run_pod(pod_name)
    request = theatre.request(pod, OPINIONATED)
    request.config.envs.extend(cri.KeyValue(key=key, value=value.encode()) for key, value in given.items())
    seen = agreed(theatre.play(request))
    expected = {"PATH": "/bin", "FROM_IMAGE": "kept", "HOSTNAME": pod_name, **given}
    assert {key: seen.env.get(key) for key in expected} == expected
    assert set(seen.env) - set(expected) <= {"HOME"}


@pytest.mark.parametrize(
    ("image", "security", "user", "group", "groups"),
    [
        pytest.param(BUSYBOX, [], "0", "0", {"0"}, id="root"),
        pytest.param(OPINIONATED, [], "1000", "1001", {"1001", "2000"}, id="image's own"),
        pytest.param(OPINIONATED, [field(5, field(1, 65534))], "65534", "65534", {"65534"}, id="run_as_user"),
        pytest.param(
            OPINIONATED,
            [field(5, field(1, 4321)), field(12, field(1, 3000))],
            "4321",
            "3000",
            {"3000"},
            id="run_as_user and run_as_group",
        ),
        pytest.param(BUSYBOX, [field(6, "app")], "1000", "1001", {"1001", "2000"}, id="run_as_username"),
        pytest.param(
            BUSYBOX,
            [field(5, field(1, 1000)), field(8, 5000), field(8, 6000)],
            "1000",
            "1001",
            {"1001", "2000", "5000", "6000"},
            id="fs group",
        ),
    ],
)
def test_a_hook_runs_as_its_containers_user_in_its_groups(
    theatre: Theatre, pod_name: str, image: str, security: list[bytes], user: str, group: str, groups: set[str]
) -> None:
    """Whoever says which: the image, its /etc/passwd and /etc/group, or the pod, whose fsGroup is a group more."""
    seen = agreed(theatre.play(theatre.request(theatre.daemon.run_pod(pod_name), image, *security)))
    if not security and theatre.containerd.version.startswith("1.6."):
        # this one asks /etc/group only for a user whom the pod names, as the kubelet always does
        groups = groups - {"2000"}
    assert seen.status("Uid") == [user] * 4
    assert seen.status("Gid") == [group] * 4
    assert set(seen.status("Groups")) | {group} == groups


def test_a_hook_has_what_its_container_may_and_not_more(theatre: Theatre, pod_name: str) -> None:
    """A dropped capability, a root that cannot be written to and no-new-privileges hold for hooks too."""
    drop_all = field(1, field(2, "ALL"))
    request = theatre.request(theatre.daemon.run_pod(pod_name), BUSYBOX, drop_all, field(7, 1), field(11, 1))
    seen = agreed(theatre.play(request))
    assert {int(seen.status(name)[0], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert seen.status("NoNewPrivs") == ["1"]
    assert "ro" in seen.mount("/").split(",")


@pytest.mark.parametrize(
    ("image", "working_dir", "directory"),
    [(OPINIONATED, "", "/home/app"), (OPINIONATED, "/tmp", "/tmp"), (BUSYBOX, "", "/")],
)
def test_a_hook_begins_in_its_containers_directory(
    theatre: Theatre, pod_name: str, image: str, working_dir: str, directory: str
) -> None:
    """The image's, unless the container has another."""
    request = theatre.request(theatre.daemon.run_pod(pod_name), image)
    request.config.working_dir = working_dir
    assert agreed(theatre.play(request)).rest["cwd"] == f"{directory}\n"


def test_a_hook_has_its_pods_hostname(theatre: Theatre, pod_name: str) -> None:
    """As the kernel and the environment say it, which is not the node's."""
    seen = agreed(theatre.play(theatre.request(theatre.daemon.run_pod(pod_name), BUSYBOX)))
    assert seen.rest["hostname"] == f"{pod_name}\n"
    assert seen.env["HOSTNAME"] == pod_name


def test_a_hook_in_a_pod_on_the_hosts_network_has_the_nodes_hostname(theatre: Theatre, pod_name: str) -> None:
    """There a pod has no name of its own."""
    pod = theatre.daemon.run_pod(pod_name, host_network=True)
    seen = agreed(theatre.play(theatre.request(pod, BUSYBOX)))
    assert seen.rest["hostname"] == f"{socket.gethostname()}\n"
    assert f"{Path('/proc/self/ns/net').readlink()}\n" in seen.rest["namespaces"]


def test_a_hook_of_a_container_with_a_terminal_has_its_environment_and_no_terminal(
    theatre: Theatre, pod_name: str
) -> None:
    """TERM is the container's, for hooks too; but a hook's input and output are files or pipes, as ExecSync's are."""
    request = theatre.request(theatre.daemon.run_pod(pod_name), BUSYBOX)
    request.config.tty = True
    fds = f"for fd in 0 1 2; do [ ! -t $fd ] || echo $1 $fd >>{SEEN}/terminals; done; touch {SEEN}/terminals"
    request.config.annotations[KEY] = looking_hooks(fds)
    seen = agreed(theatre.play(request))
    assert seen.env["TERM"] == "xterm"
    assert (theatre.directory / "terminals").read_text() == ""


def test_a_hook_reads_the_downward_apis_files_and_cannot_write_where_its_container_cannot(
    theatre: Theatre, pod_name: str, tmp_path: Path
) -> None:
    """A volume is one volume: what the kubelet writes into it later is there for PreStop as for everybody."""
    volume = tmp_path / "podinfo"
    volume.mkdir()
    (volume / "labels").write_text('app="web"\n')
    request = theatre.request(theatre.daemon.run_pod(pod_name), BUSYBOX)
    request.config.mounts.append(cri.Mount(host_path=str(volume), container_path="/podinfo", readonly=True))
    request.config.annotations[KEY] = looking_hooks(f"cat /podinfo/labels >>{SEEN}/labels; ! echo no >/podinfo/labels")
    container = create(theatre.daemon, request)
    theatre.daemon.start(container)
    theatre.wait_for("itself")
    (volume / "labels").write_text('app="web2"\n')
    theatre.daemon.stop(container, grace=20)
    assert (theatre.directory / "labels").read_text() == 'app="web"\napp="web2"\n'
    assert (volume / "labels").read_text() == 'app="web2"\n'
    assert "ro" in theatre.seen("preStop").mount("/podinfo").split(",")
    assert "rw" in theatre.seen("preStop").mount(SEEN).split(",")


def test_a_container_made_through_hookshim_sees_what_one_made_directly_sees(
    theatre: Theatre, pod_name: str, tmp_path: Path
) -> None:
    """The same requests make the same environment; what is each pod's own is left out."""
    seen = {}
    for client, name in ((theatre.daemon, "through"), (theatre.containerd.cri, "direct")):
        (tmp_path / name).mkdir()
        each = Theatre(theatre.containerd, client, tmp_path / name)
        request = each.request(client.run_pod(pod_name, uid=name), OPINIONATED, field(8, 5000))
        request.config.envs.add(key="GIVEN", value=b"yes")
        client.start(create(client, request))
        seen[name] = each.wait_for("itself")
    assert seen["through"].environ == seen["direct"].environ
    for what in ("limits", "status", "cwd", "root", "hostname", "oom_score_adj"):
        assert seen["through"].rest[what] == seen["direct"].rest[what]
