"""What hookshim adds to Kubernetes' handlers, and what few write, is refused as clearly: every text, word by word."""

from __future__ import annotations

import json

import pytest

from shim.errors import DeclarationError
from shim.lifecycle import handler_from_json, parse_container, to_json

SLEEP = "sleep.seconds: expected an integer from 0 to 604800, found"
STATUS = 'expected a status from 200 to 599, a class of them as "2xx"'
STATUSES = f"httpGet.expectStatus: {STATUS} or an array of them, found"
SECONDS = "timeoutSeconds: expected a number of seconds above 0 to 604800, found"
ATTEMPTS = "retry.attempts: expected an integer from 1 to 100, found"
BACKOFF = "retry.backoffSeconds: expected a number of seconds above 0 to 3600, found"
MAX_BACKOFF = "retry.maxBackoffSeconds: expected a number of seconds"
HANDLER = "expected one of exec, httpGet, sleep, tcpSocket, timeoutSeconds, retry"
POST_STOP = "expected one of httpGet, timeoutSeconds, retry, found"
TOO_LATE = "which cannot be a postStop: the container has ended by then"
ENDLESS = 'retry.attempts: expected "unlimited" or an integer from 1 to 100, found'

#: By what a preStop has in it.
PRE_STOP = {
    '"sleep":{}': f"{SLEEP} nothing",
    '"sleep":5': "sleep: expected an object, found the number 5",
    '"sleep":{"seconds":-1}': f"{SLEEP} the number -1",
    '"sleep":{"seconds":1.0}': f"{SLEEP} the number 1.0",
    '"sleep":{"seconds":"5"}': f'{SLEEP} the string "5"',
    '"sleep":{"seconds":true}': f"{SLEEP} the boolean true",
    '"sleep":{"seconds":604801}': f"{SLEEP} the number 604801",
    '"sleep":{"seconds":1e999}': f"{SLEEP} a number out of all bounds",
    '"sleep":{"second":1}': 'sleep: expected seconds, found the unknown field "second"; did you mean seconds?',
    '"tcpSocket":{}': (
        "tcpSocket.port: expected a number from 1 to 65535 or a port's name "
        '(at most 15 of a-z, 0-9 and inner single "-", one a letter), found nothing'
    ),
    '"tcpSocket":{"port":1,"host":"a/b"}': (
        'tcpSocket.host: expected a host name or an IP address without brackets or port, found the string "a/b"'
    ),
    '"tcpSocket":{"port":1,"path":"/"}': 'tcpSocket: expected one of port, host, found the unknown field "path"',
    '"httpGet":{"port":1,"expectStatus":200.0}': f"{STATUSES} the number 200.0",
    '"httpGet":{"port":1,"expectStatus":199}': f"{STATUSES} the number 199",
    '"httpGet":{"port":1,"expectStatus":600}': f"{STATUSES} the number 600",
    '"httpGet":{"port":1,"expectStatus":true}': f"{STATUSES} the boolean true",
    '"httpGet":{"port":1,"expectStatus":{}}': f"{STATUSES} an object",
    '"httpGet":{"port":1,"expectStatus":"2XX"}': f'{STATUSES} the string "2XX"',
    '"httpGet":{"port":1,"expectStatus":"1xx"}': f'{STATUSES} the string "1xx"',
    '"httpGet":{"port":1,"expectStatus":"200"}': f'{STATUSES} the string "200"; a number is written without quotes',
    '"httpGet":{"port":1,"expectStatus":[]}': (
        "httpGet.expectStatus: expected at least one status, found an empty array"
    ),
    '"httpGet":{"port":1,"expectStatus":[200,"20x"]}': f'httpGet.expectStatus[1]: {STATUS}, found the string "20x"',
    '"httpGet":{"port":1,"expectStatus":[null]}': f"httpGet.expectStatus[0]: {STATUS}, found null",
}

