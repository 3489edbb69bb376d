"""A declaration is read as Kubernetes means it, with what hookshim adds; the most specific place that declares wins."""

from __future__ import annotations

import contextlib
import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.actions import (
    Action,
    Declared,
    ExecAction,
    HttpGetAction,
    Lifecycle,
    LifecycleHandler,
    OnFailure,
    Retry,
    RunAction,
    SleepAction,
    TcpSocketAction,
)
from shim.errors import DeclarationError
from shim.lifecycle import (
    KEY,
    MAX_BYTES,
    describe,
    effective,
    handler_from_json,
    parse_container,
    parse_handler,
    parse_kubelet,
    parse_pod,
    to_json,
)
from shim.records import CONTAINER, POD, Hook
from shim.strictjson import Place, printable

A, B, C, D = (LifecycleHandler(ExecAction((word,))) for word in "abcd")


def pre_stop(text: str) -> LifecycleHandler | None:
    """What a preStop is read as."""
    return parse_container(f'{{"preStop":{text}}}').pre_stop


def test_a_declaration_is_read_as_kubernetes_writes_it() -> None:
    """The handlers, with all of their fields, become the records that handlers get."""
    text = """{
        "postStart": {"exec": {"command": ["/bin/sh", "-c", "echo \\"hi\\" > /tmp/x", ""]}},
        "preStop": {"httpGet": {"path": "/stop?now=1", "port": "admin", "host": "10.0.0.1", "scheme": "HTTPS",
            "httpHeaders": [{"name": "X-A", "value": "1"}, {"name": "x-a", "value": ""}, {"name": "Host"}]}}
    }"""
    get = HttpGetAction(
        port="admin",
        path="/stop?now=1",
        host="10.0.0.1",
        scheme="HTTPS",
        headers=(("X-A", "1"), ("x-a", ""), ("Host", "")),
    )
    assert parse_container(text) == Lifecycle(
        post_start=LifecycleHandler(ExecAction(("/bin/sh", "-c", 'echo "hi" > /tmp/x', ""))),
        pre_stop=LifecycleHandler(get),
    )
    assert parse_container('{"postStart":{"sleep":{"seconds":0}},"preStop":{"tcpSocket":{"port":"a"}}}') == Lifecycle(
        LifecycleHandler(SleepAction(0)), LifecycleHandler(TcpSocketAction("a"))
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"httpGet":{"port":80}}',
        '{"httpGet":{"port":80,"path":"","host":"","scheme":""}}',
        '{"httpGet":{"port":80,"path":null,"host":null,"scheme":null,"httpHeaders":null,"expectStatus":null}}',
        '{"exec":null,"sleep":null,"httpGet":{"port":80,"httpHeaders":[],"url":null}}',
        '{"httpGet":{"port":80},"run":null,"timeoutSeconds":null,"retry":null,"onFailure":null}',
        '{"httpGet":{"port":80},"retry":{"attempts":1,"backoffSeconds":null,"maxBackoffSeconds":null}}',
    ],
)
def test_null_and_empty_mean_the_default(text: str) -> None:
    """Kubernetes' API server reads null as absent, and gives an empty path, scheme and host their defaults."""
    assert pre_stop(text) == LifecycleHandler(HttpGetAction(port=80))
    assert parse_container(f'{{"postStart":null,"preStop":{text},"postStop":null}}') == Lifecycle(
        pre_stop=LifecycleHandler(HttpGetAction(port=80))
    )


@pytest.mark.parametrize(
    ("text", "timeout", "retry"),
    [
        ("", None, Retry()),
        (',"timeoutSeconds":1.5', 1.5, Retry()),
        (',"timeoutSeconds":604800,"retry":{"attempts":100}', 604800.0, Retry(100, 1.0, 30.0)),
        (',"retry":{"attempts":3,"backoffSeconds":0.25,"maxBackoffSeconds":2}', None, Retry(3, 0.25, 2.0)),
        (',"retry":{"attempts":3,"backoffSeconds":3600}', None, Retry(3, 3600.0, 3600.0)),
        (',"retry":{"attempts":3,"backoffSeconds":5}', None, Retry(3, 5.0, 30.0)),
        (',"retry":{"attempts":3,"maxBackoffSeconds":0.5}', None, Retry(3, 0.5, 0.5)),
        (',"retry":{"attempts":3,"maxBackoffSeconds":60}', None, Retry(3, 1.0, 60.0)),
    ],
)
def test_a_hook_says_how_long_and_how_often_it_is_tried(text: str, timeout: float | None, retry: Retry) -> None:
    """Kubernetes' one attempt without a bound is the default; a pause is never above the longest."""
    assert pre_stop(f'{{"exec":{{"command":["a"]}}{text}}}') == LifecycleHandler(A.action, timeout, retry)


