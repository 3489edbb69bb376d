"""The schema of one hook: a handler of Kubernetes' ``Lifecycle``, and beside it how it is tried."""

from __future__ import annotations

from shim.actions import (
    Action,
    ExecAction,
    HttpGetAction,
    LifecycleHandler,
    OnFailure,
    Retry,
    RunAction,
    SleepAction,
)
from shim.author import Author
from shim.endpoint import RULES_ONLY, read_http_get, read_tcp_socket
from shim.records import Hook
from shim.strictjson import NOTHING, Place, string

#: The most that a declaration may ask for, in seconds: a week is longer than any grace.
MAX_SECONDS = 7 * 24 * 3600
#: The most attempts of one hook, and the longest pause between two, in seconds.
MAX_ATTEMPTS = 100
MAX_BACKOFF = 3600
#: The least ``maxBackoffSeconds`` of a hook that is tried without end, since each attempt is written to the disk.
MIN_ENDLESS_BACKOFF = 1
#: The most words of a command.
MAX_WORDS = 1024
#: ``retry.attempts`` of a hook that is tried until its time is over, as a postStop is by default.
UNLIMITED = "unlimited"

_HANDLERS = ("exec", "httpGet", "sleep", "tcpSocket")
_TOO_LATE = "which cannot be a postStop: the container has ended by then"
_DEFAULT = Retry()


def parse_handler(place: Place, value: object, hook: Hook, *, trusted: bool) -> LifecycleHandler:
    """Read one hook as it is declared; ``trusted`` for the node's rules.

    ``value`` is JSON as ``strictjson.load`` gives it, or TOML as ``tomllib`` does. Raises DeclarationError, which names
    the place, what was expected there and what was found.
    """
    return read_handler(place, value, hook, Author.RULE if trusted else Author.ANNOTATION)


def read_handler(place: Place, value: object, hook: Hook | None, author: Author) -> LifecycleHandler:
    """Read one hook, as ``author`` may declare it; ``hook`` None: of any kind. Raises DeclarationError."""
    kinds, refused = _kinds(hook, author)
    policy: tuple[str, ...] = ("timeoutSeconds", "retry")
    if hook in (Hook.POST_START, None):
        policy = (*policy, "onFailure")
    else:
        refused["onFailure"] = "which only a postStart has"
    given = author.fields(place, value, kinds if author is Author.KUBELET else (*kinds, *policy), refused)
    present = [name for name in given if name in kinds]
    if len(present) != 1:
        expected = f"exactly one of {', '.join(kinds)}" if len(kinds) > 1 else kinds[0]
        raise place.error(expected, " and ".join(present) or "none")
    (kind,) = present
    timeout = given.get("timeoutSeconds")
    action = _action(place.field(kind), kind, given[kind], author)
    if hook is Hook.POST_STOP and isinstance(action, HttpGetAction) and isinstance(action.port, str):
        # They are in an annotation of its container, which may have been removed by then.
        raise place.field(kind).field("port").unexpected("a number, since a postStop knows no port names", action.port)
    return LifecycleHandler(
        action,
        None if timeout is None else author.seconds(place.field("timeoutSeconds"), timeout, MAX_SECONDS),
        _retry(place.field("retry"), given.get("retry"), hook, author),
        _on_failure(place.field("onFailure"), given.get("onFailure")),
    )


def _kinds(hook: Hook | None, author: Author) -> tuple[tuple[str, ...], dict[str, str]]:
    """The handlers that the hook may have, and what is said of the others."""
    kinds: tuple[str, ...] = _HANDLERS
    refused: dict[str, str] = {}
    if hook is Hook.POST_STOP:
        kinds = ("httpGet",)
        refused = {name: _TOO_LATE for name in _HANDLERS if name not in kinds}
    if author.trusted:
        return (*kinds, "run"), refused
    return kinds, refused | {"run": RULES_ONLY}


def _action(place: Place, kind: str, value: object, author: Author) -> Action:
    match kind:
        case "exec":
            return ExecAction(_command(place, value, author))
        case "run":
            return RunAction(_command(place, value, author))
        case "sleep":
            seconds = author.fields(place, value, ("seconds",)).get("seconds", NOTHING)
            return SleepAction(author.integer(place.field("seconds"), seconds, 0, MAX_SECONDS))
        case "tcpSocket":
            return read_tcp_socket(place, value, author)
        case _:
            return read_http_get(place, value, author)


def _command(place: Place, value: object, author: Author) -> tuple[str, ...]:
    given = author.fields(place, value, ("command",))
    place = place.field("command")
    words = author.array(place, given.get("command", NOTHING), "strings", MAX_WORDS)
    if not words:
        raise place.unexpected("an array of at least one string", words)
    command = tuple(string(place.item(index), word) for index, word in enumerate(words))
    for index, word in enumerate(command):
        if "\0" in word:
            raise place.item(index).error("a string without NUL", f"one at character {word.index(chr(0)) + 1}")
    if not command[0]:
        raise place.item(0).unexpected("a program", command[0])
    return command


def _retry(place: Place, value: object, hook: Hook | None, author: Author) -> Retry:
    if value is None:
        return Retry(attempts=None) if hook is Hook.POST_STOP else _DEFAULT
    given = author.fields(place, value, ("attempts", "backoffSeconds", "maxBackoffSeconds"))
    attempts = _attempts(place.field("attempts"), given.get("attempts", NOTHING), hook, author)
    pause, longest = given.get("backoffSeconds"), given.get("maxBackoffSeconds")
    backoff = None if pause is None else author.seconds(place.field("backoffSeconds"), pause, MAX_BACKOFF)
    if longest is None:
        first = _DEFAULT.backoff if backoff is None else backoff
        return Retry(attempts, first, max(first, _DEFAULT.max_backoff))
    least = backoff or 0.0
    if attempts is None and author.bounded:
        least = max(least, MIN_ENDLESS_BACKOFF)
    limit = author.seconds(place.field("maxBackoffSeconds"), longest, MAX_BACKOFF, least)
    return Retry(attempts, min(_DEFAULT.backoff, limit) if backoff is None else backoff, limit)


def _attempts(place: Place, value: object, hook: Hook | None, author: Author) -> int | None:
    if hook not in (Hook.POST_STOP, None):
        # Without a number, retry would be a wish that does nothing.
        return author.integer(place, value, 1, MAX_ATTEMPTS)
    if value == UNLIMITED or (value is NOTHING and hook is Hook.POST_STOP):
        return None
    return author.integer(place, value, 1, MAX_ATTEMPTS, f'"{UNLIMITED}" or an integer')


def _on_failure(place: Place, value: object) -> OnFailure:
    if value is None:
        return OnFailure.KILL
    for choice in OnFailure:
        if value == choice:
            return choice
    raise place.unexpected(f"one of {', '.join(OnFailure)}", value)
