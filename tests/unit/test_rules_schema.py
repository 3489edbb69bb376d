"""What a rule's file may say, and the exact line that a person gets for each mistake in one."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.rules_schema import MAX_BYTES, read
from server.rules_text import describe_rule
from shim.actions import HttpGetAction, LifecycleHandler, OnFailure, Retry, RunAction
from shim.records import Hook
from shim.rules import Match, Operator, Requirement, Rule, RuleHandler

GOOD = """\
when = ["preStop"]
[[handlers]]
run = { command = ["/bin/true"] }
"""
WHOLE = """\
when = ["postStart", "postStop"]
[match]
namespaces = ["prod", "team-*"]
labels = { app = "web", "example.com/tier" = "" }
containers = ["app*"]
images = ["*/nginx:*"]
annotations = { "example.com/drain" = "yes" }
runtimeHandlers = ["kata", ""]
expressions = [
    { key = "tier", operator = "In", values = ["a", "b"] },
    { key = "tier", operator = "NotIn", values = ["c"] },
    { key = "a", operator = "Exists" },
    { key = "b", operator = "DoesNotExist", values = [] },
]
[[handlers]]
run = { command = ["/usr/local/bin/drain", "now"] }
timeoutSeconds = 5
[[handlers]]
httpGet = { url = "https://example.com/x?token=secret" }
retry = { attempts = 3 }
"""


def problems(text: str | bytes, name: str = "r") -> list[str]:
    """What is wrong with a file, each line without the file."""
    rule, wrong = read("FILE", name, text.encode() if isinstance(text, str) else text)
    assert (rule is None) is bool(wrong)
    assert all(line.startswith("FILE: ") for line in wrong)
    return [line.removeprefix("FILE: ") for line in wrong]


def test_a_rule_has_every_match_and_its_handlers_for_each_hook() -> None:
    """What a handler does not say has the default of each hook: a postStop is tried until its time is over."""
    rule, wrong = read("FILE", "10-drain", WHOLE.encode())
    assert wrong == []
    drain = RunAction(("/usr/local/bin/drain", "now"))
    tell = LifecycleHandler(HttpGetAction(url="https://example.com/x?token=secret"), retry=Retry(attempts=3))
    assert rule == Rule(
        "10-drain",
        (
            RuleHandler(Hook.POST_START, LifecycleHandler(drain, 5.0)),
            RuleHandler(Hook.POST_STOP, LifecycleHandler(drain, 5.0, Retry(attempts=None))),
            RuleHandler(Hook.POST_START, tell),
            RuleHandler(Hook.POST_STOP, tell),
        ),
        Match(
            namespaces=("prod", "team-*"),
            labels=(("app", "web"), ("example.com/tier", "")),
            expressions=(
                Requirement("tier", Operator.IN, ("a", "b")),
                Requirement("tier", Operator.NOT_IN, ("c",)),
                Requirement("a", Operator.EXISTS),
                Requirement("b", Operator.DOES_NOT_EXIST),
            ),
            containers=("app*",),
            images=("*/nginx:*",),
            annotations=(("example.com/drain", "yes"),),
            runtime_handlers=("kata", ""),
        ),
    )


def test_a_rule_is_told_in_one_line_without_a_secret() -> None:
    """For check-config: its hooks, what it is for, and its handlers; a URL's query is not shown."""
    lines = []
    for text in (GOOD, WHOLE):
        rule, _ = read("FILE", "r", text.encode())
        assert rule is not None
        lines.append(describe_rule(rule))
    assert lines == [
        "r: preStop of every container: run [/bin/true]",
        (
            "r: postStart, postStop of namespace prod or team-*; label app=web; label example.com/tier=; "
            "label tier In (a, b); label tier NotIn (c); label a Exists; label b DoesNotExist; container app*; "
            "image */nginx:*; annotation example.com/drain=yes; runtime handler kata or (default): "
            "run [/usr/local/bin/drain now], then httpGet https://example.com/x"
        ),
    ]


def test_onfailure_is_a_poststarts() -> None:
    """The policies of annotations hold for rules."""
    text = GOOD.replace("preStop", "postStart") + 'onFailure = "ignore"\n'
    rule, _ = read("FILE", "r", text.encode())
    assert rule is not None
    assert rule.hooks[0].handler.on_failure is OnFailure.IGNORE