@pytest.mark.parametrize(
    ("text", "retry"),
    [
        ("", Retry(None)),
        (',"retry":{}', Retry(None)),
        (',"retry":{"attempts":"unlimited","backoffSeconds":2}', Retry(None, 2.0)),
        (',"retry":{"backoffSeconds":0.1,"maxBackoffSeconds":1}', Retry(None, 0.1, 1.0)),
        (',"retry":{"attempts":1}', Retry(1)),
        (',"retry":{"attempts":5,"maxBackoffSeconds":0.1}', Retry(5, 0.1, 0.1)),
    ],
)
def test_a_post_stop_is_tried_until_it_is_delivered_unless_it_says_otherwise(text: str, retry: Retry) -> None:
    """Nothing waits for it, and a receiver that is down for a while still gets it."""
    read = parse_container(f'{{"postStop":{{"httpGet":{{"port":1}}{text}}}}}')
    assert read == Lifecycle(post_stop=LifecycleHandler(HttpGetAction(1), retry=retry))


@pytest.mark.parametrize(("text", "choice"), [("kill", OnFailure.KILL), ("ignore", OnFailure.IGNORE)])
def test_a_post_start_says_what_its_failure_does(text: str, choice: OnFailure) -> None:
    """Kubernetes kills; only a postStart may choose."""
    read = parse_container(f'{{"postStart":{{"exec":{{"command":["a"]}},"onFailure":"{text}"}}}}')
    assert read == Lifecycle(LifecycleHandler(A.action, on_failure=choice))


@pytest.mark.parametrize(
    ("declared", "ranges", "canonical"),
    [
        ("200", ((200, 200),), 200),
        ('"2xx"', ((200, 299),), "2xx"),
        ("[204]", ((204, 204),), 204),
        ('["2xx",204,"2xx"]', ((200, 299),), "2xx"),
        ('["5xx",200,201,300,299,"4xx"]', ((200, 201), (299, 300), (400, 599)), [200, 201, 299, 300, "4xx", "5xx"]),
        ('[299,"3xx",400]', ((299, 400),), [299, "3xx", 400]),
    ],
)
def test_expected_statuses_are_kept_as_ranges(
    declared: str, ranges: tuple[tuple[int, int], ...], canonical: object
) -> None:
    """Whichever way they are written, they are the same statuses, and recorded in one way."""
    read = pre_stop(f'{{"httpGet":{{"port":1,"expectStatus":{declared}}}}}')
    assert read == LifecycleHandler(HttpGetAction(1, expect_status=ranges))
    assert json.loads(to_json(read))["httpGet"]["expectStatus"] == canonical


@pytest.mark.parametrize("hook", Hook)
def test_the_nodes_rules_may_do_more(hook: Hook) -> None:
    """A rule, read from TOML, may run commands on the node and name any URL; what is said elsewhere holds for it."""
    rule = tomllib.loads("""
        run = {timeoutSeconds = 2, run = {command = ["a"]}}
        url = {httpGet = {url = "https://[::1]:8443/a?b=c", httpHeaders = [{name = "A"}], expectStatus = ["2xx"]}}
    """)
    retry = Retry(None) if hook is Hook.POST_STOP else Retry()
    assert parse_handler(Place("r"), rule["run"], hook, trusted=True) == LifecycleHandler(RunAction(("a",)), 2.0, retry)
    assert parse_handler(Place("r"), rule["url"], hook, trusted=True) == LifecycleHandler(
        HttpGetAction(headers=(("A", ""),), expect_status=((200, 299),), url="https://[::1]:8443/a?b=c"), retry=retry
    )


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ('{"exec":{"command":["/bin/sh","-c","a \\u0026\\u0026 b"]}}', ExecAction(("/bin/sh", "-c", "a && b"))),
        (
            '{"httpGet":{"path":"/x","port":"web","host":"h","scheme":"HTTPS","httpHeaders":[{"name":"A","value":"b"}]}}',
            HttpGetAction("web", "/x", "h", "HTTPS", (("A", "b"),)),
        ),
        ('{"httpGet":{"port":80,"expectStatus":true,"url":1}}', HttpGetAction(80)),
        ('{"sleep":{"seconds":99999999999}}', SleepAction(99999999999)),
        ('{"tcpSocket":{"port":1,"new":{}}}', TcpSocketAction(1)),
        ('{"exec":{"command":["a"],"new":[]},"new":1,"timeoutSeconds":"x","run":{},"retry":0}', A.action),
        (json.dumps({"exec": {"command": ["a"] * 5000}}), ExecAction(("a",) * 5000)),
    ],
)
def test_a_kubelets_own_handler_is_read_as_kubernetes_means_it(text: str, action: Action) -> None:
    """Neither our fields nor our bounds are a kubelet's, and a newer one's fields are no mistake."""
    assert parse_kubelet(text) == action


