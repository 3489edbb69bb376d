"""Whatever the API server or the sink goes through, each event is told once, and what cannot be holds up nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from tests.sinks.api_server import ApiServer, Trouble
from tests.sinks.bed import Events, Sink, kubeconfig
from tests.sinks.tls import pem, server_context
from tests.support.waiting import until

Run = Callable[[Path], Sink]


@pytest.fixture
def config(tmp_path: Path, api: ApiServer) -> Path:
    """A kubeconfig that works."""
    return kubeconfig(tmp_path / "kubeconfig", api.url, token="secret")


def times(trouble: Trouble, most: int) -> Callable[[web.Request], Trouble | None]:
    """A trouble that passes after so many requests."""
    left = [trouble] * most
    return lambda _: left.pop() if left else None


def said_why(sink: Sink, text: str) -> None:
    """Wait until the log says why nothing is told."""
    until(lambda: [line for line in sink.said("events wait to be told") if text in line["reason"]], f"{text!r} is said")


def test_a_sink_that_dies_after_a_post_tells_it_no_second_time(
    events: Events, api: ApiServer, config: Path, run_sink: Run
) -> None:
    """Killed between the server's Event and the cursor: the next sink posts it by the same name."""
    events.fail()
    api.hold.clear()
    sink = run_sink(config)
    until(lambda: api.events, "the server has it")
    sink.kill()
    assert "id" not in sink.cursor() or sink.cursor()["id"] == 0
    api.hold.set()
    sink.start()
    until(lambda: sink.cursor().get("id") == 1, "the cursor goes on")
    assert [(seen.method, seen.status) for seen in api.seen] == [("POST", 201), ("POST", 409)]
    assert [event["count"] for event in api.events.values()] == [1]


def test_a_sink_that_dies_after_counting_up_counts_no_second_time(
    events: Events, api: ApiServer, config: Path, run_sink: Run
) -> None:
    """Killed between the server's count and the cursor: the next sink sets the same count."""
    events.fail()
    sink = run_sink(config)
    until(lambda: sink.cursor().get("id") == 1, "the first is told")
    api.hold.clear()
    events.fail()
    until(lambda: [seen for seen in api.seen if seen.method == "PATCH"], "the server has the second")
    sink.kill()
    assert sink.cursor()["id"] == 1
    api.hold.set()
    sink.start()
    until(lambda: sink.cursor()["id"] == 2, "the cursor goes on")
    assert [seen.method for seen in api.seen] == ["POST", "PATCH", "PATCH"]
    assert [event["count"] for event in api.events.values()] == [2]


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(500, "InternalError"),
        Trouble(503, "ServiceUnavailable"),
        Trouble(504, "Timeout"),
        Trouble(0),
        Trouble(200, body="<html>a proxy's own page</html>", headers={"Content-Type": "text/html"}),
        Trouble(302, headers={"Location": "/elsewhere"}),
    ],
    ids=lambda trouble: str(trouble.status),
)
def test_what_the_server_cannot_take_now_is_told_later(
    events: Events, api: ApiServer, config: Path, run_sink: Run, trouble: Trouble
) -> None:
    """Errors of the server, broken connections and answers that are none pass: all is told, once and in order."""
    api.trouble = times(trouble, 2)
    for pod in ("one", "two"):
        events.fail(pod=pod)
    sink = run_sink(config)
    until(lambda: sink.cursor().get("id") == 2, "all is told")
    assert [(event["involvedObject"]["name"], event["count"]) for event in api.events.values()] == [
        ("one", 1),
        ("two", 1),
    ]
    assert [line["attempt"] for line in sink.said("events wait to be told")] == [1, 2]


def test_a_server_that_asks_for_time_gets_it(events: Events, api: ApiServer, config: Path, run_sink: Run) -> None:
    """429 with Retry-After: nothing is sent before."""
    api.trouble = times(Trouble(429, "TooManyRequests", {"Retry-After": "2"}), 1)
    events.fail()
    run_sink(config)
    api.wait_for(1)
    asked, told = api.seen
    assert told.at - asked.at >= 2


def test_a_server_that_is_away_is_found_where_the_kubeconfig_says(
    events: Events, api: ApiServer, tmp_path: Path, run_sink: Run
) -> None:
    """The kubeconfig is read again when nobody answers: a control plane that has moved needs no restart here."""
    with ApiServer() as gone:
        nowhere = gone.url
    config = kubeconfig(tmp_path / "kubeconfig", nowhere)
    events.fail()
    sink = run_sink(config)
    said_why(sink, f"{nowhere} (kubeconfig {config}) does not answer")
    kubeconfig(config, api.url, token="secret")
    api.wait_for(1)


