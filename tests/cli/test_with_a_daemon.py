"""The commands beside a real daemon and containerd: what they show, and what they have done, as containers see it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from server.doctor import Verdict
from server.doctor.others import http_listener
from tests.cli import node
from tests.cli.bed import Reader, hookshim, running
from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.hookshimd import Hookshim
from tests.support.later import later
from tests.support.receiver import Behaviour, Receiver
from tests.support.stage import Stage, exec_hook, http_hook, put_rule
from tests.support.waiting import until


@pytest.fixture
def stage(
    hookshim: MakeHookshim, containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> Stage:
    """A pod behind a daemon."""
    return Stage(hookshim(containerd), pod_name, tmp_path, receiver)


def command(daemon: Hookshim, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command with the daemon's settings."""
    return hookshim(tmp_path, *words, env=settings(daemon), columns=160)


def settings(daemon: Hookshim) -> dict[str, str]:
    """What the daemon was started with."""
    return daemon.env | {
        "HOOKSHIM_STATE_DIR": str(daemon.state_dir),
        "HOOKSHIM_LISTEN": str(daemon.socket),
        "HOOKSHIM_CONTAINERD": str(daemon.containerd),
    }


def test_the_doctor_finds_nothing_wrong_with_a_node_that_is_well(
    hookshim: MakeHookshim, containerd: PrivateContainerd, tmp_path: Path
) -> None:
    """Every socket answers, hookshim's is hookshim's; exit 0. What is no problem may be a warning (a clock alone)."""
    page = tmp_path / "p.sock"
    daemon = hookshim(containerd, env={"HOOKSHIM_HTTP_LISTEN": str(page)})
    page_alone = node.settings(tmp_path, **{"http.listen": page})
    until(lambda: [one.verdict for one in http_listener(page_alone)] == [Verdict.OK], "HTTP is served, and ready")
    done = command(daemon, tmp_path, "doctor", "--json")
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for check in ("containerd", "CRI plugin", "socket", "admin socket", "daemon", "journal", "deliveries", "http"):
        assert found[check]["verdict"] == "ok", found[check]
    assert f"(pid {daemon.pid}), in front of containerd" in found["socket"]["text"]
    daemon.terminate()
    done = command(daemon, tmp_path, "doctor", "--json")
    assert done.returncode == 1
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert [check for check, one in found.items() if one["verdict"] == "problem"] == ["socket", "http"]


def test_what_happens_is_seen_while_it_happens_and_once_over_a_daemons_death(stage: Stage, tmp_path: Path) -> None:
    """Watch and follow, as a person would have them open in two terminals."""
    stage.receiver.behave("/stop", Behaviour(status=500))
    container = stage.container({"preStop": http_hook(stage.receiver, "/stop") | {"retry": {"attempts": 1}}})
    failing = {"preStop": {"httpGet": {"host": stage.receiver.host, "port": 1, "path": "/nobody"}}}
    other = stage.container(failing, name="d")
    for each in (container, other):
        stage.cri.start(each)
    state_dir = stage.daemon.state_dir
    watch: list[str | Path] = ["deliveries", "--watch", "--json", "--state-dir", state_dir]
    follow: list[str | Path] = ["events", "--follow", "--json", "--state-dir", state_dir]
    with running(tmp_path, *watch) as watched, running(tmp_path, *follow) as followed:
        stage.cri.stop(other, 10)
        assert json.loads(followed.line())["container_id"] == other
        assert _until_closed(watched)[-1] == (other, "failed", 1)
        release = stage.receiver.hang("/stop")
        stopping = later(stage.cri.stop, container, 60)
        stage.receiver.wait_for("/stop")
        stage.daemon.kill()
        stopping.exception(30)
        release.set()
        stage.daemon.start()
        seen = _until_closed(watched)
        third = stage.container(failing, name="e")
        stage.cri.start(third)
        stage.cri.stop(third, 10)
        # Nothing lies between: the first was not told again, and the second had no event.
        assert json.loads(followed.line())["container_id"] == third
    assert seen[-1] == (container, "delivered", 2)
    assert len(set(seen)) == len(seen)