MATCH_KEYS = "namespaces, labels, expressions, containers, images, annotations, runtimeHandlers"
LABEL_KEY = "a label's key, as app or example.com/app"
LABEL_VALUE = 'a label\'s value (letters, digits, "-", "_" and "."), at most 253 characters'
SOME = "an array of 1 to 256"

#: What stands in [match], and what is said of it.
BAD_MATCHES: list[tuple[str, list[str]]] = [
    (
        'namespace = ["x"]',
        [f'match: expected one of {MATCH_KEYS}, found the unknown field "namespace"; did you mean namespaces?'],
    ),
    (
        'x = 1\n"y\\u001b" = 2',
        [
            f'match: expected one of {MATCH_KEYS}, found the unknown field "x"',
            f'match: expected one of {MATCH_KEYS}, found the unknown field "y\\x1b"',
        ],
    ),
    ('namespaces = "x"', ['match.namespaces: expected an array of strings, found the string "x"']),
    ("namespaces = []", [f"match.namespaces: expected {SOME} strings, found an empty array"]),
    (f"namespaces = [{'1,' * 257}]", [f"match.namespaces: expected {SOME} strings, found 257"]),
    ('containers = [""]', ["match.containers[0]: expected a string of at least one character, found an empty string"]),
    (f"images = ['{'a' * 1025}']", ["match.images[0]: expected at most 1024 characters, found 1025"]),
    (
        'images = [1, "a", true]',
        [
            "match.images[0]: expected a string, found the number 1",
            "match.images[2]: expected a string, found the boolean true",
        ],
    ),
    ("runtimeHandlers = [1979-05-27]", ["match.runtimeHandlers[0]: expected a string, found a date or a time"]),
    ("labels = {}", ["match.labels: expected a table of 1 to 256 keys, found an empty table"]),
    ('labels = ["app=web"]', ["match.labels: expected a table, found an array"]),
    (
        '[match.labels]\n"a b" = "x"\nc = "y!"\nd = 1',
        [
            f'match.labels: expected {LABEL_KEY}, found the string "a b"',
            f'match.labels.c: expected {LABEL_VALUE}, found the string "y!"',
            "match.labels.d: expected a string, found the number 1",
        ],
    ),
    (f"labels = {{ {'a' * 64} = 'x' }}", [f'match.labels: expected {LABEL_KEY}, found the string "' + "a" * 62 + '…"']),
    (
        'annotations = { "" = "x" }',
        ["match.annotations: expected a string of at least one character, found an empty string"],
    ),
    ("annotations = { a = true }", ["match.annotations.a: expected a string, found the boolean true"]),
    ("expressions = [1]", ["match.expressions[0]: expected a table, found the number 1"]),
    (
        '[[match.expressions]]\noperator = "in"\nkeys = "x"\n[[match.expressions]]\nkey = "a"\noperator = "In"',
        [
            (
                "match.expressions[0]: expected one of key, operator, values, "
                'found the unknown field "keys"; did you mean key?'
            ),
            "match.expressions[0].key: expected a string, found nothing",
            'match.expressions[0].operator: expected one of In, NotIn, Exists, DoesNotExist, found the string "in"',
            "match.expressions[1].values: expected an array of strings, found nothing",
        ],
    ),
    (
        '[[match.expressions]]\nkey = "a"\noperator = "NotIn"\nvalues = []',
        [f"match.expressions[0].values: expected {SOME} strings, found an empty array"],
    ),
    (
        '[[match.expressions]]\nkey = "a"\noperator = "Exists"\nvalues = ["b"]',
        ["match.expressions[0].values: expected nothing, since Exists has no values, found an array"],
    ),
]

HOOKS = "postStart, preStop, postStop"
HANDLERS = "handlers, each [[handlers]]"

