"""Which containers a rule is for, and in which order the hooks of several rules come."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.actions import LifecycleHandler, RunAction
from shim.records import Hook
from shim.rules import Match, Operator, Requirement, Rule, RuleHandler, RuleSet
from tests.unit.rules_bed import container

IN, NOT_IN, EXISTS, ABSENT = Operator.IN, Operator.NOT_IN, Operator.EXISTS, Operator.DOES_NOT_EXIST


def handler(word: str) -> LifecycleHandler:
    """A handler that is told by its word."""
    return LifecycleHandler(RunAction((word,)))


def matches(match: Match, **fields: Any) -> bool:
    """Whether a rule with this match is for a container with these fields."""
    rule = Rule("r", (RuleHandler(Hook.PRE_STOP, handler("x")),), match)
    return bool(RuleSet([rule]).matching(container(**fields)))


#: The requirement, and whether it is met by each of: environment=production, environment=qa, environment="", no label
#: (Kubernetes, "Labels and Selectors": "environment notin (production)" also selects what has no such label).
SELECTORS = [
    (Requirement("environment", IN, ("production", "qa")), (True, True, False, False)),
    (Requirement("environment", IN, ("qa",)), (False, True, False, False)),
    (Requirement("environment", IN, ("",)), (False, False, True, False)),
    (Requirement("environment", NOT_IN, ("production",)), (False, True, True, True)),
    (Requirement("environment", NOT_IN, ("production", "qa")), (False, False, True, True)),
    (Requirement("environment", NOT_IN, ("",)), (True, True, False, True)),
    (Requirement("environment", EXISTS), (True, True, True, False)),
    (Requirement("environment", ABSENT), (False, False, False, True)),
    (Requirement("Environment", EXISTS), (False, False, False, False)),
]
LABELS: list[dict[str, str]] = [{"environment": "production"}, {"environment": "qa"}, {"environment": ""}, {}]


@pytest.mark.parametrize(("requirement", "expected"), SELECTORS, ids=lambda value: str(value)[:60])
def test_label_operators_select_what_kubernetes_documents(requirement: Requirement, expected: tuple[bool, ...]) -> None:
    """Each operator on a label that has the value, another one, the empty one, or is absent."""
    assert tuple(matches(Match(expressions=(requirement,)), labels=one) for one in LABELS) == expected


#: The match, the container's fields, and whether it is for it.
CASES: list[tuple[Match, dict[str, Any], bool]] = [
    (Match(), {}, True),
    (Match(namespaces=("prod",)), {}, True),
    (Match(namespaces=("prod",)), {"namespace": "production"}, False),
    (Match(namespaces=("prod",)), {"namespace": "preprod"}, False),
    (Match(namespaces=("prod",)), {"namespace": "prod\n"}, False),
    (Match(namespaces=("prod",)), {"namespace": "PROD"}, False),
    (Match(namespaces=("x", "team-*")), {"namespace": "team-a"}, True),
    (Match(namespaces=("team-?",)), {"namespace": "team-ab"}, False),
    (Match(namespaces=("team-[ab]",)), {"namespace": "team-b"}, True),
    (Match(namespaces=("team-[!ab]",)), {"namespace": "team-b"}, False),
    (Match(namespaces=("a.c",)), {"namespace": "abc"}, False),
    (Match(containers=("app*",)), {"name": "app"}, True),
    (Match(containers=("app*",)), {"name": "my-app"}, False),
    (Match(images=("*/nginx:*",)), {}, True),
    (Match(images=("*/nginx:*",)), {"image": "nginx:1"}, False),
    (Match(images=("registry.example.com/*",)), {"image": "registry.example.com/a/b/c@sha256:0"}, True),
    (Match(images=("*nginx*",)), {"image": ""}, False),
    (Match(labels=(("app", "web"),)), {"labels": {"app": "web", "x": "y"}}, True),
    (Match(labels=(("app", "web"), ("x", "z"))), {"labels": {"app": "web", "x": "y"}}, False),
    (Match(labels=(("app", ""),)), {}, False),
    (Match(annotations=(("a/b", "yes"),)), {"annotations": {"a/b": "yes"}}, True),
    (Match(annotations=(("a/b", "yes"),)), {"pod_annotations": {"a/b": "yes"}}, True),
    (Match(annotations=(("a/b", "yes"),)), {"pod_annotations": {"a/b": "yes"}, "annotations": {"a/b": "no"}}, False),
    (Match(annotations=(("a/b", ""),)), {}, False),
    (Match(runtime_handlers=("kata",)), {"runtime_handler": "kata"}, True),
    (Match(runtime_handlers=("kata",)), {}, False),
    (Match(runtime_handlers=("kata", "")), {}, True),
    (Match(runtime_handlers=("k*",)), {"runtime_handler": "kata"}, False),
    (Match(namespaces=("prod",), containers=("app",), runtime_handlers=("",)), {}, True),
    (Match(namespaces=("prod",), containers=("db",), runtime_handlers=("",)), {}, False),
]


@pytest.mark.parametrize(("match", "fields", "expected"), CASES)
def test_a_rule_is_for_the_containers_that_meet_all_of_its_match(
    match: Match, fields: dict[str, Any], *, expected: bool
) -> None:
    """Globs fit the whole name, labels and annotations are compared whole, a container's annotation hides its pod's."""
    assert matches(match, **fields) is expected


@given(st.lists(st.text("ab[]!*?-/\n\\", max_size=6), min_size=1, max_size=3), st.text("ab[]!*?-/\n\\", max_size=6))
def test_any_text_is_a_glob_and_several_are_one_or_the_other(globs: list[str], text: str) -> None:
    """No glob is an error, or changes what the one beside it means."""
    expected = any(fnmatch.fnmatchcase(text, glob) for glob in globs)
    assert matches(Match(namespaces=tuple(globs)), namespace=text) is expected


def test_hooks_come_in_the_order_of_rules_then_handlers_with_their_rules_name() -> None:
    """What does not match is left out; the source tells the node's owner which file declared a hook."""
    hooks = tuple(RuleHandler(hook, handler(word)) for word in ("1", "2") for hook in (Hook.POST_START, Hook.PRE_STOP))
    rules = RuleSet([Rule("10-b", hooks), Rule("20-no", hooks, Match(namespaces=("no",))), Rule("5-a", hooks[3:])])
    found = [(one.source, str(one.hook), one.handler) for one in rules.matching(container())]
    assert found == [
        ("rule 10-b", "postStart", handler("1")),
        ("rule 10-b", "preStop", handler("1")),
        ("rule 10-b", "postStart", handler("2")),
        ("rule 10-b", "preStop", handler("2")),
        ("rule 5-a", "preStop", handler("2")),
    ]


def test_no_rules_give_no_hooks() -> None:
    """A node whose owner has made none."""
    assert RuleSet().matching(container()) == ()
