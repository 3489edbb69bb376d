"""``hookshim deliveries show ID``: one delivery in full, for the node's owner at night."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.report import local
from server.show import Now, text
from shim.changes import BeginAttempt, EndAttempt, InsertDelivery, InsertOperation
from shim.query import Story
from shim.records import Delivery, DeliveryState, Hook, OperationKind, OperationState, Outcome
from shim.store import FILE, Store
from tests.unit.cli_bed import AT, EVIL, FAILED, OPEN, answer, operation, run

TRIED = replace(FAILED, source="rule 10-drain", attempts=2)
FIRST = Outcome("nobody there")
SECOND = Outcome("refused", http_status=503, output=b"HTTP/1.1 503 Busy\nback \x1b[31m later\n\xff")
WAITING = replace(
    TRIED,
    id="ffff456789abcdef0123456789abcde4",
    operation_id="stop4",
    position=1,
    state=DeliveryState.PENDING,
    finished_at=None,
    attempts=1,
    next_attempt_at=AT + 3600,
)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A journal with a delivery that was tried twice, and one that waits for its second try."""
    directory = tmp_path / "state"
    directory.mkdir()
    with closing(Store.open(directory / FILE)) as store:
        results = store.commit(
            [
                [
                    InsertOperation(operation(TRIED)),
                    InsertDelivery(TRIED),
                    BeginAttempt(TRIED.id, 1, AT + 60),
                    EndAttempt(TRIED.id, 1, AT + 62.5, FIRST),
                    BeginAttempt(TRIED.id, 2, AT + 100),
                    EndAttempt(TRIED.id, 2, AT + 160, SECOND),
                ],
                [
                    InsertOperation(replace(operation(WAITING), container=replace(WAITING.container, id="f" * 64))),
                    InsertDelivery(replace(WAITING, container=replace(WAITING.container, id="f" * 64))),
                    BeginAttempt(WAITING.id, 1, AT + 60),
                ],
            ]
        )
        assert results == [None, None]
    return directory


def test_a_delivery_is_shown_with_every_attempt_and_what_was_said(tmp_path: Path, state_dir: Path) -> None:
    """What anybody else has chosen is printable; a header's value is nowhere."""
    shown = answer(tmp_path, "deliveries", "show", TRIED.id, "--state-dir", state_dir)
    odd = ascii(EVIL)[1:-1]
    assert shown == (
        f"delivery   {TRIED.id}\n"
        "hook       preStop, number 1 of its operation, declared by: rule 10-drain\n"
        "handler    httpGet http://:80/\n"
        f"container  {odd} ({'d' * 64})\n"
        f"pod        {odd}/{odd} (uid {odd})\n"
        "state      failed, since 11-21 17:37:36\n"
        f"error      {ascii(TRIED.outcome.error)[1:-1].rstrip()}\n"
        "operation  stop, by StopContainer, timeout 0 s; accepted since 11-21 17:35:56\n"
        "next       nothing for this hook; the container is stopped once all of its hooks have ended\n"
        "attempt 1  11-21 17:35:56, took 2.5 s, failed\n"
        "attempt 2  11-21 17:36:36, took 60.0 s, HTTP status 503\n"
        "  | HTTP/1.1 503 Busy\n"
        "  | back \\x1b[31m later\n"
        "  | \ufffd\n"
    )
    assert "sesame" not in shown


def test_what_happens_next_is_told_of_a_delivery_that_is_open(tmp_path: Path, state_dir: Path) -> None:
    """The beginning of an id is enough."""
    shown = answer(tmp_path, "deliveries", "show", "ffff", "--state-dir", state_dir).splitlines()
    assert "hook       preStop, number 2 of its operation, declared by: rule 10-drain" in shown
    assert "next       attempt 2 at 11-21 18:34:56" in shown
    assert shown[-1] == "attempt 1  11-21 17:35:56, no end was seen"


