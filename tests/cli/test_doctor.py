"""What the doctor finds, check by check, on nodes that have each illness."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest

from server.doctor import Finding, Host, Verdict, kubelet, sockets, state
from server.doctor.finding import ok, run
from server.doctor.others import http_listener, kubeconfig
from shim.changes import InsertEvent
from shim.store import FILE, VERSION, Store, set_aside
from tests.cli.bed import STARTED, TOLD, WAITING, commit, write
from tests.cli.node import healthy, served, settings
from tests.cli.node import kubelet as node_with_kubelet
from tests.support.waiting import PATIENCE
from tests.unit.cli_bed import content
from tests.unit.records import write_version_1
from tests.unit.rules_bed import RULE, hooks_directory, put
from tests.wire import cri_pb2 as cri

HERE = Host()
OK, WARNING, PROBLEM = Verdict.OK, Verdict.WARNING, Verdict.PROBLEM

KUBECONFIG = "clusters: [{}]\nusers: [{user: {token: sesame}}]\ncontexts: [{}]\ncurrent-context: a\n"


def only(found: Iterable[Finding], verdict: Verdict, text: str) -> Finding:
    """The one finding, which is that; all but good ones say what to do."""
    [finding] = list(found)
    assert finding.verdict is verdict, finding
    assert text in finding.text
    assert bool(finding.advice) is (verdict is not OK)
    return finding


def test_a_check_that_hangs_or_breaks_is_a_finding_and_keeps_no_other_from_being_heard() -> None:
    """In the order of the checks, and no later than the deadline."""
    never = threading.Event()

    def hangs() -> Iterable[Finding]:
        never.wait()
        return []

    def breaks() -> Iterable[Finding]:
        raise KeyError("oops")

    def refuses() -> Iterable[Finding]:
        raise PermissionError(13, "Permission denied", "/etc/shadow")

    began = time.monotonic()
    checks = [("a", hangs), ("b", breaks), ("c", refuses), ("d", lambda: [ok("d", "well")])]
    found = run(checks, deadline=0.3)
    assert time.monotonic() - began < 10
    assert [(one.check, one.verdict) for one in found] == [("a", PROBLEM), ("b", PROBLEM), ("c", PROBLEM), ("d", OK)]
    assert [one.text for one in found[:3]] == [
        "no answer within 0.3 s",
        "cannot be looked at: KeyError: 'oops'",
        "/etc/shadow: permission denied",
    ]
    assert found[2].advice == "run hookshim doctor as root"
    never.set()


def test_a_disk_that_never_answers_keeps_the_doctor_no_longer_than_its_deadline(tmp_path: Path) -> None:
    """The process ends too, with threads in it that never come back: here the journal is a pipe that nobody opens."""
    (tmp_path / "state").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "state" / FILE)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from server import config\n"
        "from server.doctor import Host, examine\n"
        "place = Path(sys.argv[1])\n"
        "options = {'state_dir': str(place / 'state'), 'hooks_dir': str(place / 'hooks.d')}\n"
        "for one in examine(lambda: config.load(None, {}, options, place / 'none.toml'), Host(), 1.0):\n"
        "    print(one.check, one.text, sep=': ')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert "journal: no answer within 1 s" in done.stdout.splitlines()
    assert any(line.startswith("state directory: ") and "mode 0700" in line for line in done.stdout.splitlines())


def test_a_containerd_that_is_well_is_named_with_its_version(tmp_path: Path) -> None:
    """Its own words; both lines are good."""
    config = settings(tmp_path)
    with served(config.containerd, healthy):
        version, plugin = sockets.containerd(config)
    assert (version.verdict, plugin.verdict) == (OK, OK)
    assert version.text == f"{config.containerd} answers: containerd 1.6.20, CRI v1"
    assert plugin.text == "RuntimeReady, NetworkReady"


def test_each_illness_of_containerd_is_told_from_the_others(tmp_path: Path) -> None:
    """Not there, left behind, without CRI, without a network, open to everybody."""
    config = settings(tmp_path)

    def no_cri(_: str, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown service runtime.v1.RuntimeService")
        raise AssertionError

    def no_network(method: str, context: grpc.ServicerContext) -> bytes:
        if method.endswith("/Version"):
            return healthy(method, context)
        bad = cri.RuntimeCondition(type="NetworkReady", reason="NetworkPluginNotReady", message="no config")
        return cri.StatusResponse(status=cri.RuntimeStatus(conditions=[bad])).SerializeToString()

    only(sockets.containerd(config), PROBLEM, "is not there")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(config.containerd))
    config.containerd.chmod(0o660)
    only(sockets.containerd(config), PROBLEM, "nobody listens at")
    config.containerd.unlink()
    with served(config.containerd, no_cri):
        found = only(sockets.containerd(config), PROBLEM, "knows no CRI")
    assert "disabled_plugins" in found.advice
    with served(config.containerd, no_network):
        _, finding = sockets.containerd(config)
    assert (finding.verdict, finding.text) == (WARNING, "NetworkReady is false: NetworkPluginNotReady: no config")
    with served(config.containerd, healthy):
        config.containerd.chmod(0o666)
        finding, *_ = sockets.containerd(config)
    assert (finding.verdict, finding.advice.split(",")[0]) == (PROBLEM, f"chmod 0660 {config.containerd}")


def test_a_socket_that_takes_a_connection_and_says_nothing_is_given_up(tmp_path: Path) -> None:
    """As of a containerd that is stopped (SIGSTOP)."""
    config = settings(tmp_path)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(config.containerd))
        config.containerd.chmod(0o660)
        mute.listen()
        only(sockets.containerd(config), PROBLEM, "does not answer within 3 s")


def test_a_socket_is_hookshims_only_if_the_process_that_has_the_state_directory_serves_it(tmp_path: Path) -> None:
    """Told by the kernel, not by what the other side says of itself."""
    config = settings(tmp_path)
    only(sockets.own(config, HERE), PROBLEM, "is not there: hookshim does not run")
    only(sockets.admin(config), WARNING, "retry, skip and hooks show cannot be asked for")
    config.state_dir.mkdir(mode=0o700)
    lock = config.state_dir / "hookshim.lock"
    with served(config.listen, healthy):
        only(sockets.own(config, HERE), WARNING, f"is served by pid {os.getpid()} (")
        lock.write_text(f'{{"pid": {os.getpid()}}}\n')
        only(sockets.own(config, HERE), OK, f"is served by hookshim (pid {os.getpid()}), in front of containerd")
        lock.write_text('{"pid": 1}\n')
        only(sockets.own(config, HERE), PROBLEM, f"not by the hookshim of {config.state_dir} (pid 1)")


def test_a_daemon_that_lets_nothing_in_says_why(tmp_path: Path) -> None:
    """Its own words, as its callers get them."""
    config = settings(tmp_path)

    def starting(_: str, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.UNAVAILABLE, "hookshim does not serve yet: starting")
        raise AssertionError

    with served(config.listen, starting):
        only(sockets.own(config, HERE), PROBLEM, "answers UNAVAILABLE: hookshim does not serve yet: starting")


def test_the_state_directory_has_to_be_root_s_alone(tmp_path: Path) -> None:
    """What handlers have said is in it."""
    state_dir = tmp_path / "state"
    only(state.directory(state_dir), OK, "is not there yet")
    state_dir.mkdir(mode=0o700)
    only(state.directory(state_dir), OK, "mode 0700")
    state_dir.chmod(0o755)
    found = only(state.directory(state_dir), PROBLEM, "has mode 0755")
    assert found.advice == f"chmod 0700 {state_dir}"
    state_dir.chmod(0o700)
    os.chown(state_dir, 65534, -1)
    only(state.directory(state_dir), PROBLEM, "belongs to user 65534")
    only(state.space(tmp_path / "not" / "there"), OK, "MiB are free")


def test_a_journal_is_whole_or_damaged_or_set_aside(tmp_path: Path) -> None:
    """SQLite's own check of every page, not only that the file opens."""
    state_dir = write(tmp_path / "state")
    path = state_dir / FILE
    only(state.journal(state_dir), OK, f"{path} is whole, version ")
    only(state.aside(state_dir), OK, "none")
    data = bytearray(path.read_bytes())
    data[-4096:] = b"\xa5" * 4096
    path.write_bytes(data)
    only(state.journal(state_dir), PROBLEM, "is damaged: ")
    set_aside(path, "corrupt-1")
    only(state.aside(state_dir), WARNING, f"1, the newest is {path}.corrupt-1")
    only(state.journal(state_dir), OK, "is not there yet")


