"""What a start of the daemon decides about what the one before it left open, for every state that it can find."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from shim import texts
from shim.changes import InsertEvent, UpdateDelivery, UpdateOperation
from shim.ports import Container, Ending, Pod
from shim.records import (
    ContainerState,
    Delivery,
    DeliveryState,
    Operation,
    OperationKind,
    OperationState,
    Reason,
)
from shim.recovery import Now, Verdict, reconcile
from tests.unit.records import REF, delivery, operation

NOW = Now(at=3000.0, boot_id="boot", max_interruptions=5)

#: What containerd shows, by a word: the container, and how it ended if it is EXITED.
FOUND: dict[str, tuple[ContainerState | None, Ending | None]] = {
    "gone": (None, None),
    "created": (ContainerState.CREATED, None),
    "running": (ContainerState.RUNNING, None),
    "unknown": (ContainerState.UNKNOWN, None),
    "ended": (ContainerState.EXITED, Ending(started=True, exit_code=0, reason="Completed", finished_at=2900.0)),
    "unstarted": (ContainerState.EXITED, Ending(started=False, exit_code=128, reason="StartError", finished_at=2900.0)),
}

#: What is found, and what is made of it. A dash: there is no delivery that is open. ``goes on``: the engine does.
CASES = """
start accepted    armed       created    armed    accepted    goes on
start accepted    armed       running    armed    accepted    goes on
start accepted    armed       unknown    armed    accepted    goes on
start accepted    armed       ended      missed   done        -
start accepted    armed       unstarted  void     done        -
start accepted    armed       gone       void     done        -
start forwarded   pending     running    pending  forwarded   goes on
start forwarded   pending     ended      missed   done        -
start forwarded   pending     gone       missed   done        -
start forwarded   delivering  running    pending  forwarded   goes on
start forwarded   delivering  unknown    pending  forwarded   goes on
start forwarded   delivering  ended      missed   done        -
start forwarded   delivering  gone       missed   done        -
start accepted    -           created    -        done        -
start forwarded   -           running    -        done        -
stop  accepted    delivering  running    pending  accepted    goes on
stop  accepted    delivering  unknown    pending  accepted    goes on
stop  accepted    delivering  ended      missed   done        -
stop  accepted    delivering  gone       missed   done        -
stop  accepted    pending     running    pending  accepted    goes on
stop  accepted    pending     ended      missed   done        -
stop  accepted    -           running    -        accepted    goes on
stop  accepted    -           ended      -        done        -
stop  hooks_done  -           running    -        hooks_done  goes on
stop  hooks_done  -           gone       -        done        -
stop  forwarded   -           running    -        hooks_done  goes on
stop  forwarded   -           unknown    -        hooks_done  goes on
stop  forwarded   -           ended      -        done        -
stop  forwarded   -           gone       -        done        -
"""


def found(word: str) -> tuple[Container | None, Ending | None]:
    """The container in that state."""
    state, ending = FOUND[word]
    pod = Pod("s1", "web", "default", "uid-1", {}, (), host_network=False)
    return (None if state is None else Container(REF, state, {}, pod)), ending


def left(kind: str, operation_state: str, delivery_state: str, **fields: Any) -> tuple[Operation, list[Delivery]]:
    """An open operation with its delivery, as the journal has them."""
    starts = kind == "start"
    made = operation(
        kind=OperationKind(kind),
        reason=Reason.START_CONTAINER if starts else Reason.STOP_CONTAINER,
        state=OperationState(operation_state),
    )
    if delivery_state == "-":
        return made, []
    attempts = fields.pop("attempts", 1 if delivery_state == "delivering" else 0)
    return made, [delivery(made, state=DeliveryState(delivery_state), attempts=attempts, **fields)]


def decide(now: Now, work: tuple[Operation, list[Delivery]], word: str) -> Verdict:
    """The verdict on it with the container as found."""
    return reconcile(now, *work, *found(word))


def after(work: tuple[Operation, list[Delivery]], verdict: Verdict) -> tuple[Operation, Delivery | None]:
    """Operation and delivery once the verdict's changes are applied, each from the state that it expects."""
    made, deliveries = work
    hook = deliveries[0] if deliveries else None
    for change in verdict.changes:
        if isinstance(change, UpdateOperation):
            assert change.expected is made.state
            made = change.operation
        elif isinstance(change, UpdateDelivery):
            assert hook is not None
            assert change.expected is hook.state
            hook = change.delivery
    return made, hook


@pytest.mark.parametrize("case", CASES.strip().split("\n"), ids=lambda case: "-".join(case.split()[:4]))
def test_what_is_found_open_is_settled_by_what_containerd_says(case: str) -> None:
    """One line of the table: both states afterwards, whether the engine goes on, and with what."""
    kind, operation_state, delivery_state, word, delivery_after, operation_after, goes_on = case.split(maxsplit=6)
    work = left(kind, operation_state, delivery_state)
    verdict = decide(NOW, work, word)
    made, hook = after(work, verdict)
    assert (hook.state if hook else "-", made.state) == (delivery_after, operation_after)
    assert (verdict.operation, verdict.delivery) == ((made, hook) if goes_on == "goes on" else (None, None))
    assert (made.finished_at == NOW.at) is (made.state is OperationState.DONE)
    assert not verdict.kill