def _until_closed(watched: Reader) -> list[tuple[str, str, int]]:
    """What is told of deliveries up to the first outcome: container, state, attempts."""
    seen: list[tuple[str, str, int]] = []
    while not seen or seen[-1][1] in ("armed", "pending", "delivering"):
        line = json.loads(watched.line())
        seen.append((line["container_id"], line["state"], line["attempts"]))
    return seen


def test_the_hooks_of_a_container_are_shown_in_their_order_with_who_declared_them(stage: Stage, tmp_path: Path) -> None:
    """A rule's before the pod's own; without any, why; an id's beginning is enough, and one of nobody is exit 1."""
    put_rule(stage.daemon, "10-drain", ["preStop"], 'run = { command = ["/bin/true", "--node"] }\ntimeoutSeconds = 7')
    until(lambda: "10-drain" in stage.daemon.tail(), "the rule is taken over")
    container = stage.container({"preStop": exec_hook(["/bin/sync", "-f"])})
    shown = command(stage.daemon, tmp_path, "hooks", "show", container[:12])
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[0] == f"container  c ({container})"
    assert lines[-4:] == [
        "preStop    run [/bin/true --node]",
        "            from: rule 10-drain, at most 7 s",
        "preStop    exec [/bin/sync -f]",
        "            from: the container's annotation",
    ]
    found = json.loads(command(stage.daemon, tmp_path, "hooks", "show", container, "--json").stdout)
    assert [(hook["hook"], hook["source"]) for hook in found["hooks"]] == [
        ("preStop", "rule 10-drain"),
        ("preStop", "container"),
    ]
    nobody = command(stage.daemon, tmp_path, "hooks", "show", "ffffffffffff")
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert nobody.stderr.startswith("hookshim: ")


def test_a_container_without_hooks_says_why(stage: Stage, tmp_path: Path) -> None:
    """The question behind the question."""
    container = stage.container({})
    shown = command(stage.daemon, tmp_path, "hooks", "show", container)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[-1].startswith("no hooks   ")


def test_a_retry_reaches_the_receiver_now_and_what_cannot_be_is_refused(stage: Stage, tmp_path: Path) -> None:
    """A postStop that waits an hour for its next attempt is sent at once; afterwards there is nothing to retry."""
    stage.receiver.behave("/ended", Behaviour(status=503))
    patient = {"retry": {"attempts": "unlimited", "backoffSeconds": 3600, "maxBackoffSeconds": 3600}}
    container = stage.container({"postStop": http_hook(stage.receiver, "/ended") | patient})
    stage.cri.start(container)
    stage.cri.stop(container, 0)
    [delivery] = until(
        lambda: [one for one in stage.daemon.deliveries() if one["next_attempt_at"]], "it waits for its next attempt"
    )
    stage.receiver.behave("/ended", Behaviour(status=200))
    done = command(stage.daemon, tmp_path, "deliveries", "retry", delivery["id"][:8], "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["delivery_id"] == delivery["id"]
    stage.receiver.wait_for("/ended", 2)
    until(lambda: stage.daemon.deliveries()[0]["state"] == "delivered", "it is delivered")
    refused = command(stage.daemon, tmp_path, "deliveries", "retry", delivery["id"])
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("hookshim: ")


def test_a_skip_lets_the_stop_go_on_and_its_reason_is_kept(stage: Stage, tmp_path: Path) -> None:
    """A hook that would hang for the whole grace: the container has its TERM at once, and the journal says why."""
    container = stage.container({"preStop": {"sleep": {"seconds": 30}}})
    stage.cri.start(container)
    stage.log.wait_for("started")
    stopping = later(stage.cri.stop, container, 3600)
    [delivery] = until(
        lambda: [one for one in stage.daemon.deliveries() if one["state"] == "delivering"], "the hook runs"
    )
    done = command(stage.daemon, tmp_path, "deliveries", "skip", delivery["id"], "--reason", "the balancer is gone")
    assert (done.returncode, done.stderr) == (0, "")
    assert delivery["id"] in done.stdout
    assert len(done.stdout.splitlines()) == 1
    stopping.result(30)
    assert stage.log.words() == ["started", "TERM", "finished"]
    shown = command(stage.daemon, tmp_path, "deliveries", "show", delivery["id"]).stdout.splitlines()
    assert "error      skipped by the owner: the balancer is gone" in shown
    assert any(line.startswith("state      skipped, since ") for line in shown)