#: A whole file, and what is said of it.
BAD_FILES: list[tuple[str | bytes, list[str]]] = [
    (
        "",
        [
            f"when: expected an array of hooks ({HOOKS}), found nothing",
            f"handlers: expected an array of {HANDLERS}, found nothing",
        ],
    ),
    ("when = ", ["line 1, at the end of the file: expected TOML: Invalid value"]),
    (b"\n\xff", ["line 2: expected UTF-8; found byte 0xff"]),
    (b"#" * (MAX_BYTES + 1), [f"expected at most {MAX_BYTES} bytes, found more"]),
    (
        GOOD.replace("when", "whn"),
        [
            'the rule: expected one of when, match, handlers, found the unknown field "whn"; did you mean when?',
            f"when: expected an array of hooks ({HOOKS}), found nothing",
        ],
    ),
    (GOOD.replace('["preStop"]', "[]"), [f"when: expected {SOME} hooks ({HOOKS}), found an empty array"]),
    (
        GOOD.replace('["preStop"]', '"preStop"'),
        [f'when: expected an array of hooks ({HOOKS}), found the string "preStop"'],
    ),
    (
        GOOD.replace('["preStop"]', '["prestop", "postStop"]'),
        [f'when[0]: expected one of {HOOKS}, found the string "prestop"'],
    ),
    (
        GOOD.replace('["preStop"]', '["preStop", "preStop"]'),
        ["when: expected each hook once, found preStop, preStop"],
    ),
    ("match = 3\n" + GOOD, ["match: expected a table, found the number 3"]),
    ('when = ["preStop"]\nhandlers = []', [f"handlers: expected an array of 1 to 64 {HANDLERS}, found an empty array"]),
    ('when = ["preStop"]\nhandlers = [1]', ["handlers[0]: expected a table, found the number 1"]),
    (
        'when = ["preStop"]\n' + "[[handlers]]\nsleep = { seconds = 1 }\n" * 65,
        [f"handlers: expected an array of 1 to 64 {HANDLERS}, found 65"],
    ),
    (
        'when = ["preStop", "postStop"]\n[[handlers]]\nsleep = { seconds = 1 }\n[[handlers]]\nrun = { command = "x" }',
        [
            (
                "handlers[0]: expected one of httpGet, run, timeoutSeconds, retry, "
                "found sleep, which cannot be a postStop: the container has ended by then"
            ),
            'handlers[1].run.command: expected an array of strings, found the string "x"',
        ],
    ),
    # Which hook is meant is not known: a handler that suits any is not complained about.
    (
        "[[handlers]]\nsleep = { seconds = 1 }\n[[handlers]]\nhttpGet.url = 'http://x/'\nretry.attempts = 'unlimited'",
        [f"when: expected an array of hooks ({HOOKS}), found nothing"],
    ),
]


@pytest.mark.parametrize(("text", "expected"), BAD_MATCHES, ids=[text[:40] for text, _ in BAD_MATCHES])
def test_a_malformed_match_is_refused_with_its_place_and_what_was_expected(text: str, expected: list[str]) -> None:
    """Every mistake a line; nothing is passed over, since a rule that matches more than was meant runs as root."""
    handlers = 'handlers = [{ run = { command = ["/bin/true"] } }]'
    assert problems(f'when = ["preStop"]\n{handlers}\n[match]\n{text}') == expected


@pytest.mark.parametrize(("text", "expected"), BAD_FILES, ids=[str(text[:40]) for text, _ in BAD_FILES])
def test_a_malformed_rule_is_refused_with_its_place_and_what_was_expected(
    text: str | bytes, expected: list[str]
) -> None:
    """The exact lines for every kind of mistake in a file; a mistake in a handler is told once, not for each hook."""
    assert problems(text) == expected


@pytest.mark.parametrize("name", ["", "-x", "a b", "a\n", "ä", "a" * 101])
def test_a_name_that_does_not_fit_a_table_is_refused(name: str) -> None:
    """The name goes into records, tables and log lines."""
    (line,) = problems(GOOD, name)
    assert line.startswith(
        'its name: expected a name of letters, digits, "-", "_" and ".", at most 100, a letter or di'
    )


_KEYS = st.sampled_from(
    ["when", "match", "handlers", "run", "command", "sleep", "labels", "expressions", "key", "operator", "values", "x"]
)
_VALUES = st.recursive(
    st.text("abIn*/ .", max_size=4) | st.integers() | st.floats() | st.booleans() | st.sampled_from(["preStop", "In"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=12,
)


def _toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {_toml(one)}' for key, one in value.items())} }}"
        case _:
            return str(value)


@given(st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_any_tables_are_a_rule_or_problems(table: dict[str, object]) -> None:
    """Whatever TOML can say comes to one of the two, never to an exception."""
    problems("".join(f"{key} = {_toml(value)}\n" for key, value in table.items()))


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"a = " + b"[" * 5000)
@example(b"a = " + b"1" * 5000)
def test_any_bytes_are_a_rule_or_problems(data: bytes) -> None:
    """Also what is no TOML, and each line can be shown on a terminal."""
    assert all(line.isprintable() for line in problems(data))