@pytest.mark.parametrize("word", FOUND)
@pytest.mark.parametrize(
    ("kind", "operation_state", "delivery_state"),
    [
        ("start", "accepted", "armed"),
        ("start", "forwarded", "pending"),
        ("start", "forwarded", "delivering"),
        ("stop", "accepted", "delivering"),
        ("stop", "accepted", "pending"),
        ("stop", "hooks_done", "-"),
        ("stop", "forwarded", "-"),
    ],
)
def test_another_boot_ends_everything(kind: str, operation_state: str, delivery_state: str, word: str) -> None:
    """Whatever containerd says: the deadlines mean nothing, and the processes are gone."""
    work = left(kind, operation_state, delivery_state)
    verdict = decide(replace(NOW, boot_id="another"), work, word)
    made, hook = after(work, verdict)
    assert (made.state, verdict.operation) == (OperationState.DONE, None)
    if hook is not None:
        assert hook.state is DeliveryState.MISSED
        assert hook.outcome.error.endswith(f"error: {texts.REBOOTED}")


@pytest.mark.parametrize(
    ("operation_state", "delivery_state", "word", "state"),
    [
        ("accepted", "armed", "running", DeliveryState.FAILED),
        ("forwarded", "pending", "running", DeliveryState.FAILED),
        ("forwarded", "delivering", "running", DeliveryState.FAILED),
        ("accepted", "armed", "unstarted", DeliveryState.VOID),
        ("forwarded", "delivering", "ended", DeliveryState.MISSED),
    ],
)
def test_a_post_start_beside_an_open_stop_is_not_sent_again(
    operation_state: str, delivery_state: str, word: str, state: DeliveryState
) -> None:
    """The stop had ended it, or was about to."""
    work = left("start", operation_state, delivery_state)
    verdict = decide(replace(NOW, stopping=True), work, word)
    made, hook = after(work, verdict)
    assert hook is not None
    assert (hook.state, made.state, verdict.kill) == (state, OperationState.DONE, False)
    if state is DeliveryState.FAILED:
        assert hook.outcome.error.endswith(f"error: {texts.STOPPED}")


def test_an_armed_post_start_beside_an_open_stop_stays_while_the_container_is_created() -> None:
    """CREATED is no evidence, with a stop beside it or without."""
    work = left("start", "accepted", "armed")
    verdict = decide(replace(NOW, stopping=True), work, "created")
    assert verdict == Verdict((), work[0], work[1][0])


@pytest.mark.parametrize("interruptions", [0, 3])
def test_an_interruption_is_counted(interruptions: int) -> None:
    """It is sent again while it has not been interrupted too often."""
    work = left("stop", "accepted", "delivering", attempts=4, interruptions=interruptions)
    verdict = decide(NOW, work, "running")
    _, hook = after(work, verdict)
    assert hook is not None
    assert (hook.state, hook.interruptions, hook.attempts) == (DeliveryState.PENDING, interruptions + 1, 4)


def test_a_pre_stop_interrupted_too_often_is_failed_and_its_stop_goes_on() -> None:
    """With an event; the operation is left open for the engine to finish."""
    work = left("stop", "accepted", "delivering", attempts=5, interruptions=4)
    verdict = decide(NOW, work, "running")
    made, hook = after(work, verdict)
    assert hook is not None
    assert (hook.state, hook.interruptions, made.state) == (DeliveryState.FAILED, 5, OperationState.ACCEPTED)
    assert (verdict.operation, verdict.delivery, verdict.kill) == (made, hook, False)
    assert hook.outcome.error.endswith("error: interrupted 5 times by the end of hookshim")


def test_a_post_start_interrupted_too_often_is_failed_and_its_container_killed() -> None:
    """As after any failed PostStart, in the same commit: the engine adds the stop to these changes."""
    work = left("start", "forwarded", "delivering", attempts=5, interruptions=4)
    verdict = decide(NOW, work, "running")
    made, hook = after(work, verdict)
    assert hook is not None
    assert (hook.state, made.state) == (DeliveryState.FAILED, OperationState.DONE)
    assert (verdict.operation, verdict.kill) == (None, True)


def test_people_hear_of_what_was_missed_or_given_up_and_of_nothing_else() -> None:
    """Each failed or missed delivery comes with its one event in the same commit."""
    open_states = ["armed", "pending", "delivering", "-"]
    for kind, operation_state, delivery_state, word, boot, stopping, interruptions in product(
        ["start", "stop"],
        ["accepted", "hooks_done", "forwarded"],
        open_states,
        FOUND,
        ["boot", "another"],
        [False, True],
        [0, 4],
    ):
        possible = {
            ("start", "accepted"): {"armed", "-"},
            ("start", "forwarded"): {"pending", "delivering", "-"},
            ("stop", "accepted"): {"pending", "delivering", "-"},
        }.get((kind, operation_state), {"-"} if kind == "stop" else set())
        if delivery_state not in possible:
            continue
        counts = {"interruptions": interruptions, "attempts": 5} if delivery_state == "delivering" else {}
        work = left(kind, operation_state, delivery_state, **counts)
        now = replace(NOW, boot_id=boot, stopping=stopping and kind == "start")
        verdict = decide(now, work, word)
        made, hook = after(work, verdict)
        events = [change.event for change in verdict.changes if isinstance(change, InsertEvent)]
        announced = hook is not None and hook.state in (DeliveryState.FAILED, DeliveryState.MISSED)
        assert len(events) == announced
        for event in events:
            assert hook is not None
            assert event.message.startswith(hook.outcome.error)
        # Whatever was found: it is done, or the engine goes on with it.
        assert (made.state is OperationState.DONE) is (verdict.operation is None)
