"""A declaration is read as Kubernetes means it, or refused with one message that a person can act on."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shim.errors import DeclarationError
from shim.lifecycle import (
    KEY,
    MAX_BYTES,
    Action,
    ExecAction,
    HttpGetAction,
    Lifecycle,
    action_from_json,
    describe,
    effective,
    parse_container,
    parse_pod,
    printable,
    to_json,
)

PORT = (
    "expected a number from 1 to 65535 or a port's name "
    '(at most 15 of a-z, 0-9 and inner single "-", one a letter), found '
)
HOST = "expected a host name or an IP address without brackets or port, found "
NAME = 'expected a container\'s name (a DNS label: lower-case letters, digits and "-", at most 63) or "*", found '

MALFORMED = {
    # not JSON, or too much of it
    "": "$: expected JSON, found a mistake at line 1, column 1: Expecting value",
    '{"preStop":\n {"exec" }}': "$: expected JSON, found a mistake at line 2, column 10: Expecting ':' delimiter",
    "{'preStop': {}}": (
        "$: expected JSON, found a mistake at line 1, column 2: Expecting property name enclosed in double quotes"
    ),
    '{"preStop":{"httpGet":{"port":NaN}}}': "$: expected JSON, found NaN, which JSON does not have",
    '{"preStop":{"httpGet":{"port":-Infinity}}}': "$: expected JSON, found -Infinity, which JSON does not have",
    "[" * 17: "$: expected at most 16 levels of arrays and objects, found more",
    '{"a":' * 5000: "$: expected at most 16 levels of arrays and objects, found more",
    "é" * (MAX_BYTES // 2 + 1): f"$: expected at most {MAX_BYTES} bytes, found {MAX_BYTES + 2}",
    # not an object
    "null": "$: expected an object, found null",
    "true": "$: expected an object, found the boolean true",
    "[]": "$: expected an object, found an empty array",
    "[1]": "$: expected an object, found an array",
    '"preStop"': '$: expected an object, found the string "preStop"',
    '""': "$: expected an object, found an empty string",
    # not the schema's fields
    '{"poststart":{}}': (
        '$: expected one of postStart, preStop, found the unknown field "poststart"; did you mean postStart?'
    ),
    '{"zzz":null}': '$: expected one of postStart, preStop, found the unknown field "zzz"',
    '{"\\u001b[31m\\u202e":1}': (r'$: expected one of postStart, preStop, found the unknown field "\x1b[31m\u202e"'),
    '{"\\ud800":1}': r'$: expected one of postStart, preStop, found the unknown field "\ud800"',
    '{"stopSignal":"SIGUSR1"}': (
        "$: expected one of postStart, preStop, "
        "found stopSignal, which Kubernetes has and hookshim does not carry out yet"
    ),
    '{"preStop":null,"preStop":null}': '$: expected each key once, found "preStop" more than once',
    '{"preStop":{"exec":{"command":["a"],"command":["b"]}}}': (
        '$.preStop.exec: expected each key once, found "command" more than once'
    ),
    # not one handler
    '{"preStop":[]}': "$.preStop: expected an object, found an empty array",
    '{"preStop":{}}': "$.preStop: expected exactly one of exec, httpGet, found none",
    '{"preStop":{"exec":null}}': "$.preStop: expected exactly one of exec, httpGet, found none",
    '{"postStart":{"exec":{"command":["a"]},"httpGet":{"port":1}}}': (
        "$.postStart: expected exactly one of exec, httpGet, found exec and httpGet"
    ),
    '{"preStop":{"sleep":{"seconds":5}}}': (
        "$.preStop: expected one of exec, httpGet, "
        "found sleep, which Kubernetes has and hookshim does not carry out yet"
    ),
    '{"preStop":{"tcpSocket":{"port":5}}}': (
        "$.preStop: expected one of exec, httpGet, "
        "found tcpSocket, which Kubernetes has and hookshim does not carry out yet"
    ),
    '{"preStop":{"httpget":{"port":5}}}': (
        '$.preStop: expected one of exec, httpGet, found the unknown field "httpget"; did you mean httpGet?'
    ),
    # exec
    '{"preStop":{"exec":{}}}': "$.preStop.exec.command: expected an array of strings, found nothing",
    '{"preStop":{"exec":{"cmd":["a"]}}}': (
        '$.preStop.exec: expected command, found the unknown field "cmd"; did you mean command?'
    ),
    '{"preStop":{"exec":{"command":"sh -c true"}}}': (
        '$.preStop.exec.command: expected an array of strings, found the string "sh -c true"'
    ),
    '{"preStop":{"exec":{"command":[]}}}': (
        "$.preStop.exec.command: expected an array of at least one string, found an empty array"
    ),
    '{"postStart":{"exec":{"command":["a",5]}}}': (
        "$.postStart.exec.command[1]: expected a string, found the number 5"
    ),
    '{"postStart":{"exec":{"command":[null]}}}': "$.postStart.exec.command[0]: expected a string, found null",
    '{"postStart":{"exec":{"command":[["a"]]}}}': "$.postStart.exec.command[0]: expected a string, found an array",
    '{"postStart":{"exec":{"command":["","a"]}}}': (
        "$.postStart.exec.command[0]: expected a program, found an empty string"
    ),
    '{"postStart":{"exec":{"command":["a","b\\u0000"]}}}': (
        "$.postStart.exec.command[1]: expected a string without NUL, found one at character 2"
    ),
    '{"postStart":{"exec":{"command":["a\\udc80"]}}}': (
        "$.postStart.exec.command[0]: expected Unicode text, found half a surrogate pair at character 2"
    ),
    # httpGet
    '{"preStop":{"httpGet":{}}}': f"$.preStop.httpGet.port: {PORT}nothing",
    '{"preStop":{"httpGet":{"port":0}}}': f"$.preStop.httpGet.port: {PORT}the number 0",
    '{"preStop":{"httpGet":{"port":65536}}}': f"$.preStop.httpGet.port: {PORT}the number 65536",
    '{"preStop":{"httpGet":{"port":80.0}}}': f"$.preStop.httpGet.port: {PORT}the number 80.0",
    '{"preStop":{"httpGet":{"port":true}}}': f"$.preStop.httpGet.port: {PORT}the boolean true",
    '{"preStop":{"httpGet":{"port":%s}}}' % ("9" * 5000): (f"$.preStop.httpGet.port: {PORT}a number out of all bounds"),
    '{"preStop":{"httpGet":{"port":"8080"}}}': (
        f'$.preStop.httpGet.port: {PORT}the string "8080"; a number is written without quotes'
    ),
    '{"preStop":{"httpGet":{"port":""}}}': f"$.preStop.httpGet.port: {PORT}an empty string",
    '{"preStop":{"httpGet":{"port":"a--b"}}}': f'$.preStop.httpGet.port: {PORT}the string "a--b"',
    '{"preStop":{"httpGet":{"port":"-a"}}}': f'$.preStop.httpGet.port: {PORT}the string "-a"',
    '{"preStop":{"httpGet":{"port":"a\\n"}}}': rf'$.preStop.httpGet.port: {PORT}the string "a\n"',
    '{"preStop":{"httpGet":{"port":"abcdefghijklmnop"}}}': (
        f'$.preStop.httpGet.port: {PORT}the string "abcdefghijklmnop"'
    ),
    '{"preStop":{"httpGet":{"port":1,"url":"x"}}}': (
        '$.preStop.httpGet: expected one of path, port, host, scheme, httpHeaders, found the unknown field "url"'
    ),
    '{"preStop":{"httpGet":{"port":1,"path":7}}}': ("$.preStop.httpGet.path: expected a string, found the number 7"),
    '{"preStop":{"httpGet":{"port":1,"scheme":"http"}}}': (
        '$.preStop.httpGet.scheme: expected HTTP or HTTPS, found the string "http"'
    ),
    '{"preStop":{"httpGet":{"port":1,"host":"http://a"}}}': (
        f'$.preStop.httpGet.host: {HOST}the string "http://a"; the scheme has a field of its own'
    ),
    '{"preStop":{"httpGet":{"port":1,"host":"[::1]"}}}': f'$.preStop.httpGet.host: {HOST}the string "[::1]"',
    '{"preStop":{"httpGet":{"port":1,"host":"a:80"}}}': f'$.preStop.httpGet.host: {HOST}the string "a:80"',
    '{"preStop":{"httpGet":{"port":1,"host":"999.1.1.1"}}}': (f'$.preStop.httpGet.host: {HOST}the string "999.1.1.1"'),
    '{"preStop":{"httpGet":{"port":1,"host":"fe80::1%eth0"}}}': (
        f'$.preStop.httpGet.host: {HOST}the string "fe80::1%eth0"'
    ),
    '{"preStop":{"httpGet":{"port":1,"host":"a@b"}}}': f'$.preStop.httpGet.host: {HOST}the string "a@b"',
    # headers, of which no value is shown
    '{"preStop":{"httpGet":{"port":1,"httpHeaders":{"Authorization":"s3cret"}}}}': (
        "$.preStop.httpGet.httpHeaders: expected an array of objects, found an object"
    ),
    '{"preStop":{"httpGet":{"port":1,"httpHeaders":["Authorization: s3cret"]}}}': (
        "$.preStop.httpGet.httpHeaders[0]: expected an object, found a string"
    ),
    '{"preStop":{"httpGet":{"port":1,"httpHeaders":[{"value":"a"}]}}}': (
        "$.preStop.httpGet.httpHeaders[0].name: expected a string, found nothing"
    ),
    '{"preStop":{"httpGet":{"port":1,"httpHeaders":[{"name":"Authorization: s3cret","value":"a"}]}}}': (
        "$.preStop.httpGet.httpHeaders[0].name: expected an HTTP header's name (a token of RFC 9110), found a string"
    ),
    '{"preStop":{"httpGet":{"port":1,"httpHeaders":[{"name":"A","value":"b"},{"name":"A","value":9}]}}}': (
        "$.preStop.httpGet.httpHeaders[1].value: expected a string, found a number"
    ),
    '{"preStop":{"httpGet":{"port":1,"httpHeaders":[{"name":"A","value":"b\\r\\nC: d"}]}}}': (
        "$.preStop.httpGet.httpHeaders[0].value: expected no control characters, found one at character 2"
    ),
    '{"preStop":{"httpGet":{"port":1,"httpHeaders":[{"name":"Host","value":"a/b"}]}}}': (
        "$.preStop.httpGet.httpHeaders[0].value: expected a host with an optional port, found a string"
    ),
}

MALFORMED_POD = {
    "7": "$: expected an object, found the number 7",
    '{"Web":{}}': f'$: {NAME}the key "Web"',
    '{"":{}}': f'$: {NAME}the key ""',
    '{"a.b":{}}': f'$: {NAME}the key "a.b"',
    '{"preStop":{"exec":{"command":["a"]}}}': f'$: {NAME}the key "preStop"',
    '{"web":{"exec":{"command":["a"]}}}': ('$.web: expected one of postStart, preStop, found the unknown field "exec"'),
    '{"my-app":{"preStop":{}}}': '$["my-app"].preStop: expected exactly one of exec, httpGet, found none',
    '{"*":{"preStop":{"exec":{"command":[1]}}}}': (
        '$["*"].preStop.exec.command[0]: expected a string, found the number 1'
    ),
    '{"*":{},"*":{}}': '$: expected each key once, found "*" more than once',
}

A, B, C, D = (ExecAction((word,)) for word in "abcd")


def test_a_declaration_is_read_as_kubernetes_writes_it() -> None:
    """The handlers, with all of their fields, become the records that handlers get."""
    text = """{
        "postStart": {"exec": {"command": ["/bin/sh", "-c", "echo \\"hi\\" > /tmp/x", ""]}},
        "preStop": {"httpGet": {"path": "/stop?now=1", "port": "admin", "host": "10.0.0.1", "scheme": "HTTPS",
            "httpHeaders": [{"name": "X-A", "value": "1"}, {"name": "x-a", "value": ""}, {"name": "Host"}]}}
    }"""
    assert parse_container(text) == Lifecycle(
        post_start=ExecAction(("/bin/sh", "-c", 'echo "hi" > /tmp/x', "")),
        pre_stop=HttpGetAction(
            port="admin",
            path="/stop?now=1",
            host="10.0.0.1",
            scheme="HTTPS",
            headers=(("X-A", "1"), ("x-a", ""), ("Host", "")),
        ),
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"preStop":{"httpGet":{"port":80}}}',
        '{"preStop":{"httpGet":{"port":80,"path":"","host":"","scheme":""}}}',
        '{"preStop":{"httpGet":{"port":80,"path":null,"host":null,"scheme":null,"httpHeaders":null}}}',
        '{"postStart":null,"preStop":{"exec":null,"sleep":null,"httpGet":{"port":80,"httpHeaders":[]}}}',
    ],
)
def test_null_and_empty_mean_the_default(text: str) -> None:
    """Kubernetes' API server reads null as absent, and gives an empty path, scheme and host their defaults."""
    assert parse_container(text) == Lifecycle(pre_stop=HttpGetAction(port=80))


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
    assert parse_container(text) == Lifecycle(pre_stop=HttpGetAction(port=1, host=host))