@pytest.mark.parametrize("text", ["{}", '{"postStart":null,"preStop":null}', " {\n} "])
def test_a_declaration_may_declare_nothing(text: str) -> None:
    """An empty object has no hooks and is no mistake."""
    assert parse_container(text) == Lifecycle()


@pytest.mark.parametrize(
    "host", ["localhost", "a.example.com.", "A_b.example", "127.0.0.1", "::1", "fd00::2", "x-1", "1a"]
)
def test_hosts_and_addresses_are_kept_as_they_are_declared(host: str) -> None:
    """Names, also with an underscore or a final dot, and addresses of both families are taken."""
    text = json.dumps({"preStop": {"httpGet": {"port": 1, "host": host}}})
    assert parse_container(text) == Lifecycle(pre_stop=LifecycleHandler(HttpGetAction(port=1, host=host)))


@pytest.mark.parametrize("port", [1, 65535, "a", "http", "8080-a", "a-1-b", "abcdefghijklmno"])
def test_ports_are_numbers_or_names(port: int | str) -> None:
    """Kubernetes' IsValidPortName says which names."""
    text = json.dumps({"preStop": {"httpGet": {"port": port}}})
    assert parse_container(text) == Lifecycle(pre_stop=LifecycleHandler(HttpGetAction(port=port)))


def test_a_pod_declares_by_name_and_for_all() -> None:
    """A null entry is the same as none."""
    text = '{"web":{"preStop":{"exec":{"command":["a"]}}},"*":{"postStart":{"exec":{"command":["b"]}}},"x":null}'
    assert parse_pod(text) == {"web": Lifecycle(pre_stop=A), "*": Lifecycle(post_start=B)}


def annotation(hooks: dict[str, LifecycleHandler]) -> dict[str, object]:
    """One Lifecycle as JSON's objects."""
    return {name: json.loads(to_json(handler)) for name, handler in hooks.items()}


RETRIED = LifecycleHandler(D.action, 5.0, Retry(3), OnFailure.IGNORE)
GET = LifecycleHandler(HttpGetAction(1), retry=Retry(None))


@pytest.mark.parametrize(
    ("own", "named", "everyone", "expected"),
    [
        (None, None, None, []),
        (None, None, {"preStop": A}, [("preStop", A, POD)]),
        (None, {"preStop": B}, {"preStop": A}, [("preStop", B, POD)]),
        ({"preStop": C}, {"preStop": B}, {"preStop": A}, [("preStop", C, CONTAINER)]),
        ({"preStop": C}, None, {"preStop": A}, [("preStop", C, CONTAINER)]),
        (
            {"postStart": C},
            {"preStop": B, "postStop": GET},
            {"preStop": A, "postStart": D},
            [("postStart", C, CONTAINER), ("preStop", B, POD), ("postStop", GET, POD)],
        ),
        ({"postStart": C}, {}, {"postStart": RETRIED}, [("postStart", C, CONTAINER)]),
        ({}, {"postStart": RETRIED}, {"postStart": C}, [("postStart", RETRIED, POD)]),
        ({}, {}, {"preStop": A}, [("preStop", A, POD)]),
    ],
)
def test_each_hook_comes_whole_from_the_most_specific_place_that_declares_it(
    own: dict[str, LifecycleHandler] | None,
    named: dict[str, LifecycleHandler] | None,
    everyone: dict[str, LifecycleHandler] | None,
    expected: list[tuple[str, LifecycleHandler, str]],
) -> None:
    """The container's annotation wins over the pod's entry for its name, and that over ``*``, hook by hook."""
    entries = {"web": named, "*": everyone, "other": {"preStop": D}}
    pod = {name: annotation(hooks) for name, hooks in entries.items() if hooks is not None}
    container = {} if own is None else {KEY: json.dumps(annotation(own))}
    assert effective("web", container, {KEY: json.dumps(pod)}) == tuple(
        Declared(Hook(hook), handler, source) for hook, handler, source in expected
    )


def test_annotations_without_the_key_declare_nothing() -> None:
    """Nobody else's annotation is looked at."""
    assert effective("web", {"a": "{"}, {"b": "{"}) == ()