#: By what stands beside a preStop's handler.
BESIDE = {
    '"timeoutSeconds":0': f"{SECONDS} the number 0",
    '"timeoutSeconds":-0.5': f"{SECONDS} the number -0.5",
    '"timeoutSeconds":604800.5': f"{SECONDS} the number 604800.5",
    '"timeoutSeconds":"5s"': f'{SECONDS} the string "5s"',
    '"timeoutSeconds":false': f"{SECONDS} the boolean false",
    '"timeoutSeconds":[]': f"{SECONDS} an empty array",
    '"timeoutSeconds":1e999': f"{SECONDS} a number out of all bounds",
    '"timeoutSeconds":123456789012345678901234567890': f"{SECONDS} a number out of all bounds",
    '"retry":3': "retry: expected an object, found the number 3",
    '"retry":{}': f"{ATTEMPTS} nothing",
    '"retry":{"backoffSeconds":1}': f"{ATTEMPTS} nothing",
    '"retry":{"attempts":0}': f"{ATTEMPTS} the number 0",
    '"retry":{"attempts":101}': f"{ATTEMPTS} the number 101",
    '"retry":{"attempts":2.0}': f"{ATTEMPTS} the number 2.0",
    '"retry":{"attempts":"unlimited"}': f'{ATTEMPTS} the string "unlimited"',
    '"retry":{"attempts":2,"backoffSeconds":0}': f"{BACKOFF} the number 0",
    '"retry":{"attempts":2,"backoffSeconds":3601}': f"{BACKOFF} the number 3601",
    '"retry":{"attempts":2,"backoffSeconds":5,"maxBackoffSeconds":4}': (
        f"{MAX_BACKOFF} from 5 to 3600, found the number 4"
    ),
    '"retry":{"attempts":2,"maxBackoffSeconds":0}': f"{MAX_BACKOFF} above 0 to 3600, found the number 0",
    '"retry":{"attempts":2,"maxBackoffSeconds":3601}': f"{MAX_BACKOFF} above 0 to 3600, found the number 3601",
    '"retry":{"attempts":2,"backoff":1}': (
        "retry: expected one of attempts, backoffSeconds, maxBackoffSeconds, "
        'found the unknown field "backoff"; did you mean backoffSeconds?'
    ),
}

#: The whole message after the hook's place, by the hook.
HOOKS = {
    '{"preStop":{"exec":{"command":["a"]},"timeoutseconds":1}}': (
        f'$.preStop: {HANDLER}, found the unknown field "timeoutseconds"; did you mean timeoutSeconds?'
    ),
    '{"preStop":{"exec":{"command":["a"]},"retries":1}}': (
        f'$.preStop: {HANDLER}, found the unknown field "retries"; did you mean retry?'
    ),
    '{"preStop":{"exec":{"command":["a"]},"onFailure":"ignore"}}': (
        f"$.preStop: {HANDLER}, found onFailure, which only a postStart has"
    ),
    '{"preStop":{"run":{"command":["a"]}}}': f"$.preStop: {HANDLER}, found run, which only the node's rules may have",
    '{"preStop":{"timeoutSeconds":1}}': (
        "$.preStop: expected exactly one of exec, httpGet, sleep, tcpSocket, found none"
    ),
    '{"postStart":{"exec":{"command":["a"]},"onfailure":"kill"}}': (
        f'$.postStart: {HANDLER}, onFailure, found the unknown field "onfailure"; did you mean onFailure?'
    ),
    '{"postStart":{"exec":{"command":["a"]},"onFailure":"restart"}}': (
        '$.postStart.onFailure: expected one of kill, ignore, found the string "restart"'
    ),
    '{"postStart":{"exec":{"command":["a"]},"onFailure":true}}': (
        "$.postStart.onFailure: expected one of kill, ignore, found the boolean true"
    ),
    '{"postStop":{}}': "$.postStop: expected httpGet, found none",
    '{"postStop":{"exec":{"command":["a"]}}}': f"$.postStop: {POST_STOP} exec, {TOO_LATE}",
    '{"postStop":{"sleep":{"seconds":1}}}': f"$.postStop: {POST_STOP} sleep, {TOO_LATE}",
    '{"postStop":{"httpGet":{"port":1},"tcpSocket":{"port":1}}}': f"$.postStop: {POST_STOP} tcpSocket, {TOO_LATE}",
    '{"postStop":{"run":{"command":["a"]}}}': f"$.postStop: {POST_STOP} run, which only the node's rules may have",
    '{"postStop":{"httpGet":{"port":"web"}}}': (
        '$.postStop.httpGet.port: expected a number, since a postStop knows no port names, found the string "web"'
    ),
    '{"postStop":{"httpGet":{"port":1},"onFailure":"kill"}}': (
        f"$.postStop: {POST_STOP} onFailure, which only a postStart has"
    ),
    '{"postStop":{"httpGet":{"port":1},"retry":{"attempts":"forever"}}}': f'$.postStop.{ENDLESS} the string "forever"',
    '{"postStop":{"httpGet":{"port":1},"retry":{"attempts":0}}}': f"$.postStop.{ENDLESS} the number 0",
    '{"postStop":{"httpGet":{"port":1},"retry":{"maxBackoffSeconds":0.5}}}': (
        f"$.postStop.{MAX_BACKOFF} from 1 to 3600, found the number 0.5"
    ),
}