@pytest.mark.parametrize("port", [1, 65535, "a", "http", "8080-a", "a-1-b", "abcdefghijklmno"])
def test_ports_are_numbers_or_names(port: int | str) -> None:
    """Kubernetes' IsValidPortName says which names."""
    text = json.dumps({"preStop": {"httpGet": {"port": port}}})
    assert parse_container(text) == Lifecycle(pre_stop=HttpGetAction(port=port))


@pytest.mark.parametrize(("text", "message"), MALFORMED.items(), ids=[text[:60] for text in MALFORMED])
def test_a_malformed_container_annotation_is_refused_with_a_message_to_act_on(text: str, message: str) -> None:
    """The message names the key, whose annotation it is, the path, what was expected and what was found."""
    with pytest.raises(DeclarationError) as refused:
        parse_container(text)
    assert str(refused.value) == f"annotation hookshim.dev/lifecycle of the container: {message}"


@pytest.mark.parametrize(("text", "message"), MALFORMED_POD.items(), ids=MALFORMED_POD)
def test_a_malformed_pod_annotation_is_refused_with_a_message_to_act_on(text: str, message: str) -> None:
    """The same for the pod's annotation, whose paths begin with the container's name."""
    with pytest.raises(DeclarationError) as refused:
        parse_pod(text)
    assert str(refused.value) == f"annotation hookshim.dev/lifecycle of the pod: {message}"


