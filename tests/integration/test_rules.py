"""The node's own rules in a running daemon: whom they reach, when, and what a change does to calls under way."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.cri import unique
from tests.support.hookshimd import Hookshim
from tests.support.image import BUSYBOX
from tests.support.later import later
from tests.support.metrics import scrape
from tests.support.signals import SignalLog, logging_container, logging_hook
from tests.support.stage import KEY, exec_hook
from tests.support.waiting import PATIENCE, until

FOREVER = ["sleep", "1000000"]


class Rules:
    """The rules of one daemon, and the file into which their commands on the node write."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "hooks.d"
        self.path.mkdir(mode=0o755)
        self._said = directory / "said"

    def put(self, name: str, *handlers: str, when: Sequence[str] = ("postStart",), match: str = "") -> Path:
        """Write a rule, complete from the moment it has its name."""
        text = f"when = {json.dumps(when)}\n[match]\n{match}\n" + "".join(f"[[handlers]]\n{one}\n" for one in handlers)
        new = self.path / f".{name}"
        new.write_text(text)
        new.chmod(0o644)
        return new.rename(self.path / f"{name}.toml")

    def say(self, word: str) -> str:
        """A handler that notes the word with the container's id, on the node."""
        script = f'echo "$HOOKSHIM_CONTAINER_ID {word}" >>{self._said}'
        return f"run = {{ command = {json.dumps(['/bin/sh', '-c', script])} }}"

    def said(self) -> dict[str, list[str]]:
        """The words that were noted for each container, in their order."""
        words = defaultdict(list)
        for line in self._said.read_text().splitlines() if self._said.exists() else []:
            container, _, word = line.partition(" ")
            words[container].append(word)
        return words


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    """No rules, yet."""
    return Rules(tmp_path)


@pytest.fixture
def daemon(hookshim: MakeHookshim, containerd: PrivateContainerd, rules: Rules) -> Hookshim:
    """A daemon with these rules, not yet started."""
    return hookshim(containerd, options=["--hooks-dir", str(rules.path)], start=False)


def test_rules_run_before_the_pods_own_hook_in_the_order_of_their_names(
    daemon: Hookshim, rules: Rules, pod_name: str, tmp_path: Path
) -> None:
    """At a start and at a stop, one after another, each ended before the next begins."""
    log = SignalLog(tmp_path / "log")
    for name in ("20-b", "10-a"):
        hook = json.dumps(logging_hook(name, seconds=0.2))
        rules.put(name, f"exec = {{ command = {hook} }}", when=["postStart", "preStop"])
    daemon.start()
    declared = {hook: exec_hook(logging_hook("own")) for hook in ("postStart", "preStop")}
    container = daemon.cri.create(
        daemon.cri.run_pod(pod_name),
        "c",
        logging_container(),
        annotations={KEY: json.dumps(declared)},
        mounts=log.mounts,
    )
    daemon.cri.start(container)
    log.wait_for("started")
    daemon.cri.stop(container, grace=20)
    hooks = [f"{name} {does}" for name in ("10-a", "20-b", "own") for does in ("begins", "ends")]
    words = log.words()
    # The container's own process has no order against its PostStart.
    words.remove("started")
    assert words == [*hooks, *hooks, "TERM", "finished"]


def test_a_rule_reaches_the_containers_that_it_matches_as_the_runtime_knows_them(
    daemon: Hookshim, rules: Rules, pod_name: str
) -> None:
    """Namespace, labels, annotations, the container's name, its image and its runtime handler, asked of containerd."""
    matches = {
        "namespaces": 'namespaces = ["team-*"]',
        "labels": 'labels = { app = "web" }',
        "in": 'expressions = [{ key = "tier", operator = "In", values = ["a", "b"] }]',
        "not-in": 'expressions = [{ key = "none", operator = "NotIn", values = ["a"] }]',
        "containers": 'containers = ["ap?"]',
        "images": f'images = ["{BUSYBOX.rpartition(":")[0]}:*"]',
        "annotations": 'annotations = { "example.com/drain" = "yes", "example.com/own" = "1" }',
        "runtime": 'runtimeHandlers = [""]',
    }
    for name, match in matches.items():
        rules.put(name, rules.say(name), match=match)
    rules.put("all", rules.say("all"), match="\n".join(one for name, one in matches.items() if name != "not-in"))
    daemon.start()
    pod = daemon.cri.run_pod(
        pod_name, namespace="team-x", labels={"app": "web", "tier": "b"}, annotations={"example.com/drain": "yes"}
    )
    app = daemon.cri.create(pod, "app", FOREVER, annotations={"example.com/own": "1"})
    other = daemon.cri.create(daemon.cri.run_pod(unique("other")), "other", FOREVER)
    for container in (app, other):
        daemon.cri.start(container)
    assert rules.said() == {app: sorted([*matches, "all"]), other: ["images", "not-in", "runtime"]}