def test_a_delivery_as_json_has_its_attempts_and_their_output(tmp_path: Path, state_dir: Path) -> None:
    """For programs of the node's owner, who may read the journal anyway."""
    shown = json.loads(answer(tmp_path, "deliveries", "show", TRIED.id, "--json", "--state-dir", state_dir))
    assert (shown["id"], shown["state"], shown["source"], shown["handler"]) == (
        TRIED.id,
        "failed",
        "rule 10-drain",
        "httpGet",
    )
    assert shown["attempts"] == [
        {
            "number": 1,
            "began_at": "2026-11-21T08:35:56.500Z",
            "ended_at": "2026-11-21T08:35:59.000Z",
            "exit_status": None,
            "http_status": None,
            "error": "nobody there",
            "output": "",
        },
        {
            "number": 2,
            "began_at": "2026-11-21T08:36:36.500Z",
            "ended_at": "2026-11-21T08:37:36.500Z",
            "exit_status": None,
            "http_status": 503,
            "error": "refused",
            "output": "HTTP/1.1 503 Busy\nback \x1b[31m later\n\ufffd",
        },
    ]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("0000", "there is no delivery 0000 in {journal}; `hookshim deliveries` lists them"),
        ("", "more than one delivery begins with  in {journal}; `hookshim deliveries` lists them"),
        ("\x1b[31m", "there is no delivery \\x1b[31m in {journal}; `hookshim deliveries` lists them"),
    ],
)
def test_an_id_that_names_no_delivery_is_one_line_and_exit_1(
    tmp_path: Path, state_dir: Path, key: str, expected: str
) -> None:
    """What was asked for, where, and what to do."""
    done = run(tmp_path, "deliveries", "show", key, "--state-dir", state_dir)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"hookshim: {expected.format(journal=state_dir / FILE)}\n"


def _story(delivery: Delivery, **fields: Any) -> Story:
    return Story(delivery, replace(operation(delivery), **fields), (), ())


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (Now("boot", 940.0, AT), f"deadline   {local(AT + 60)}, in 60 s"),
        (Now("boot", 1060.0, AT), f"deadline   {local(AT - 60)}, which has passed"),
        (Now("another", 940.0, AT), "deadline   of an earlier boot, so it is over"),
    ],
)
def test_a_deadline_is_shown_as_people_tell_the_time(now: Now, expected: str) -> None:
    """It is kept in seconds of the boot's clock, and means nothing in another boot."""
    assert expected in text(_story(WAITING, deadline=1000.0), now).splitlines()


@pytest.mark.parametrize(
    ("delivery", "fields", "expected"),
    [
        (OPEN, {}, "waits for its container to be started, or for a postStop to end"),
        (replace(WAITING, next_attempt_at=None), {}, "is sent as soon as it is its turn"),
        (replace(WAITING, next_attempt_at=None, state=DeliveryState.DELIVERING), {}, "is being delivered"),
        (TRIED, {"state": OperationState.FORWARDED}, "nothing for this hook; the container is being stopped"),
        (TRIED, {"state": OperationState.DONE}, "nothing"),
        (
            replace(TRIED, hook=Hook.POST_STOP),
            {"state": OperationState.DONE, "kind": OperationKind.END},
            "nothing, unless `hookshim deliveries retry` sends it again",
        ),
    ],
)
def test_what_happens_next_is_told_in_every_state(delivery: Delivery, fields: dict[str, Any], expected: str) -> None:
    """Of the hook, and of the operation that waits for it."""
    shown = text(_story(delivery, **fields), Now("boot", 0.0, AT)).splitlines()
    assert f"next       {expected}" in shown


def test_when_the_owner_and_the_runtime_were_involved_is_told() -> None:
    """A retry is the owner's; that the stop was sent on explains a short hook."""
    shown = text(_story(replace(TRIED, retried_at=AT), forwarded_at=AT + 1), Now("boot", 0.0, AT)).splitlines()
    assert f"retried    by the owner at {local(AT)}" in shown
    assert f"sent on    at {local(AT + 1)}" in shown
