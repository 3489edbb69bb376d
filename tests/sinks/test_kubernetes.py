"""Failed hooks become Events of their pods, as a kubelet's are, counted up rather than repeated."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sinks.api_server import ApiServer
from tests.sinks.bed import Events, Sink, kubeconfig
from tests.support.waiting import until

Run = Callable[[Path], Sink]


@pytest.fixture
def config(tmp_path: Path, api: ApiServer) -> Path:
    """A kubeconfig that works."""
    return kubeconfig(tmp_path / "kubeconfig", api.url, token="secret")


def test_an_event_is_shown_with_its_pod_as_a_kubelets_is(
    events: Events, api: ApiServer, config: Path, run_sink: Run
) -> None:
    """``kubectl describe pod`` finds it by the pod's name, namespace and uid; a static pod's uid is its hash."""
    uid = "0123456789abcdef0123456789abcdef"
    delivery = events.fail(
        "Exec lifecycle hook failed", pod="web", namespace="prod", name="main", uid=uid, at=time.time()
    )
    run_sink(config)
    api.wait_for(1)
    [event] = api.described("web", uid)
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "prod",
        "name": "web",
        "uid": uid,
        "fieldPath": "spec.containers{main}",
    }
    assert (event["type"], event["reason"], event["count"]) == ("Warning", "FailedPostStartHook", 1)
    assert event["message"] == f"Exec lifecycle hook failed (attempt 1, delivery {delivery})"
    assert event["source"] == {"component": "hookshim", "host": "node-1"}
    assert (event["reportingComponent"], event["reportingInstance"]) == ("hookshim", "node-1")
    assert event["firstTimestamp"] == event["lastTimestamp"]
    assert event["metadata"]["name"].startswith("web.")


def test_what_happens_again_is_counted_up(events: Events, api: ApiServer, config: Path, run_sink: Run) -> None:
    """A container that fails at each of its starts is one Event, whose message names the last delivery."""
    now = time.time()
    for number in range(4):
        last = events.fail(at=now - 100 + number)
    events.fail(at=now, name="sidecar")
    run_sink(config)
    api.wait_for(5)
    again, other = sorted(api.described("web", "uid-1"), key=lambda event: -int(event["count"]))
    assert (again["count"], other["count"]) == (4, 1)
    assert again["message"].endswith(f"delivery {last})")
    assert again["firstTimestamp"] < again["lastTimestamp"]
    assert [seen.method for seen in api.seen] == ["POST", "PATCH", "PATCH", "PATCH", "POST"]


def test_an_event_that_the_cluster_has_forgotten_is_made_anew(
    events: Events, api: ApiServer, config: Path, run_sink: Run
) -> None:
    """Events go after an hour, or by hand: then the count goes on in a new one."""
    events.fail()
    run_sink(config)
    api.wait_for(1)
    api.events.clear()
    events.fail()
    until(lambda: api.events, "the Event is there again")
    [event] = api.events.values()
    assert event["count"] == 2


def test_many_different_messages_are_put_together(events: Events, api: ApiServer, config: Path, run_sink: Run) -> None:
    """From the tenth message of one reason within ten minutes on they are one Event, as with a kubelet."""
    for number in range(12):
        events.fail(f"problem {number}")
    run_sink(config)
    api.wait_for(12)
    together = [event for event in api.events.values() if event["count"] == 3]
    assert len(api.events) == 10
    assert [event["message"].startswith("(combined from similar events): problem 11") for event in together] == [True]


def test_a_pod_that_never_stops_failing_is_held_back_and_others_are_not(
    events: Events, api: ApiServer, config: Path, run_sink: Run
) -> None:
    """25 at once, then none for five minutes: what is dropped is said, and the next pod's is told."""
    now = time.time()
    for _ in range(30):
        events.fail(at=now)
    events.fail(pod="other", at=now)
    sink = run_sink(config)
    until(lambda: api.described("other", "uid-1"), "the other pod's Event is told")
    [event] = api.described("web", "uid-1")
    assert event["count"] == 25
    until(lambda: sink.cursor().get("id") == 31, "the cursor has come to the end")
    said = sink.said("an event is not told, and will not be")
    assert [(line["cause"], line["times"]) for line in said] == [
        ("rate limit", 1),
        ("rate limit", 2),
        ("rate limit", 4),
    ]