def test_a_new_rule_reaches_a_container_that_runs_without_hooks(daemon: Hookshim, rules: Rules, pod_name: str) -> None:
    """What the daemon remembers of containers without hooks is forgotten with the rules it was true for; no SIGHUP."""
    daemon.start()
    container = daemon.cri.create(daemon.cri.run_pod(pod_name), "c", FOREVER)
    daemon.cri.start(container)
    assert daemon.deliveries() == []
    rules.put("new", rules.say("new"), when=["preStop"])
    until(lambda: "are taken over" in daemon.log.read_text(), "the rule is taken over")
    daemon.cri.stop(container, grace=5)
    assert rules.said() == {container: ["new"]}
    [delivery] = daemon.deliveries()
    assert (delivery["hook"], delivery["state"]) == ("preStop", "delivered")


def test_a_bad_file_keeps_the_last_good_rules_until_it_is_mended(daemon: Hookshim, rules: Rules, pod_name: str) -> None:
    """Starts go on with the rules before, whole; the log says once what is wrong, and where."""
    rules.put("a", rules.say("1"))
    rules.put("b", rules.say("2"))
    daemon.start()
    pod = daemon.cri.run_pod(pod_name)
    containers = [daemon.cri.create(pod, f"c{number}", FOREVER) for number in range(2)]
    rules.put("a", rules.say("3"))
    bad = rules.put("b", rules.say("4"), when=["poststart"])
    os.kill(daemon.pid, signal.SIGHUP)
    line = until(lambda: [one for one in daemon.log.read_text().splitlines() if "have problems" in one], "refused")
    expected = 'expected one of postStart, preStop, postStop, found the string "poststart"'
    assert json.loads(line[0])["problems"] == [f"{bad}: when[0]: {expected}"]
    daemon.cri.start(containers[0])
    rules.put("b", rules.say("4"))
    until(lambda: "are taken over" in daemon.log.read_text(), "the mended rules are taken over")
    daemon.cri.start(containers[1])
    assert rules.said() == {containers[0]: ["1", "2"], containers[1]: ["3", "4"]}
    assert daemon.log.read_text().count("have problems") == 1
    scraped = scrape(daemon)
    assert scraped.value("hookshim_rule_reload_failures_total") == 1
    assert scraped.value("hookshim_rule_reloads_total") == 1


def test_rules_that_are_exchanged_under_a_stream_of_starts_are_never_mixed(
    daemon: Hookshim, rules: Rules, pod_name: str
) -> None:
    """Each start has all hooks of one set, in order, once, and no start fails; the first and the last set are seen."""
    words = [str(number) for number in range(3)]
    sets = {}
    for letter in "xy":
        sets[letter] = rules.path.parent / f"{letter}.d"
        for word in words:
            rules.put(word, rules.say(letter + word))
        rules.path.rename(sets[letter])
        rules.path.mkdir(mode=0o755)
    rules.path.rmdir()
    rules.path.symlink_to(sets["x"])
    daemon.start()
    pod = daemon.cri.run_pod(pod_name)
    first, *stream, last = [daemon.cri.create(pod, f"c{number}", FOREVER) for number in range(12)]
    done = threading.Event()

    def exchange(letter: str) -> None:
        before = daemon.log.read_text().count("taken over")
        new = rules.path.with_name("new")
        new.symlink_to(sets[letter])
        new.rename(rules.path)
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: daemon.log.read_text().count("taken over") > before, f"{letter} is taken over")

    def exchange_until_done() -> None:
        while not done.is_set():
            exchange("y")
            exchange("x")

    daemon.cri.start(first)
    exchanging = later(exchange_until_done)
    try:
        for container in stream:
            daemon.cri.start(container)
    finally:
        done.set()
        exchanging.result(PATIENCE)
    exchange("y")
    daemon.cri.start(last)
    said = rules.said()
    whole = {letter: [letter + word for word in words] for letter in "xy"}
    assert said.keys() == {first, *stream, last}
    assert [hooks for hooks in said.values() if hooks not in whole.values()] == []
    assert (said[first], said[last]) == (whole["x"], whole["y"])
    assert [delivery["state"] for delivery in daemon.deliveries()] == ["delivered"] * len(words) * len(said)
