"""Which of the node's rules a container matches, and so which hooks the node's owner gives it.

It is asked at every start and every end, so each list of globs is one expression that is compiled once, and a rule
that names a namespace has the others out of its way with the first comparison. Files are ``server.rules``' business.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from shim.actions import Declared, LifecycleHandler
from shim.ports import Container
from shim.records import RULE, Hook


class Operator(StrEnum):
    """How a label is compared (Kubernetes ``metav1.LabelSelectorOperator``)."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement on a pod's labels. ``values`` are for ``In`` and ``NotIn`` alone."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet it (Kubernetes ``labels.Requirement``): an absent one meets ``NotIn``."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels


@dataclass(frozen=True, slots=True)
class Match:
    """Which containers a rule is for: those that meet all of it. What is empty asks for nothing.

    ``namespaces``, ``containers`` and ``images`` are globs, one of which has to fit the whole name: ``*`` is any text,
    also with ``/`` in it, ``?`` any character, ``[ab]`` and ``[!ab]`` one of a set or none of it; case counts.
    ``labels`` are the pod's, ``annotations`` the container's over its pod's; both are compared whole.
    ``runtime_handlers`` has names as RuntimeClasses give them, "" for the runtime's default.
    """

    namespaces: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    expressions: tuple[Requirement, ...] = ()
    containers: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    runtime_handlers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleHandler:
    """One of a rule's handlers as it is read for one of the hooks: what is not said has that hook's default."""

    hook: Hook
    handler: LifecycleHandler


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: the hooks, in their order, of the containers that match. ``name`` is that of its file."""

    name: str
    hooks: tuple[RuleHandler, ...]
    match: Match = Match()


class RuleSet:
    """The rules in force together; it never changes."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = tuple(rules)
        self._compiled = tuple((_test(rule.match), _declared(rule)) for rule in self.rules)

    def matching(self, container: Container) -> tuple[Declared, ...]:
        """The hooks of all rules that the container matches, in the order of the rules, then of their handlers."""
        if not self._compiled:
            return ()
        return tuple(hook for test, hooks in self._compiled if test(container) for hook in hooks)


def _declared(rule: Rule) -> tuple[Declared, ...]:
    return tuple(Declared(one.hook, one.handler, RULE + rule.name) for one in rule.hooks)


def _test(match: Match) -> Callable[[Container], bool]:
    namespaces, containers, images = _globs(match.namespaces), _globs(match.containers), _globs(match.images)

    def test(container: Container) -> bool:
        pod = container.pod
        return (
            namespaces(pod.namespace) is not None
            and (not match.runtime_handlers or pod.runtime_handler in match.runtime_handlers)
            and all(pod.labels.get(key) == value for key, value in match.labels)
            and all(requirement.matches(pod.labels) for requirement in match.expressions)
            and containers(container.ref.name) is not None
            and images(container.image) is not None
            and all(
                container.annotations.get(key, pod.annotations.get(key)) == value for key, value in match.annotations
            )
        )

    return test


def _globs(globs: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    # The empty expression of no globs matches any text.
    return re.compile("|".join(fnmatch.translate(glob) for glob in globs)).match