def test_an_older_journal_is_whole_too_and_left_as_it_is(tmp_path: Path) -> None:
    """Bringing it up to date is its daemon's to do."""
    write_version_1(tmp_path / FILE)
    before = content(tmp_path)
    only(state.journal(tmp_path), OK, f"is whole, not of version {VERSION} yet")
    assert content(tmp_path) == before


def test_what_waits_for_long_is_worth_a_look(tmp_path: Path) -> None:
    """With the commands that show it and end it."""

    class Later(Host):
        """A node some time after the journal was written."""

        def now(self) -> float:
            return WAITING.created_at + 7200

    state_dir = write(tmp_path / "state")
    found = only(state.oldest(state_dir, Later()), WARNING, f"{WAITING.id}, pending, for 2:00:00, tried again at ")
    assert f"hookshim deliveries show {WAITING.id}" in found.advice
    only(state.oldest(tmp_path / "none", HERE), OK, "none is open")


def test_a_clock_that_went_back_is_noticed_by_the_journal(tmp_path: Path) -> None:
    """Retention and postStop go by the wall clock."""
    state_dir = write(tmp_path / "state")
    with closing(Store.open(state_dir / FILE)) as store:
        commit(store, (InsertEvent(replace(TOLD, at=time.time() + 7200)),))
    finding, *_ = state.clock(state_dir, HERE)
    assert finding.verdict is PROBLEM
    assert "the journal's newest record is " in finding.text