def test_a_pod_annotation_that_is_not_needed_is_still_read() -> None:
    """A mistake is said when it is made, not when the last annotation above it is taken away."""
    own = {KEY: '{"postStart":{"exec":{"command":["a"]}},"preStop":{"exec":{"command":["a"]}}}'}
    with pytest.raises(DeclarationError, match="of the pod"):
        effective("web", own, {KEY: '{"other":{"preStop":{}}}'})


def test_a_recorded_handler_may_be_longer_than_the_declaration_was() -> None:
    """What was accepted once is not refused by recovery because its canonical form is longer."""
    begin, end = '{"preStop":{"httpGet":{"port":1,"httpHeaders":[%s],"path":"', '"}}}'
    begin %= ",".join(['{"name":"a"}'] * 100)
    accepted = parse_container(begin + "p" * (MAX_BYTES - len(begin + end)) + end).pre_stop
    assert accepted is not None
    assert len(to_json(accepted)) > MAX_BYTES
    assert handler_from_json(to_json(accepted)) == accepted


@pytest.mark.parametrize(
    ("action", "recorded", "line"),
    [
        (ExecAction(("sh", "-c", "true")), '{"exec":{"command":["sh","-c","true"]}}', "exec [sh -c true]"),
        (
            ExecAction(("sh", "-c", "é\x1b[2J\n" + "x" * 99)),
            '{"exec":{"command":["sh","-c","é\\u001b[2J\\n' + "x" * 99 + '"]}}',
            r"exec [sh -c é\x1b[2J\n" + "x" * 36 + "…]",
        ),
        (HttpGetAction(8080, "/path"), '{"httpGet":{"path":"/path","port":8080}}', "httpGet http://:8080/path"),
        (
            HttpGetAction("web", "x?y", "::1", "HTTPS", (("Authorization", "s3cret"),), ((200, 299), (404, 404))),
            (
                '{"httpGet":{"path":"x?y","port":"web","host":"::1","scheme":"HTTPS",'
                '"httpHeaders":[{"name":"Authorization","value":"s3cret"}],"expectStatus":["2xx",404]}}'
            ),
            "httpGet https://[::1]:web/x?y",
        ),
        (
            HttpGetAction(url="https://a/b?key=s3cret", expect_status=((200, 200),)),
            '{"httpGet":{"url":"https://a/b?key=s3cret","expectStatus":200}}',
            "httpGet https://a/b",
        ),
        (SleepAction(5), '{"sleep":{"seconds":5}}', "sleep 5 s"),
        (TcpSocketAction(80), '{"tcpSocket":{"port":80}}', "tcpSocket :80"),
        (TcpSocketAction("a", "fd00::1"), '{"tcpSocket":{"port":"a","host":"fd00::1"}}', "tcpSocket [fd00::1]:a"),
        (
            RunAction(("a", "\t" * 60)),
            '{"run":{"command":["a","' + r"\t" * 60 + '"]}}',
            "run [a " + r"\t" * 25 + "\\…]",
        ),
    ],
)
def test_a_handler_has_one_record_and_one_line(action: Action, recorded: str, line: str) -> None:
    """The record is canonical JSON; the line is printable, at most 60 characters, and names no header."""
    assert to_json(LifecycleHandler(action)) == recorded
    assert describe(action) == line
    assert len(line) <= 60


@pytest.mark.parametrize(
    ("handler", "recorded"),
    [
        (
            LifecycleHandler(A.action, 5.0, Retry(3, 0.5, 30.0), OnFailure.IGNORE),
            (
                '{"exec":{"command":["a"]},"timeoutSeconds":5,'
                '"retry":{"attempts":3,"backoffSeconds":0.5,"maxBackoffSeconds":30},"onFailure":"ignore"}'
            ),
        ),
        (
            LifecycleHandler(SleepAction(0), 0.001, Retry(None)),
            (
                '{"sleep":{"seconds":0},"timeoutSeconds":0.001,'
                '"retry":{"attempts":"unlimited","backoffSeconds":1,"maxBackoffSeconds":30}}'
            ),
        ),
    ],
)
def test_a_policy_is_recorded_behind_its_handler(handler: LifecycleHandler, recorded: str) -> None:
    """In one order, and without what is the default."""
    assert to_json(handler) == recorded
    assert handler_from_json(recorded) == handler


@given(st.text(st.characters()), st.integers(1, 50))
def test_printable_text_is_printable_and_bounded(text: str, limit: int) -> None:
    """It can go to a terminal, a log line and a gRPC status, and it is the text itself if it may be."""
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    shown.encode()
    with contextlib.suppress(UnicodeEncodeError):
        assert (shown == text) == (text.isprintable() and len(text) <= limit)
