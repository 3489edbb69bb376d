"""What a running daemon's metrics say, held against what really happened: at the receiver, the caller, containerd."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

from tests.conftest import MakeHookshim
from tests.metrics import OBEDIENT
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIError, unique
from tests.support.hookshimd import Hookshim
from tests.support.later import later
from tests.support.metrics import promtool, scrape
from tests.support.receiver import Behaviour, Receiver
from tests.support.stage import KEY, exec_hook, http_hook, put_rule
from tests.support.waiting import until


def create(daemon: Hookshim, pod: str, **hooks: object) -> str:
    """A container with these hooks."""
    return daemon.cri.create(pod, unique("c"), OBEDIENT, annotations={KEY: json.dumps(hooks)} if hooks else {})


def run(daemon: Hookshim, pod: str, **hooks: object) -> None:
    """The whole life of a container with these hooks; a PostStart may fail."""
    container = create(daemon, pod, **hooks)
    try:
        daemon.cri.start(container)
    except CRIError as error:
        assert error.code.name == "FAILED_PRECONDITION"  # noqa: PT017 - any other is none of a hook's
    else:
        daemon.cri.stop(container, 10)


def test_deliveries_attempts_and_calls_are_as_many_as_were_seen(
    hookshim: MakeHookshim, containerd: PrivateContainerd, receiver: Receiver, pod_name: str
) -> None:
    """Some hooks are delivered, some fail, some are tried again: what is counted is what the receiver was asked.

    And promtool finds nothing wrong with any name, unit or help text of that scrape.
    """
    daemon = hookshim(containerd)
    before = scrape(daemon)
    pod = daemon.cri.run_pod(pod_name)
    strict = {"expectStatus": "2xx"}
    retried = http_hook(receiver, "/bad")
    retried["httpGet"] |= strict
    retried |= {"retry": {"attempts": 3, "backoffSeconds": 0.01, "maxBackoffSeconds": 0.02}}
    receiver.behave("/bad", Behaviour(503))
    for _ in range(3):
        run(daemon, pod, preStop=http_hook(receiver, "/good"))
    for _ in range(2):
        run(daemon, pod, preStop=retried)
    run(daemon, pod, postStart=exec_hook(["true"]), preStop=exec_hook(["false"]))
    run(daemon, pod, postStart=exec_hook(["false"]))
    run(daemon, pod)
    for _ in range(5):
        daemon.cri.version()
    scraped = scrape(daemon)
    assert scraped.samples("hookshim_deliveries_total") == {
        ("httpGet", "preStop", "delivered"): 3,
        ("httpGet", "preStop", "failed"): 2,
        ("exec", "postStart", "delivered"): 1,
        ("exec", "postStart", "failed"): 1,
        ("exec", "preStop", "failed"): 1,
    }
    assert scraped.value("hookshim_attempts_total", handler="httpGet", result="succeeded") == len(
        receiver.seen("/good")
    )
    assert scraped.value("hookshim_attempts_total", handler="httpGet", result="failed") == len(receiver.seen("/bad"))
    assert scraped.value("hookshim_attempt_duration_seconds_count") == len(receiver.requests) + 3
    assert scraped.value("hookshim_delivery_duration_seconds_count") == len(daemon.deliveries()) == 8
    reasons = [event["reason"] for event in daemon.events()]
    assert scraped.samples("hookshim_events_total") == {(reason,): reasons.count(reason) for reason in set(reasons)}
    assert scraped.value("hookshim_deliveries_open") == 0
    calls = {"CreateContainer": 8, "StartContainer": 8, "StopContainer": 7, "RunPodSandbox": 1}
    for method, count in calls.items():
        assert scraped.value("hookshim_calls_total", method=method) == count
    assert scraped.samples("hookshim_calls_total", method="StartContainer") == {
        ("OK", "StartContainer"): 7,
        ("FAILED_PRECONDITION", "StartContainer"): 1,
    }
    versions = [one.value("hookshim_calls_total", method="Version", code="OK") for one in (before, scraped)]
    assert versions[1] - versions[0] == 5
    assert scraped.samples("hookshim_intercepted_calls_total", method="StopContainer") == {
        ("answer", "StopContainer"): 6,
        ("pass", "StopContainer"): 1,
    }
    added = scraped.value("hookshim_call_added_duration_seconds_count", method="StopContainer")
    assert added == 1
    assert scraped.value("hookshim_serving") == scraped.value("hookshim_backend_up") == 1
    assert scraped.value("hookshim_journal_writable") == 1
    assert scraped.value("process_resident_memory_bytes") > 1 << 20
    promtool("check", "metrics", text=scraped.text)


def test_what_a_killed_daemon_left_is_shown_and_counted_by_the_next(
    hookshim: MakeHookshim, containerd: PrivateContainerd, receiver: Receiver, pod_name: str
) -> None:
    """SIGKILL while a hook waits for its answer: shown open, sent again, resumed, and one attempt was interrupted."""
    daemon = hookshim(containerd)
    pod = daemon.cri.run_pod(pod_name)
    container = create(daemon, pod, preStop=http_hook(receiver, "/slow"))
    daemon.cri.start(container)
    release = receiver.hang("/slow")
    stop = later(daemon.cri.stop, container, 60)
    receiver.wait_for("/slow")
    during = scrape(daemon)
    assert during.samples("hookshim_deliveries_open") == {("preStop", "delivering"): 1}
    assert during.value("hookshim_recoveries_total") == 0
    daemon.restart()
    assert isinstance(stop.exception(30), CRIError)
    receiver.wait_for("/slow", 2)
    age = until(
        lambda: scrape(daemon).value("hookshim_oldest_pending_delivery_age_seconds", hook="preStop"), "it has an age"
    )
    assert 0 < age < 60
    release.set()
    until(lambda: containerd.cri.state(container) == "CONTAINER_EXITED", "the stop is finished")
    scraped = until(
        lambda: now if (now := scrape(daemon)).value("hookshim_deliveries_total") else None, "its outcome is counted"
    )
    assert scraped.samples("hookshim_resumed_deliveries_total") == {("preStop", "delivered"): 1}
    assert scraped.samples("hookshim_attempts_total") == {
        ("httpGet", "preStop", "interrupted"): 1,
        ("httpGet", "preStop", "succeeded"): 1,
    }
    assert scraped.value("hookshim_delivery_duration_seconds_sum") > scraped.value(
        "hookshim_attempt_duration_seconds_sum"
    )
    assert (scraped.value("hookshim_recoveries_total"), scraped.value("hookshim_recovered_containers_total")) == (1, 1)
    assert scraped.value("hookshim_oldest_pending_delivery_age_seconds") == 0


def test_containerd_that_goes_and_comes_back_is_seen(
    hookshim: MakeHookshim, new_containerd: Callable[[], PrivateContainerd]
) -> None:
    """Down while it is killed, without anybody calling; up again by itself, and one reconnect."""
    containerd = new_containerd()
    daemon = hookshim(containerd)
    first = scrape(daemon)
    assert (first.value("hookshim_backend_up"), first.value("hookshim_backend_reconnects_total")) == (1, 0)
    containerd.kill()
    until(lambda: not scrape(daemon).value("hookshim_backend_up"), "it is seen to be away")
    containerd.launch()
    until(lambda: scrape(daemon).value("hookshim_backend_up"), "it is seen to be back")
    assert scrape(daemon).value("hookshim_backend_reconnects_total") >= 1


def test_rules_that_are_refused_are_shown_until_they_are_mended(
    hookshim: MakeHookshim, containerd: PrivateContainerd
) -> None:
    """What is in force, whether that is what the files say, and how often either was found."""
    daemon = hookshim(containerd, start=False)
    put_rule(daemon, "good", ["preStop"], 'exec = { command = ["true"] }')
    daemon.start()

    def shown() -> tuple[float, ...]:
        now = scrape(daemon)
        names = ("rules", "rules_last_reload_successful", "rule_reloads_total", "rule_reload_failures_total")
        return tuple(now.value(f"hookshim_{name}") for name in names)

    assert shown() == (1, 1, 0, 0)
    bad = put_rule(daemon, "bad", ["prestop"], 'exec = { command = ["true"] }')
    os.kill(daemon.pid, signal.SIGHUP)
    until(lambda: shown() == (1, 0, 0, 1), "the bad rule is refused")
    bad.unlink()
    os.kill(daemon.pid, signal.SIGHUP)
    until(lambda: shown() == (1, 1, 1, 1), "the good ones are what the files say")
