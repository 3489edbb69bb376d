"""The bed itself is sound: pods run, the node reaches them, a killed containerd comes back, nothing stays behind."""

from __future__ import annotations

import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError
from tests.support.image import FOREVER
from tests.support.receiver import Behaviour, Receiver
from tests.support.signals import SignalLog, logging_container, logging_hook, now
from tests.support.waiting import until
from tests.wire import cri_pb2 as cri

SLEEP = ["sleep", FOREVER]


def run(containerd: PrivateContainerd, name: str, command: list[str], log: SignalLog | None = None) -> str:
    """Run a pod with one container; the container's id."""
    pod = containerd.cri.run_pod(name)
    container = containerd.cri.create(pod, "main", command, mounts=log.mounts if log else {})
    containerd.cri.start(container)
    return container


def get(url: str) -> tuple[int, str]:
    """The status and the body that a GET from the node is answered with; 0 if nobody does."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except urllib.error.URLError:
        return 0, ""


def test_a_pod_runs_to_ready(any_containerd: PrivateContainerd, pod_name: str) -> None:
    """A pod is ready, has an address of its own, and keeps the name and annotations it was given."""
    pod = any_containerd.cri.run_pod(pod_name, annotations={"a": "b"}, namespace="space", uid="some-uid")
    status = any_containerd.cri.pod_status(pod)
    assert status.state == cri.PodSandboxState.SANDBOX_READY
    assert (status.metadata.name, status.metadata.namespace, status.metadata.uid) == (pod_name, "space", "some-uid")
    assert dict(status.annotations) == {"a": "b"}
    assert status.network.ip.startswith("10.")


def test_a_pod_on_the_hosts_network_has_no_address_of_its_own(any_containerd: PrivateContainerd, pod_name: str) -> None:
    """A host network pod runs, its status says so, and it has no address."""
    pod = any_containerd.cri.run_pod(pod_name, host_network=True)
    status = any_containerd.cri.pod_status(pod)
    assert status.state == cri.PodSandboxState.SANDBOX_READY
    assert status.linux.namespaces.options.network == cri.NamespaceMode.NODE
    assert status.network.ip == ""


def test_a_container_writes_to_a_mount(any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path) -> None:
    """A directory of the node is the container's too."""
    pod = any_containerd.cri.run_pod(pod_name)
    command = ["sh", "-c", "echo written >/mnt/file"]
    container = any_containerd.cri.create(pod, "writer", command, mounts={tmp_path: "/mnt"})
    any_containerd.cri.start(container)
    until(lambda: any_containerd.cri.state(container) == "CONTAINER_EXITED", "the container has ended")
    assert any_containerd.cri.status(container).exit_code == 0
    assert (tmp_path / "file").read_text() == "written\n"


def test_exec_sync_answers_output_and_exit_status(any_containerd: PrivateContainerd, pod_name: str) -> None:
    """A command in a container has its output and exit status answered, and the container's command is PID 1."""
    container = run(any_containerd, pod_name, SLEEP)
    answer = any_containerd.cri.exec_sync(container, ["sh", "-c", "cat /proc/1/cmdline; echo err >&2; exit 3"])
    assert answer.stdout.split(b"\0")[:1] == [b"sleep"]
    assert answer.stderr == b"err\n"
    assert answer.exit_code == 3


def test_the_node_reaches_a_container_by_http_at_the_pods_address(
    any_containerd: PrivateContainerd, pod_name: str
) -> None:
    """A web server in a pod answers the node at the pod's address."""
    script = "mkdir /www; echo hello >/www/index.html; exec httpd -f -p 8080 -h /www"
    container = run(any_containerd, pod_name, ["sh", "-c", script])
    pod = any_containerd.cri.list()[0].pod_sandbox_id
    url = f"http://{any_containerd.cri.pod_ip(pod)}:8080/index.html"
    assert until(lambda: get(url)[0] and get(url), f"{url} answers") == (200, "hello\n")
    assert any_containerd.cri.state(container) == "CONTAINER_RUNNING"


def test_an_unknown_container_is_a_cri_error(any_containerd: PrivateContainerd) -> None:
    """The client raises what the runtime answers, with its code and text."""
    with pytest.raises(CRIError, match="nobody") as raised:
        any_containerd.cri.status("nobody")
    assert raised.value.code is grpc.StatusCode.NOT_FOUND


def test_a_container_logs_started_term_and_finished(
    any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path
) -> None:
    """The sequence of a stop is seen from inside, with times of the node's clock, hooks in the same file."""
    log = SignalLog(tmp_path)
    container = run(any_containerd, pod_name, logging_container(finish_seconds=0.2), log)
    log.wait_for("started")
    assert any_containerd.cri.exec_sync(container, logging_hook("hook", exit_status=4)).exit_code == 4
    before = now()
    any_containerd.cri.stop(container, 60)
    assert log.words() == ["started", "hook begins", "hook ends", "TERM", "finished"]
    assert before - 0.02 <= log.wait_for("TERM").at <= log.wait_for("finished").at <= now()
    assert any_containerd.cri.status(container).exit_code == 0


