"""What is no declaration is refused with one message that its author can act on: every text, word by word."""

from __future__ import annotations

import json

import pytest

from shim.errors import DeclarationError
from shim.lifecycle import (
    MAX_BYTES,
    MAX_ENTRIES,
    parse_container,
    parse_pod,
)

PORT = (
    "expected a number from 1 to 65535 or a port's name "
    '(at most 15 of a-z, 0-9 and inner single "-", one a letter), found '
)
HOST = "expected a host name or an IP address without brackets or port, found "
SLEEP = "expected an integer from 0 to 604800, found "
STATUS = 'expected a status from 200 to 599, a class of them as "2xx"'
HANDLER = "one of exec, httpGet, sleep, tcpSocket, timeoutSeconds, retry"
HTTP_GET = "one of path, port, host, scheme, httpHeaders, expectStatus"
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
        '$: expected one of postStart, preStop, postStop, found the unknown field "poststart"; did you mean postStart?'
    ),
    '{"zzz":null}': '$: expected one of postStart, preStop, postStop, found the unknown field "zzz"',
    '{"\\u001b[31m\\u202e":1}': (
        r'$: expected one of postStart, preStop, postStop, found the unknown field "\x1b[31m\u202e"'
    ),
    '{"\\ud800":1}': r'$: expected one of postStart, preStop, postStop, found the unknown field "\ud800"',
    '{"stopSignal":"SIGUSR1"}': (
        "$: expected one of postStart, preStop, postStop, "
        "found stopSignal, which Kubernetes has and hookshim does not carry out"
    ),
    '{"preStop":null,"preStop":null}': '$: expected each key once, found "preStop" more than once',
    '{"preStop":{"exec":{"command":["a"],"command":["b"]}}}': (
        '$.preStop.exec: expected each key once, found "command" more than once'
    ),
    # not one handler
    '{"preStop":[]}': "$.preStop: expected an object, found an empty array",
    '{"preStop":{}}': "$.preStop: expected exactly one of exec, httpGet, sleep, tcpSocket, found none",
    '{"preStop":{"exec":null}}': "$.preStop: expected exactly one of exec, httpGet, sleep, tcpSocket, found none",
    '{"postStart":{"exec":{"command":["a"]},"httpGet":{"port":1}}}': (
        "$.postStart: expected exactly one of exec, httpGet, sleep, tcpSocket, found exec and httpGet"
    ),
    '{"preStop":{"httpget":{"port":5}}}': (
        f'$.preStop: expected {HANDLER}, found the unknown field "httpget"; did you mean httpGet?'
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
        f"$.preStop.httpGet: expected {HTTP_GET}, found url, which only the node's rules may have"
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
    '{"preStop":{"httpGet":{"port":1,"httpHeaders":[{"name":"A","value":true}]}}}': (
        "$.preStop.httpGet.httpHeaders[0].value: expected a string, found a boolean"
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
    '{"web":{"exec":{"command":["a"]}}}': (
        '$.web: expected one of postStart, preStop, postStop, found the unknown field "exec"'
    ),
    '{"my-app":{"preStop":{}}}': (
        '$["my-app"].preStop: expected exactly one of exec, httpGet, sleep, tcpSocket, found none'
    ),
    '{"*":{"preStop":{"exec":{"command":[1]}}}}': (
        '$["*"].preStop.exec.command[0]: expected a string, found the number 1'
    ),
    '{"*":{},"*":{}}': '$: expected each key once, found "*" more than once',
}


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


def test_a_pod_names_a_bounded_number_of_containers() -> None:
    """A pod's annotation is read as a whole at each of its containers' starts."""
    entries: dict[str, object] = {f"c{index}": {} for index in range(MAX_ENTRIES)}
    assert len(parse_pod(json.dumps(entries))) == MAX_ENTRIES
    with pytest.raises(DeclarationError) as refused:
        parse_pod(json.dumps(entries | {"one-more": {}}))
    assert str(refused.value) == (
        "annotation hookshim.dev/lifecycle of the pod: "
        f"$: expected at most {MAX_ENTRIES} containers, found {MAX_ENTRIES + 1}"
    )