def test_a_pod_declares_by_name_and_for_all() -> None:
    """A null entry is the same as none."""
    text = '{"web":{"preStop":{"exec":{"command":["a"]}}},"*":{"postStart":{"exec":{"command":["b"]}}},"x":null}'
    assert parse_pod(text) == {"web": Lifecycle(pre_stop=A), "*": Lifecycle(post_start=B)}


def annotation(**hooks: Action) -> dict[str, object]:
    """One Lifecycle as JSON's objects."""
    return {name: json.loads(to_json(action)) for name, action in hooks.items()}


@pytest.mark.parametrize(
    ("own", "named", "everyone", "expected"),
    [
        (None, None, None, Lifecycle()),
        (None, None, {"preStop": A}, Lifecycle(pre_stop=A)),
        (None, {"preStop": B}, {"preStop": A}, Lifecycle(pre_stop=B)),
        ({"preStop": C}, {"preStop": B}, {"preStop": A}, Lifecycle(pre_stop=C)),
        ({"preStop": C}, None, {"preStop": A}, Lifecycle(pre_stop=C)),
        ({"postStart": C}, {"preStop": B}, {"preStop": A, "postStart": D}, Lifecycle(C, B)),
        ({}, {}, {"preStop": A}, Lifecycle(pre_stop=A)),
    ],
)
def test_each_hook_comes_from_the_most_specific_place_that_declares_it(
    own: dict[str, Action] | None,
    named: dict[str, Action] | None,
    everyone: dict[str, Action] | None,
    expected: Lifecycle,
) -> None:
    """The container's annotation wins over the pod's entry for its name, and that over ``*``, hook by hook."""
    entries = {"web": named, "*": everyone, "other": {"preStop": D}}
    pod = {name: annotation(**hooks) for name, hooks in entries.items() if hooks is not None}
    container = {} if own is None else {KEY: json.dumps(annotation(**own))}
    assert effective("web", container, {KEY: json.dumps(pod)}) == expected