def test_a_container_that_ignores_term_is_killed(
    any_containerd: PrivateContainerd, pod_name: str, tmp_path: Path
) -> None:
    """It logs TERM, goes on, and is ended by KILL when the grace is over."""
    log = SignalLog(tmp_path)
    container = run(any_containerd, pod_name, logging_container(ignores_term=True), log)
    log.wait_for("started")
    # time enough to log on a busy machine, since KILL cannot be logged
    any_containerd.cri.stop(container, 3)
    assert log.words() == ["started", "TERM"]
    assert any_containerd.cri.status(container).exit_code == 128 + signal.SIGKILL


def test_a_container_outlives_containerd(own_containerd: PrivateContainerd, pod_name: str) -> None:
    """Containerd is killed and started again; the container runs on, as the same process."""
    container = run(own_containerd, pod_name, SLEEP)
    started, pid = own_containerd.cri.status(container).started_at, own_containerd.pid
    own_containerd.kill()
    with pytest.raises(CRIError) as raised:
        own_containerd.cri.state(container)
    assert raised.value.code is grpc.StatusCode.UNAVAILABLE
    own_containerd.launch()
    assert own_containerd.pid != pid
    assert own_containerd.cri.state(container) == "CONTAINER_RUNNING"
    assert own_containerd.cri.status(container).started_at == started
    own_containerd.cri.stop(container, 0)
    assert own_containerd.cri.state(container) == "CONTAINER_EXITED"


def test_everything_ended_leaves_nothing_behind(own_containerd: PrivateContainerd, pod_name: str) -> None:
    """Processes, mounts, network namespaces, cgroups, sockets and the bridge are there, and are gone after end()."""
    run(own_containerd, pod_name, SLEEP)
    seen = own_containerd.traces()
    kinds = {line.split()[0] for line in own_containerd.leftovers(seen)}
    assert kinds == {"process", "mount", "socket", "cgroup", "bridge", "CNI", "directory"}
    assert any("/netns/" in line for line in own_containerd.leftovers(seen))
    own_containerd.end()
    assert own_containerd.leftovers(seen) == []


def test_a_container_without_its_shim_is_ended_too(own_containerd: PrivateContainerd, pod_name: str) -> None:
    """With containerd and its shims killed, end() still ends the containers' processes and leaves nothing."""
    run(own_containerd, pod_name, SLEEP)
    seen = own_containerd.traces()
    own_containerd.kill()
    for line in own_containerd.leftovers(seen):
        if "containerd-shim" in line:
            os.kill(int(line.split()[1].rstrip(":")), signal.SIGKILL)
    assert any(" sleep " in line for line in own_containerd.leftovers(seen))
    own_containerd.end()
    assert own_containerd.leftovers(seen) == []


def test_two_containerds_live_beside_each_other(
    containerd: PrivateContainerd, new_containerd: Callable[..., PrivateContainerd], pod_name: str
) -> None:
    """Two instances run pods of the same name in networks of their own, and the end of one leaves the other alone."""
    other = new_containerd()
    container = run(containerd, pod_name, SLEEP)
    run(other, pod_name, SLEEP)
    mine, others = (each.cri.pod_ip(each.cri.list()[0].pod_sandbox_id) for each in (containerd, other))
    assert mine.rsplit(".", 1)[0] != others.rsplit(".", 1)[0]
    other.end()
    assert containerd.cri.state(container) == "CONTAINER_RUNNING"


def test_hookshim_serves_is_killed_and_serves_again(any_containerd: PrivateContainerd, hookshim: MakeHookshim) -> None:
    """The daemon is a process that answers as containerd does, dies of SIGKILL, starts again, and ends at SIGTERM."""
    daemon = hookshim(any_containerd)
    assert daemon.cri.version() == any_containerd.cri.version()
    assert daemon.deliveries() == []
    first = daemon.pid
    daemon.kill()
    assert daemon.exit_status == -signal.SIGKILL
    daemon.start()
    assert daemon.pid != first
    assert daemon.cri.version() == any_containerd.cri.version()
    assert daemon.terminate() == 0


def test_a_daemon_that_does_not_start_shows_its_log(containerd: PrivateContainerd, hookshim: MakeHookshim) -> None:
    """A wrong option ends the daemon; the wait for it fails at once and says what the daemon said."""
    with pytest.raises(RuntimeError, match="--no-such-option"):
        hookshim(containerd, options=["--no-such-option"])


def test_a_receiver_records_requests_and_answers_as_told(receiver: Receiver) -> None:
    """Every request is there with its path and headers, and is answered with the status that was set."""
    receiver.behave("/sad", Behaviour(status=503, body=b"no"))
    url = f"http://{receiver.host}:{receiver.port}"
    assert get(f"{url}/glad?q=1") == (200, "ok")
    assert get(f"{url}/sad") == (503, "no")
    assert [request.path for request in receiver.requests] == ["/glad?q=1", "/sad"]
    assert receiver.requests[0].header("host") == f"{receiver.host}:{receiver.port}"


def test_a_receiver_hangs_until_released(receiver: Receiver) -> None:
    """A request is recorded when it comes, but not answered before it is released."""
    release = receiver.hang("/slow")
    answers: list[tuple[int, str]] = []
    url = f"http://{receiver.host}:{receiver.port}/slow"
    caller = threading.Thread(target=lambda: answers.append(get(url)))
    caller.start()
    receiver.wait_for("/slow")
    assert answers == []
    release.set()
    caller.join()
    assert answers == [(200, "ok")]