def test_an_event_about_the_node_is_shown_with_the_node(
    events: Events, api: ApiServer, config: Path, run_sink: Run
) -> None:
    """A damaged journal is the node's matter: ``kubectl describe node`` has it, among the kubelet's."""
    events.damage("the journal was damaged and is set aside")
    run_sink(config)
    api.wait_for(1)
    [event] = api.described("node-1", "node-1", "Node")
    assert (event["metadata"]["namespace"], event["reason"]) == ("default", "JournalDamaged")
    assert "fieldPath" not in event["involvedObject"]


def test_a_message_that_is_too_long_keeps_its_beginning_and_its_end(
    events: Events, api: ApiServer, config: Path, run_sink: Run
) -> None:
    """The API takes 1024 bytes: what failed and which delivery it was are both still to be read."""
    delivery = events.fail("Ünable to run " + "é" * 2000)
    run_sink(config)
    [event] = api.wait_for(1)
    assert event["message"].startswith("Ünable to run éé")
    assert event["message"].endswith(f"é (attempt 1, delivery {delivery})")
    assert 1000 < len(event["message"].encode()) <= 1024


def test_a_pod_whose_name_makes_no_event_name_is_told_all_the_same(
    events: Events, api: ApiServer, config: Path, run_sink: Run
) -> None:
    """What crictl calls a pod may be no name in Kubernetes; the Event's own name has to be one."""
    events.fail(pod="Not_A_Name")
    run_sink(config)
    api.wait_for(1)
    assert len(api.described("Not_A_Name", "uid-1")) == 1


def test_a_first_start_tells_of_the_last_hour_only(events: Events, api: ApiServer, config: Path, run_sink: Run) -> None:
    """A sink that is turned on does not flood the cluster with what is long past."""
    events.fail(pod="long-ago", at=time.time() - 4000)
    events.fail(pod="just-now", at=time.time() - 3000)
    sink = run_sink(config)
    until(lambda: sink.cursor().get("id") == 2, "the cursor has come to the end")
    assert [event["involvedObject"]["name"] for event in api.events.values()] == ["just-now"]


def test_a_journal_that_was_begun_anew_is_told_from_its_beginning(
    state_dir: Path, api: ApiServer, config: Path, run_sink: Run
) -> None:
    """A damaged journal is set aside, and the new one's rows have the old one's numbers."""
    old = Events(state_dir)
    for _ in range(3):
        old.fail(pod="old")
    sink = run_sink(config)
    until(lambda: sink.cursor().get("id") == 3, "the old journal is told")
    old.store.close()
    for file in state_dir.glob("journal.db*"):
        file.rename(file.with_name("corrupt-" + file.name))
    new = Events(state_dir)
    new.damage()
    new.fail(pod="new")
    until(lambda: api.described("new", "uid-1"), "the new journal's is told")
    assert len(api.described("node-1", "node-1", "Node")) == 1
    new.store.close()


def test_what_retention_has_deleted_before_it_was_told_is_said(
    events: Events, api: ApiServer, config: Path, run_sink: Run
) -> None:
    """A cluster that was away for longer than the journal keeps anything: the log says how many are missing."""
    events.fail()
    sink = run_sink(config)
    until(lambda: sink.cursor().get("id") == 1, "the first is told")
    sink.kill()
    for _ in range(2):
        events.damage()
    events.store.rows("DELETE FROM event WHERE id > 1", {})
    events.fail(pod="after")
    run_sink(config)
    until(lambda: api.described("after", "uid-1"), "the next is told")
    said = sink.said("events were deleted by the journal's retention before they could be told")
    assert [line["events"] for line in said] == [2]


def test_a_cursor_that_is_damaged_costs_no_event_and_repeats_none(
    events: Events, api: ApiServer, config: Path, run_sink: Run
) -> None:
    """Without its cursor a sink tells the last hour again: the cluster has these by their names already."""
    events.fail(pod="one")
    sink = run_sink(config)
    until(lambda: sink.cursor().get("id") == 1, "the first is told")
    sink.kill()
    (events.path.parent / "sinks" / "kubernetes.json").write_text("{")
    events.fail(pod="two")
    run_sink(config)
    until(lambda: sink.said("a sink's cursor cannot be read; it begins anew"), "it says so")
    until(lambda: api.described("two", "uid-1"), "the second is told")
    assert [event["count"] for event in api.events.values()] == [1, 1]