def test_a_token_that_has_run_out_is_read_again(events: Events, api: ApiServer, tmp_path: Path, run_sink: Run) -> None:
    """A service account's token is replaced in its file under way."""
    token = tmp_path / "token"
    token.write_text("secret")
    config = kubeconfig(tmp_path / "kubeconfig", api.url, tokenFile=str(token))
    events.fail()
    sink = run_sink(config)
    api.wait_for(1)
    api.token = "renewed"
    events.fail(pod="other")
    said_why(sink, "answers 401 Unauthorized")
    token.write_text("renewed")
    api.wait_for(2)
    assert "secret" not in sink.log.read_text()
    assert "renewed" not in sink.log.read_text()


def test_a_kubeconfig_that_comes_late_is_found(events: Events, api: ApiServer, tmp_path: Path, run_sink: Run) -> None:
    """None, then a broken one, then the right one: the log says what is wrong each time."""
    config = tmp_path / "kubeconfig"
    events.fail()
    sink = run_sink(config)
    said_why(sink, f"the kubeconfig {config} cannot be used")
    config.write_text("clusters: [")
    sink.kill()
    sink.start()
    until(lambda: len(sink.said("events wait to be told")) > 1, "it is said again")
    kubeconfig(config, api.url, token="secret")
    api.wait_for(1)


def test_a_certificate_that_is_not_trusted_is_refused_and_ours_is_shown(
    events: Events, tmp_path: Path, run_sink: Run
) -> None:
    """TLS both ways: no event goes to a server that the kubeconfig does not vouch for."""
    with ApiServer(tls=server_context(tmp_path, client_certificates=True)) as api:
        for label, name in (("CERTIFICATE", "client.crt"), ("PRIVATE KEY", "client.key")):
            (tmp_path / name).write_text(pem(label))
        credentials = {"client-certificate": "client.crt", "client-key": "client.key"}
        config = kubeconfig(tmp_path / "kubeconfig", api.url, **credentials)
        events.fail()
        sink = run_sink(config)
        said_why(sink, "see certificate-authority in the kubeconfig")
        assert api.seen == []
        kubeconfig(config, api.url, cluster={"certificate-authority": "client.crt"}, **credentials)
        api.wait_for(1)


def test_what_is_forbidden_is_said_once_with_what_to_do_and_holds_up_nobody(
    events: Events, api: ApiServer, config: Path, run_sink: Run
) -> None:
    """Without the right to create Events each is passed over, and told again once there is one."""
    api.forbidden.add("create")
    for _ in range(3):
        events.fail()
    sink = run_sink(config)
    until(lambda: sink.cursor().get("id") == 3, "the cursor goes on")
    said = sink.said("an event is not told, and will not be")
    assert [line["times"] for line in said] == [1, 2]
    assert 'needs the verbs create and patch for events in namespace "default" (RBAC)' in said[0]["reason"]
    api.forbidden.clear()
    events.fail()
    [event] = api.wait_for(1)
    assert event["count"] == 1


def test_a_namespace_that_is_gone_takes_no_other_event_with_it(
    events: Events, api: ApiServer, config: Path, run_sink: Run
) -> None:
    """The Events of a deleted namespace's pods have nowhere to go."""
    events.fail(namespace="gone")
    events.fail(namespace="prod")
    sink = run_sink(config)
    api.wait_for(1)
    [line] = sink.said("an event is not told, and will not be")
    assert 'the namespace "gone" is gone' in line["reason"]
    assert (line["namespace"], line["pod"]) == ("gone", "web")


def test_a_disk_that_takes_no_cursor_stops_no_event(
    events: Events, api: ApiServer, config: Path, run_sink: Run
) -> None:
    """What cannot be written down is told again after a restart, and not before."""
    (events.path.parent / "sinks").write_text("in the way")
    for pod in ("one", "two"):
        events.fail(pod=pod)
    sink = run_sink(config)
    api.wait_for(2)
    until(
        lambda: sink.said("a sink's cursor cannot be written; what follows is told again after a restart"), "it is said"
    )
    sink.kill()
    sink.start()
    until(lambda: len(api.seen) == 4, "it is told again")
    assert [event["count"] for event in api.events.values()] == [1, 1]