#: Too many of something, by what the JSON has at that place.
TOO_MANY = {
    "exec": (
        {"exec": {"command": ["a"] * 1025}},
        "$.preStop.exec.command: expected at most 1024 strings, found 1025",
    ),
    "headers": (
        {"httpGet": {"port": 1, "httpHeaders": [{"name": "a"}] * 101}},
        "$.preStop.httpGet.httpHeaders: expected at most 100 objects, found 101",
    ),
    "statuses": (
        {"httpGet": {"port": 1, "expectStatus": [200] * 33}},
        "$.preStop.httpGet.expectStatus: expected at most 32 statuses, found 33",
    ),
}


@pytest.mark.parametrize(("handler", "message"), TOO_MANY.values(), ids=TOO_MANY)
def test_too_many_of_something_are_refused_but_read_back(handler: dict[str, object], message: str) -> None:
    """Counts are bounded where somebody declares, one below the bound is taken, and the journal keeps what it has."""
    with pytest.raises(DeclarationError) as refused:
        parse_container(json.dumps({"preStop": handler}))
    assert str(refused.value) == f"annotation hookshim.dev/lifecycle of the container: {message}"
    assert parse_container(json.dumps({"preStop": without_one(handler)})).pre_stop is not None
    assert json.loads(to_json(handler_from_json(json.dumps(handler)))).keys() == handler.keys()


def without_one(value: object) -> object:
    """The same with one element less in each array."""
    if isinstance(value, dict):
        return {name: without_one(one) for name, one in value.items()}
    return value[1:] if isinstance(value, list) else value


@pytest.mark.parametrize(("fields", "message"), PRE_STOP.items(), ids=PRE_STOP)
def test_a_malformed_handler_is_refused_with_a_message_to_act_on(fields: str, message: str) -> None:
    """The message names the key, whose annotation it is, the path, what was expected and what was found."""
    assert refusal(f'{{"preStop":{{{fields}}}}}') == f"$.preStop.{message}"


@pytest.mark.parametrize(("fields", "message"), BESIDE.items(), ids=BESIDE)
def test_a_malformed_policy_is_refused_with_a_message_to_act_on(fields: str, message: str) -> None:
    """The same for what stands beside a handler."""
    assert refusal(f'{{"preStop":{{"exec":{{"command":["a"]}},{fields}}}}}') == f"$.preStop.{message}"


@pytest.mark.parametrize(("text", "message"), HOOKS.items(), ids=HOOKS)
def test_what_a_hook_cannot_have_is_refused_with_what_it_can(text: str, message: str) -> None:
    """The same for what one hook may have and another may not."""
    assert refusal(text) == message


def refusal(text: str) -> str:
    """What is said of a container's annotation, after the annotation's name."""
    with pytest.raises(DeclarationError) as refused:
        parse_container(text)
    begin = "annotation hookshim.dev/lifecycle of the container: "
    assert str(refused.value).startswith(begin)
    return str(refused.value).removeprefix(begin)