@pytest.mark.parametrize(
    ("argv", "config_file", "verdict", "text"),
    [
        (["/usr/bin/kubelet", "--container-runtime-endpoint=unix://LISTEN"], None, OK, "calls hookshim at"),
        (["kubelet", "--container-runtime-endpoint", "LISTEN", "--v=2"], None, OK, "calls hookshim at"),
        (["kubelet", "--config=/etc/k.yaml"], "containerRuntimeEndpoint: unix://LISTEN\n", OK, "calls hookshim at"),
        (
            ["kubelet", "--config", "/etc/k.yaml"],
            "containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n",
            WARNING,
            "calls unix:///run/containerd/containerd.sock",
        ),
        (
            ["kubelet", "--config=/etc/k.yaml", "--container-runtime-endpoint=unix:///other.sock"],
            "containerRuntimeEndpoint: unix://LISTEN\n",
            WARNING,
            "calls unix:///other.sock",
        ),
        (["kubelet"], None, WARNING, "names no container runtime endpoint"),
        (["k3s", "server", "--container-runtime-endpoint=LISTEN"], None, OK, "calls hookshim at"),
    ],
)
def test_a_kubelet_is_asked_whom_it_calls(
    tmp_path: Path, argv: list[str], config_file: str | None, verdict: Verdict, text: str
) -> None:
    """By its flags, else its file; a flag wins, as in the kubelet."""
    config = settings(tmp_path)
    files = {} if config_file is None else {"/etc/k.yaml": config_file.replace("LISTEN", str(config.listen))}
    words = [word.replace("LISTEN", str(config.listen)) for word in argv]
    finding, timeouts = kubelet.kubelet(config, Host(node_with_kubelet(tmp_path / "root", words, files)))
    assert (finding.verdict, timeouts.verdict) == (verdict, OK)
    assert text in finding.text
    assert "waits 120 s for an answer" in timeouts.text


def test_a_kubelet_that_waits_less_than_a_hook_may_take_is_told_of(tmp_path: Path) -> None:
    """Of the rules and of what the journal has seen; a file of --config-dir wins over --config."""
    write(tmp_path / "state")
    directory = hooks_directory(tmp_path)
    rule = 'when = ["postStart"]\n[[handlers]]\nrun = { command = ["/bin/true"] }\ntimeoutSeconds = 90\n'
    put(directory / "10-slow.toml", rule)
    put(directory / "20-quick.toml", rule.replace("90", "5"))
    argv = ["kubelet", "--config=/etc/k.yaml", "--config-dir=/etc/k.d"]
    files = {
        "/etc/k.yaml": "runtimeRequestTimeout: 1h1m1.5s\n",
        "/etc/k.d/10.conf": "runtimeRequestTimeout: 10s\n",
        "/etc/k.d/README": "runtimeRequestTimeout: no duration\n",
    }
    config, host = settings(tmp_path), Host(node_with_kubelet(tmp_path / "root", argv, files))
    _, timeouts = kubelet.kubelet(config, host)
    assert timeouts.verdict is WARNING
    assert timeouts.text == (
        "pid 77 waits 10 s for an answer (runtimeRequestTimeout), and a PostStart may take longer: "
        "rule 10-slow (90 s), run [/usr/local/bin/register] (10 s)"
    )
    assert STARTED.handler.count("register") == 1
    (tmp_path / "root/etc/k.d/10.conf").unlink()
    _, timeouts = kubelet.kubelet(config, host)
    assert (timeouts.verdict, timeouts.text) == (OK, "pid 77 waits 3661.5 s for an answer (runtimeRequestTimeout)")