def test_annotations_without_the_key_declare_nothing() -> None:
    """Nobody else's annotation is looked at."""
    assert effective("web", {"a": "{"}, {"b": "{"}) == Lifecycle()


def test_a_pod_annotation_that_is_not_needed_is_still_read() -> None:
    """A mistake is said when it is made, not when the last annotation above it is taken away."""
    own = {KEY: '{"postStart":{"exec":{"command":["a"]}},"preStop":{"exec":{"command":["a"]}}}'}
    with pytest.raises(DeclarationError, match="of the pod"):
        effective("web", own, {KEY: '{"other":{"preStop":{}}}'})


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
hosts = st.sampled_from(["", "localhost", "10.1.2.3", "::1", "a_b.example."])
header_names = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1).filter(lambda name: name.lower() != "host")
header_values = st.text(st.characters(exclude_categories=["Cs", "Cc"]))
execs = st.builds(lambda first, rest: ExecAction((first, *rest)), words.filter(bool), st.lists(words, max_size=4))
gets = st.builds(
    HttpGetAction,
    port=st.integers(1, 65535) | st.from_regex(r"[a-z][a-z0-9]{0,14}", fullmatch=True),
    path=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    host=hosts,
    scheme=st.sampled_from(["HTTP", "HTTPS"]),
    headers=st.lists(st.tuples(header_names, header_values), max_size=4).map(tuple),
)
actions = execs | gets

