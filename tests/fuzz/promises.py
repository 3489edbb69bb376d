"""What is promised of every reader of declarations, whatever it is given.

Anything in, a valid declaration or one DeclarationError out, with a message that is short, printable and says where;
and what was read is written, and read back, as exactly the same. hypothesis and the fuzzer ask for the same here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import TypeVar

from server import rules_schema
from shim.actions import (
    Action,
    ExecAction,
    HttpGetAction,
    Lifecycle,
    LifecycleHandler,
    OnFailure,
    RunAction,
    SleepAction,
    TcpSocketAction,
)
from shim.errors import DeclarationError
from shim.lifecycle import (
    KEY,
    describe,
    effective,
    handler_from_json,
    parse_container,
    parse_kubelet,
    parse_pod,
    to_json,
)
from shim.records import CONTAINER, POD, Hook

Read = TypeVar("Read")

#: The longest message, in characters: it goes into a gRPC status and an event.
MAX_MESSAGE = 600


def check_container(text: str) -> None:
    """A container's annotation."""
    read = reading(parse_container, text, "annotation hookshim.dev/lifecycle of the container: ")
    if read is None:
        return
    check_lifecycle(read)
    declared = effective("web", {KEY: text}, {})
    assert [(one.hook, one.handler, one.source) for one in declared] == [
        (hook, handler, CONTAINER) for hook, handler in hooks(read)
    ]


def check_pod(text: str) -> None:
    """A pod's annotation."""
    read = reading(parse_pod, text, "annotation hookshim.dev/lifecycle of the pod: ")
    for name, lifecycle in (read or {}).items():
        check_lifecycle(lifecycle)
        declared = {one.hook: one for one in effective(name, {}, {KEY: text})}
        for hook, handler in hooks(lifecycle):
            assert (declared[hook].handler, declared[hook].source) == (handler, POD)


def check_kubelet(text: str) -> None:
    """A kubelet's annotation."""
    read = reading(parse_kubelet, text, "annotation io.kubernetes.container.preStopHandler of the container: ")
    if read is None:
        return
    check_action(read, trusted=False)
    assert not isinstance(read, HttpGetAction) or not read.expect_status
    check_record(LifecycleHandler(read))


def check_recorded(text: str) -> None:
    """What the journal keeps of a hook."""
    read = reading(handler_from_json, text, "the recorded handler: ")
    if read is not None:
        check_record(read)


def check_rule(text: str) -> None:
    """A file of the node's rules."""
    rule, problems = rules_schema.read("rule x.toml", "x", text.encode(errors="surrogatepass"))
    assert (rule is None) == bool(problems)
    for line in problems:
        assert line.startswith("rule x.toml: "), line
        assert "expected " in line, line
        assert "found " in line or "expected TOML" in line, line
        assert line.isprintable(), ascii(line)
        assert len(line) <= MAX_MESSAGE, line
    for one in rule.hooks if rule is not None else ():
        check_handler(one.handler, one.hook, trusted=True)


#: By the name that a seed has them by.
READERS: dict[str, Callable[[str], None]] = {
    "container": check_container,
    "pod": check_pod,
    "kubelet": check_kubelet,
    "recorded": check_recorded,
    "rule": check_rule,
}


def reading(read: Callable[[str], Read], text: str, subject: str) -> Read | None:
    """What is read, or None for a clean refusal. Whatever else is raised goes on."""
    try:
        return read(text)
    except DeclarationError as refused:
        check_message(str(refused), subject)
        return None


def check_message(message: str, subject: str) -> None:
    """Whose text it is, where in it, what was expected, what was found; printable, and short."""
    assert message.startswith(f"{subject}$"), message
    assert ": expected " in message, message
    assert ", found " in message, message
    assert message.isprintable(), ascii(message)
    assert len(message) <= MAX_MESSAGE, message
    message.encode()


def check_lifecycle(lifecycle: Lifecycle) -> None:
    """What somebody declared is what may be declared, for each hook."""
    for hook, handler in hooks(lifecycle):
        check_handler(handler, hook, trusted=False)


def check_handler(handler: LifecycleHandler, hook: Hook, *, trusted: bool) -> None:
    """One declared hook is within what its hook and its author allow, and is kept as it is."""
    action, retry = handler.action, handler.retry
    check_action(action, trusted=trusted)
    if hook is Hook.POST_STOP:
        assert isinstance(action, RunAction) or (isinstance(action, HttpGetAction) and isinstance(action.port, int))
    assert handler.timeout is None or 0 < handler.timeout <= 7 * 24 * 3600
    assert (retry.attempts is None and hook is Hook.POST_STOP) or 1 <= (retry.attempts or 0) <= 100
    assert 0 < retry.backoff <= retry.max_backoff <= 3600
    assert retry.attempts is not None or retry.max_backoff >= 1
    assert hook is Hook.POST_START or handler.on_failure is OnFailure.KILL
    check_record(handler)
    if not trusted and (hook is not Hook.POST_STOP or "retry" in json.loads(to_json(handler))):
        # What is recorded is a declaration too, but for a postStop's default, which a record has to name.
        again = parse_container(f'{{"{hook}":{to_json(handler)}}}') if fits(handler) else None
        assert again is None or [one for _, one in hooks(again)] == [handler]


def check_record(handler: LifecycleHandler) -> None:
    """It is written in one way, and read back as it was."""
    record = to_json(handler)
    record.encode()
    assert handler_from_json(record) == handler, record
    assert to_json(handler_from_json(record)) == record
    line = describe(handler.action)
    assert line.isprintable(), ascii(line)
    assert len(line) <= 60, line


def check_action(action: Action, *, trusted: bool) -> None:
    """One handler can be carried out as it stands."""
    match action:
        case ExecAction(command):
            check_command(command)
        case RunAction(command):
            assert trusted
            check_command(command)
        case SleepAction(seconds):
            assert type(seconds) is int
            assert seconds >= 0
        case TcpSocketAction(port, host):
            check_target(port, host)
        case HttpGetAction():
            assert action.scheme in {"HTTP", "HTTPS"}
            assert trusted or not action.url
            if not action.url:
                check_target(action.port, action.host)
            check_ranges(action.expect_status)
            for name, value in action.headers:
                assert name.isascii()
                assert name
                assert not any(one in name + value for one in "\r\n\0")


def check_command(command: Iterable[str]) -> None:
    """Words that a kernel takes."""
    words = list(command)
    assert words[0]
    assert not any("\0" in word for word in words)
    " ".join(words).encode()


def check_target(port: int | str, host: str) -> None:
    """A port by number or name, and a host that a URL can have."""
    assert (type(port) is int and 1 <= port <= 65535) or (isinstance(port, str) and 1 <= len(port) <= 15)
    assert host.isascii()
    assert len(host) <= 254
    assert not any(one in host for one in "/@?#[]\\% ")


def check_ranges(ranges: Iterable[tuple[int, int]]) -> None:
    """Inclusive ranges, ascending, with a gap between each two."""
    before = -math.inf
    for first, last in ranges:
        assert before + 1 < first <= last
        assert first >= 200
        assert last <= 599
        before = last


def hooks(lifecycle: Lifecycle) -> list[tuple[Hook, LifecycleHandler]]:
    """Those that it declares."""
    handlers = (lifecycle.post_start, lifecycle.pre_stop, lifecycle.post_stop)
    return [(hook, handler) for hook, handler in zip(Hook, handlers, strict=True) if handler is not None]


def fits(handler: LifecycleHandler) -> bool:
    """Whether the record is not longer than a declaration may be."""
    return len(to_json(handler).encode()) < 60_000