@pytest.mark.parametrize("text", ["a: [", "- a list\n", "runtimeRequestTimeout: soon\n", None])
def test_a_kubelets_file_that_cannot_be_read_is_no_reason_to_end(tmp_path: Path, text: str | None) -> None:
    """It may be in a file system that is not seen from here."""
    files = {} if text is None else {"/etc/k.yaml": text}
    root = node_with_kubelet(tmp_path / "root", ["kubelet", "--config=/etc/k.yaml"], files)
    found = only(kubelet.kubelet(settings(tmp_path), Host(root)), WARNING, "the settings of pid 77 cannot be read")
    assert found.text.isprintable()


def test_a_node_without_a_kubelet_is_well(tmp_path: Path) -> None:
    """Hookshim is for crictl as well; a process without a command line is the kernel's."""
    root = node_with_kubelet(tmp_path / "root", ["/bin/sh", "kubelet"])
    (root / "proc/78").mkdir()
    (root / "proc/78/cmdline").touch()
    only(kubelet.kubelet(settings(tmp_path), Host(root)), OK, "none runs here")


def test_rules_are_counted_or_each_mistake_is_a_line(tmp_path: Path) -> None:
    """The same problems that a start would be refused with."""
    config = settings(tmp_path)
    only(kubelet.rules(config), OK, f"0 in {config.hooks_dir}")
    directory = hooks_directory(tmp_path, **{"10-a": "a", "20-b": "b"})
    only(kubelet.rules(config), OK, f"2 in {directory}: 10-a, 20-b")
    (directory / "10-a.toml").chmod(0o666)
    put(directory / "20-b.toml", "whn = 1\n" + RULE.format(word="b"))
    found = list(kubelet.rules(config))
    assert [one.verdict for one in found] == [PROBLEM, PROBLEM]
    assert [f"{directory}/{name}" in one.text for one, name in zip(found, ("10-a", "20-b"), strict=True)] == [True] * 2


def test_a_kubeconfig_is_there_and_its_owners_alone(tmp_path: Path) -> None:
    """No token of it is ever shown."""
    only(kubeconfig(settings(tmp_path)), OK, "not wanted")
    path = tmp_path / "kubeconfig"
    config = settings(tmp_path, **{"events.kubeconfig": path})
    only(kubeconfig(config), PROBLEM, "cannot be read: No such file or directory")
    cases: list[tuple[str, Callable[[], None], Verdict, str]] = [
        (KUBECONFIG, lambda: path.chmod(0o600), OK, f"{path} is there"),
        (KUBECONFIG, lambda: path.chmod(0o644), WARNING, "has mode 0644"),
        ("users: [{user: {token: sesame}}]\n", lambda: None, PROBLEM, "has no clusters, contexts, current-context"),
        ("token: {sesame: [\n", lambda: None, PROBLEM, "is no YAML"),
    ]
    for text, prepare, verdict, expected in cases:
        path.write_text(text)
        prepare()
        found = only(kubeconfig(config), verdict, expected)
        assert "sesame" not in found.text + found.advice


def test_the_http_listener_answers_or_says_that_the_daemon_does_not(tmp_path: Path) -> None:
    """Over TCP and over a socket alike."""

    class Page(BaseHTTPRequestHandler):
        """Alive, and not ready."""

        ready = 503

        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/healthz" else self.ready)
            self.end_headers()
            self.wfile.write(b"not yet: starting\nmore")

        def log_message(self, *_: object) -> None:
            """Nothing."""

        def address_string(self) -> str:
            """A unix socket's peer has none."""
            return ""

    only(http_listener(settings(tmp_path)), OK, "not wanted")
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        config = settings(tmp_path, **{"http.listen": f"127.0.0.1:{server.server_port}"})
        only(http_listener(config), WARNING, "is there, and says: not yet: starting")
        Page.ready = 200
        only(http_listener(config), OK, "answers")
        server.shutdown()
        thread.join()
    only(http_listener(config), PROBLEM, "does not answer: Connection refused")
    only(http_listener(settings(tmp_path, **{"http.listen": tmp_path / "p.sock"})), PROBLEM, "No such file")