FIELDS = [
    "postStart", "preStop", "exec", "httpGet", "command", "port", "path", "host", "scheme", "httpHeaders", "name",
    "value", "sleep", "*", "web",
]  # fmt: skip
near_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["HTTP", "8080", "http"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner, max_size=4),
    max_leaves=30,
)  # fmt: skip


@given(actions)
def test_a_recorded_handler_is_read_back_as_it_was(action: Action) -> None:
    """What the journal keeps is the declaration; recovery sends exactly the same."""
    assert action_from_json(to_json(action)) == action
    assert to_json(action_from_json(to_json(action))) == to_json(action)


@given(actions, actions)
def test_what_is_recorded_is_a_declaration_too(post_start: Action, pre_stop: Action) -> None:
    """The journal's JSON is the annotation's own schema."""
    text = f'{{"postStart":{to_json(post_start)},"preStop":{to_json(pre_stop)}}}'
    assert parse_container(text) == Lifecycle(post_start, pre_stop)


def one_answer(text: str) -> None:
    """Read it both ways: a value, or one clean error. Anything else fails the test."""
    for parse in (parse_container, parse_pod):
        try:
            read = parse(text)
        except DeclarationError as refused:
            message = str(refused)
            assert message.startswith("annotation hookshim.dev/lifecycle of the ")
            assert ": $" in message
            assert "expected " in message
            assert ", found " in message
            assert message.isprintable()
            assert len(message) < 1000
            message.encode()
        else:
            lives = read.values() if isinstance(read, dict) else [read]
            for life in lives:
                for action in (life.post_start, life.pre_stop):
                    if action is not None:
                        assert action_from_json(to_json(action)) == action


