"""Whatever is in an annotation or a record, it is a declaration or gets one clean refusal: hypothesis' half of it.

``tests/fuzz`` has the promises themselves, and the fuzzer that asks for the same.
"""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from shim.actions import Lifecycle, LifecycleHandler
from shim.lifecycle import handler_from_json, parse_container, parse_handler, to_json
from shim.records import Hook
from shim.strictjson import Place
from tests.fuzz.promises import READERS, check_handler, check_record, reading
from tests.fuzz.strategies import declared, handlers, near_json


def check(text: str) -> None:
    """Give it to every reader; each promise that is broken fails the test."""
    for reader in READERS.values():
        reader(text)


@given(handlers)
def test_a_recorded_handler_is_read_back_as_it_was(handler: LifecycleHandler) -> None:
    """What the journal keeps is the declaration; recovery sends exactly the same, whatever it is."""
    assert handler_from_json(to_json(handler)) == handler
    check_record(handler)


@given(st.builds(Lifecycle, *declared.values()))
def test_what_is_recorded_is_a_declaration_too(lifecycle: Lifecycle) -> None:
    """The journal's JSON is the annotation's own schema."""
    handlers_read = zip(Hook, (lifecycle.post_start, lifecycle.pre_stop, lifecycle.post_stop), strict=True)
    members = (f'"{hook}":{to_json(handler)}' for hook, handler in handlers_read if handler is not None)
    assert parse_container(f"{{{','.join(members)}}}") == lifecycle


@given(st.text() | st.text(alphabet='{}[]":,\\ \n\t01eE.-untrfalsINfiy\ud800\0'))
@example("[" * 100_000)
@example('{"' + '\\"' * 30_000)
@example("9" * 60_000)
@example('{"preStop":{"httpGet":{"port":1e999}}}')
@example('{"preStop":{"exec":{"command":["\\ud83d\\ude00"]}}}')
@example("\ufeff{}")
def test_any_text_is_a_declaration_or_one_clean_refusal(text: str) -> None:
    """Whoever may write an annotation cannot crash what reads it, nor reach a terminal through its message."""
    check(text)


@given(near_json)
def test_any_json_is_a_declaration_or_one_clean_refusal(value: object) -> None:
    """The same for JSON that looks like a declaration, of which random text has little."""
    check(json.dumps(value))


def damaged(draw: st.DrawFn, value: object) -> object:
    """The value with one thing in it, or itself, replaced."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        chosen = draw(st.sampled_from(list(value)))
        return {key: damaged(draw, one) if key == chosen else one for key, one in value.items()}
    if isinstance(value, list) and value and draw(st.booleans()):
        chosen = draw(st.integers(0, len(value) - 1))
        return [damaged(draw, one) if index == chosen else one for index, one in enumerate(value)]
    return draw(near_json)


@given(st.composite(lambda draw: damaged(draw, {"preStop": json.loads(to_json(draw(handlers)))}))())
def test_a_declaration_with_one_thing_wrong_is_read_or_refused_cleanly(value: object) -> None:
    """The same for valid declarations in which one value is replaced."""
    check(json.dumps(value))


@given(st.composite(lambda draw: damaged(draw, json.loads(to_json(draw(handlers)))))(), st.sampled_from(Hook))
def test_a_rule_with_one_thing_wrong_is_read_or_refused_cleanly(value: object, hook: Hook) -> None:
    """The same for a node's rule, whose values come from TOML and are as odd."""

    def read(_text: str) -> LifecycleHandler:
        return parse_handler(Place("rule"), value, hook, trusted=True)

    handler = reading(read, "", "rule: ")
    if handler is not None:
        check_handler(handler, hook, trusted=True)
