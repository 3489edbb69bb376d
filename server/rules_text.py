"""A rule in one line, for the node's owner who wants to know what is in force."""

from __future__ import annotations

from collections.abc import Iterator

from server.log import printable
from shim.lifecycle import describe
from shim.rules import Match, Requirement, Rule

#: Characters of a handler that are shown.
_SHOWN = 60


def describe_rule(rule: Rule) -> str:
    """``NAME: HOOKS of MATCH: HANDLERS``, printable. Shows no header and no environment."""
    hooks = tuple(dict.fromkeys(one.hook for one in rule.hooks))
    handlers = [describe(one.handler.action, _SHOWN) for one in rule.hooks if one.hook is hooks[0]]
    return printable(f"{rule.name}: {', '.join(hooks)} of {describe_match(rule.match)}: {', then '.join(handlers)}")


def describe_match(match: Match) -> str:
    """What a container has to be to be matched."""
    return "; ".join(_parts(match)) or "every container"


def _parts(match: Match) -> Iterator[str]:
    if match.namespaces:
        yield f"namespace {_or(match.namespaces)}"
    yield from (f"label {key}={value}" for key, value in match.labels)
    yield from (f"label {_requirement(one)}" for one in match.expressions)
    if match.containers:
        yield f"container {_or(match.containers)}"
    if match.images:
        yield f"image {_or(match.images)}"
    yield from (f"annotation {key}={value}" for key, value in match.annotations)
    if match.runtime_handlers:
        yield f"runtime handler {_or(tuple(name or '(default)' for name in match.runtime_handlers))}"


def _or(words: tuple[str, ...]) -> str:
    return " or ".join(words)


def _requirement(one: Requirement) -> str:
    return f"{one.key} {one.operator}" + (f" ({', '.join(one.values)})" if one.values else "")