@given(st.text() | st.text(alphabet='{}[]":,\\ \n\t01eE.-untrfalsINfiy\ud800\0'))
@example("[" * 100_000)
@example('{"' + '\\"' * 30_000)
@example("9" * 60_000)
@example('{"preStop":{"httpGet":{"port":1e999}}}')
@example('{"preStop":{"exec":{"command":["\\ud83d\\ude00"]}}}')
@example("\ufeff{}")
def test_any_text_is_a_declaration_or_one_clean_refusal(text: str) -> None:
    """Whoever may write an annotation cannot crash what reads it, nor reach a terminal through its message."""
    one_answer(text)


@given(near_json)
def test_any_json_is_a_declaration_or_one_clean_refusal(value: object) -> None:
    """The same for JSON that looks like a declaration, of which random text has little."""
    one_answer(json.dumps(value))


def damaged(draw: st.DrawFn, value: object) -> object:
    """The value with one thing in it, or itself, replaced."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        chosen = draw(st.sampled_from(list(value)))
        return {key: damaged(draw, one) if key == chosen else one for key, one in value.items()}
    if isinstance(value, list) and value and draw(st.booleans()):
        chosen = draw(st.integers(0, len(value) - 1))
        return [damaged(draw, one) if index == chosen else one for index, one in enumerate(value)]
    return draw(near_json)


@given(st.composite(lambda draw: damaged(draw, {"preStop": json.loads(to_json(draw(actions)))}))())
def test_a_declaration_with_one_thing_wrong_is_read_or_refused_cleanly(value: object) -> None:
    """The same for valid declarations in which one value is replaced."""
    one_answer(json.dumps(value))


@pytest.mark.parametrize("text", ["", "{}", "[]", "exec", '{"exec":{"command":[]}}', '{"preStop":{}}'])
def test_what_is_no_handler_is_not_read_from_the_journal(text: str) -> None:
    """A damaged record is said to be one."""
    with pytest.raises(DeclarationError, match=r"the recorded handler: \$.*: expected "):
        action_from_json(text)


def test_a_recorded_handler_may_be_longer_than_the_declaration_was() -> None:
    """What was accepted once is not refused by recovery because its canonical form is longer."""
    headers = ",".join(['{"name":"a"}'] * 5000)
    accepted = parse_container(f'{{"preStop":{{"httpGet":{{"port":1,"httpHeaders":[{headers}]}}}}}}').pre_stop
    assert accepted is not None
    assert len(to_json(accepted)) > MAX_BYTES
    assert action_from_json(to_json(accepted)) == accepted


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
            HttpGetAction("web", "x?y", "::1", "HTTPS", (("Authorization", "s3cret"),)),
            (
                '{"httpGet":{"path":"x?y","port":"web","host":"::1","scheme":"HTTPS",'
                '"httpHeaders":[{"name":"Authorization","value":"s3cret"}]}}'
            ),
            "httpGet https://[::1]:web/x?y",
        ),
    ],
)
def test_a_handler_has_one_record_and_one_line(action: Action, recorded: str, line: str) -> None:
    """The record is canonical JSON; the line is printable, at most 60 characters, and names no header."""
    assert to_json(action) == recorded
    assert describe(action) == line
    assert len(line) <= 60


@given(st.text(st.characters()), st.integers(1, 50))
def test_printable_text_is_printable_and_bounded(text: str, limit: int) -> None:
    """It can go to a terminal, a log line and a gRPC status, and it is the text itself if it may be."""
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    shown.encode()
    with contextlib.suppress(UnicodeEncodeError):
        assert (shown == text) == (text.isprintable() and len(text) <= limit)
