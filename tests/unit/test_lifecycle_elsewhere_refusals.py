"""Handlers that no annotation of ours has, a rule's, a kubelet's and the journal's, are refused as clearly."""

from __future__ import annotations

import math
from datetime import date

import pytest

from shim.errors import DeclarationError
from shim.lifecycle import MAX_KUBELET_BYTES, handler_from_json, parse_handler, parse_kubelet
from shim.records import Hook
from shim.strictjson import Place

SLEEP = "expected an integer from 0 to 604800, found "
PORT = (
    "expected a number from 1 to 65535 or a port's name "
    '(at most 15 of a-z, 0-9 and inner single "-", one a letter), found '
)
URL = "expected an absolute http or https URL in ASCII, without user, backslash and fragment, found "

#: What is refused of a node's rule, whose values come from TOML.
MALFORMED_RULE: dict[str, tuple[Hook, object, str]] = {
    "no table": (Hook.PRE_STOP, 5, "$: expected an object, found the number 5"),
    "nothing": (Hook.PRE_STOP, {}, "$: expected exactly one of exec, httpGet, sleep, tcpSocket, run, found none"),
    "no postStop": (Hook.POST_STOP, {"retry": {}}, "$: expected exactly one of httpGet, run, found none"),
    "sleep after the end": (
        Hook.POST_STOP,
        {"sleep": {"seconds": 1}},
        (
            "$: expected one of httpGet, run, timeoutSeconds, retry, "
            "found sleep, which cannot be a postStop: the container has ended by then"
        ),
    ),
    "a date": (Hook.PRE_STOP, {"exec": date(2026, 1, 1)}, "$.exec: expected an object, found a date or a time"),
    "a number without end": (
        Hook.PRE_STOP,
        {"sleep": {"seconds": 10**4000}},
        f"$.sleep.seconds: {SLEEP}a number out of all bounds",
    ),
    "not a number": (
        Hook.PRE_STOP,
        {"exec": {"command": ["a"]}, "timeoutSeconds": math.nan},
        "$.timeoutSeconds: expected a number of seconds above 0 to 604800, found a number out of all bounds",
    ),
    "an empty command": (
        Hook.PRE_STOP,
        {"run": {"command": []}},
        "$.run.command: expected an array of at least one string, found an empty array",
    ),
    "a URL and its parts": (
        Hook.PRE_STOP,
        {"httpGet": {"url": "http://a/", "port": 1, "path": "/"}},
        "$.httpGet: expected url without path, port, host, scheme, found url and path, port",
    ),
    "a long URL": (
        Hook.PRE_STOP,
        {"httpGet": {"url": "http://a/" + "b" * 2040}},
        "$.httpGet.url: expected at most 2048 characters, found 2049",
    ),
    "no text": (Hook.PRE_STOP, {"httpGet": {"url": 1}}, "$.httpGet.url: expected a string, found the number 1"),
}

NOT_A_URL = [
    "", "a", "/a", "//a/b", "ftp://a/", "http:a", "http://", "http:///a", "http://:80/", "http://a:0/", "http://a:65536/",
    "http://a:b/", "http://u@a/", "http://u:s3cret@a/", "http://a/#b", "http://a\\@b/", "http://a b/", "http://é/",
    "http://a/\n", "http://[::1/", "http://[fe80::1%eth0]/", "http://[v1.a]/", "http://999.1.1.1/", "http://-/",
    "http://a:/", "http://[a]/", "http://[1.2.3.4]/", "http://a/\\b",
]  # fmt: skip


@pytest.mark.parametrize(("hook", "value", "message"), MALFORMED_RULE.values(), ids=MALFORMED_RULE)
def test_a_malformed_rule_is_refused_with_a_message_to_act_on(hook: Hook, value: object, message: str) -> None:
    """A node's rule gets the same messages, and the same bounds, with what only it may have."""
    with pytest.raises(DeclarationError) as refused:
        parse_handler(Place("rule a.toml"), value, hook, trusted=True)
    assert str(refused.value) == f"rule a.toml: {message}"


@pytest.mark.parametrize("url", NOT_A_URL)
def test_a_url_is_absolute_plain_and_means_the_same_to_everybody(url: str) -> None:
    """A URL with a user in it, or one that readers of URLs take apart in different ways, is refused and not shown."""
    with pytest.raises(DeclarationError) as refused:
        parse_handler(Place("rule a.toml"), {"httpGet": {"url": url}}, Hook.PRE_STOP, trusted=True)
    assert str(refused.value) == f"rule a.toml: $.httpGet.url: {URL}something else"


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "": "$: expected JSON, found a mistake at line 1, column 1: Expecting value",
        "[" * 17: "$: expected at most 16 levels of arrays and objects, found more",
        "null": "$: expected an object, found null",
        '{"preStop":{}}': "$: expected exactly one of exec, httpGet, sleep, tcpSocket, found none",
        '{"exec":{},"exec":{}}': '$: expected each key once, found "exec" more than once',
        '{"exec":{}}': "$.exec.command: expected an array of strings, found nothing",
        '{"exec":{"command":["a"]},"sleep":{"seconds":1}}': (
            "$: expected exactly one of exec, httpGet, sleep, tcpSocket, found exec and sleep"
        ),
        '{"httpGet":{"path":"/","port":"80","scheme":"HTTP"}}': (
            f'$.httpGet.port: {PORT}the string "80"; a number is written without quotes'
        ),
        '{"sleep":{"seconds":"5"}}': f'$.sleep.seconds: {SLEEP}the string "5"',
        '{"run":{"command":["a"]}}': "$: expected exactly one of exec, httpGet, sleep, tcpSocket, found none",
    }.items(),
)
def test_a_malformed_handler_of_a_kubelet_is_refused_with_its_annotation_named(text: str, message: str) -> None:
    """The annotation is Kubernetes', and so are its fields: what hookshim adds is not read there."""
    with pytest.raises(DeclarationError) as refused:
        parse_kubelet(text)
    assert str(refused.value) == f"annotation io.kubernetes.container.preStopHandler of the container: {message}"


def test_a_kubelets_handler_is_bounded() -> None:
    """No handler that a person wrote is as large."""
    with pytest.raises(DeclarationError) as refused:
        parse_kubelet(" " * (MAX_KUBELET_BYTES + 1))
    assert str(refused.value) == (
        "annotation io.kubernetes.container.preStopHandler of the container: "
        f"$: expected at most {MAX_KUBELET_BYTES} bytes, found {MAX_KUBELET_BYTES + 1}"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "": "$: expected JSON, found a mistake at line 1, column 1: Expecting value",
        "{}": "$: expected exactly one of exec, httpGet, sleep, tcpSocket, run, found none",
        "[]": "$: expected an object, found an empty array",
        '{"exec":{"command":[]}}': "$.exec.command: expected an array of at least one string, found an empty array",
        '{"preStop":{}}': (
            "$: expected one of exec, httpGet, sleep, tcpSocket, run, timeoutSeconds, retry, onFailure, "
            'found the unknown field "preStop"'
        ),
        '{"sleep":{"seconds":1},"retry":{}}': (
            '$.retry.attempts: expected "unlimited" or an integer from 1 to 100, found nothing'
        ),
    }.items(),
)
def test_what_is_no_handler_is_not_read_from_the_journal(text: str, message: str) -> None:
    """A damaged record is said to be one."""
    with pytest.raises(DeclarationError) as refused:
        handler_from_json(text)
    assert str(refused.value) == f"the recorded handler: {message}"
