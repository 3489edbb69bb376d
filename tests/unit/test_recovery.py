"""What a start of the daemon decides about what the one before it left open, for every state that it can find."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from shim import texts
from shim.changes import InsertEvent, UpdateDelivery, UpdateOperation
from shim.ports import Container, Pod
from shim.records import (
    ContainerState,
    Delivery,
    DeliveryState,
    Ending,
    Execution,
    Operation,
    OperationKind,
    OperationState,
    Reason,
    Stage,
)
from shim.recovery import Now, Verdict, reconcile
from tests.unit.records import REF, delivery, operation

NOW = Now(at=3000.0, boot_id="boot")

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
start forwarded   delivering  running    delivering  forwarded   goes on
start forwarded   delivering  unknown    delivering  forwarded   goes on
start forwarded   delivering  ended      missed   done        -
start forwarded   delivering  gone       missed   done        -
start accepted    -           created    -        done        -
start forwarded   -           running    -        done        -
stop  accepted    delivering  running    delivering  accepted    goes on
stop  accepted    delivering  unknown    delivering  accepted    goes on
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
    left_open = (made, (hook,) if hook else ()) if goes_on == "goes on" else (None, ())
    assert (verdict.operation, verdict.deliveries) == left_open
    assert (made.finished_at == NOW.at) is (made.state is OperationState.DONE)


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
    ("status", "state", "error"),
    [(0, DeliveryState.DELIVERED, ""), (3, DeliveryState.FAILED, "error: command '/hook' exited with 3")],
)
def test_an_exit_status_that_was_still_recorded_is_the_outcome(status: int, state: DeliveryState, error: str) -> None:
    """The hook has run to its end before its container was gone."""
    execution = Execution(Stage.EXITED, pid=7, pid_started=8, exit_status=status)
    for word in ("ended", "gone"):
        work = left("stop", "accepted", "delivering", execution=execution)
        made, hook = after(work, decide(NOW, work, word))
        assert hook is not None
        assert (hook.state, hook.outcome.exit_status, made.state) == (state, status, OperationState.DONE)
        assert hook.outcome.error.endswith(error)


def test_a_hook_that_a_signal_ended_with_its_container_is_missed() -> None:
    """Nobody can tell any more whether it failed or was killed with the container."""
    work = left("stop", "accepted", "delivering", execution=Execution(Stage.EXITED, 7, 8, exit_status=137))
    _, hook = after(work, decide(NOW, work, "ended"))
    assert hook is not None
    assert hook.state is DeliveryState.MISSED


def test_of_several_hooks_each_that_is_open_is_settled() -> None:
    """Those that have an outcome keep it."""
    made, [first] = left("stop", "accepted", "delivering")
    second = replace(first, id="d2", position=1, state=DeliveryState.PENDING, attempts=0)
    before = replace(first, id="d0", position=2, state=DeliveryState.DELIVERED, finished_at=1.0)
    verdict = reconcile(NOW, made, [first, second, before], *found("ended"))
    states = {
        change.delivery.id: change.delivery.state for change in verdict.changes if isinstance(change, UpdateDelivery)
    }
    assert states == {first.id: DeliveryState.MISSED, "d2": DeliveryState.MISSED}
    running = reconcile(NOW, made, [first, second, before], *found("running"))
    assert running == Verdict((), made, (first, second, before))


def test_people_hear_of_what_was_missed_or_given_up_and_of_nothing_else() -> None:
    """Each failed or missed delivery comes with its one event in the same commit."""
    open_states = ["armed", "pending", "delivering", "-"]
    for kind, operation_state, delivery_state, word, boot in product(
        ["start", "stop"],
        ["accepted", "hooks_done", "forwarded"],
        open_states,
        FOUND,
        ["boot", "another"],
    ):
        possible = {
            ("start", "accepted"): {"armed", "-"},
            ("start", "forwarded"): {"pending", "delivering", "-"},
            ("stop", "accepted"): {"pending", "delivering", "-"},
        }.get((kind, operation_state), {"-"} if kind == "stop" else set())
        if delivery_state not in possible:
            continue
        work = left(kind, operation_state, delivery_state)
        verdict = decide(replace(NOW, boot_id=boot), work, word)
        made, hook = after(work, verdict)
        events = [change.event for change in verdict.changes if isinstance(change, InsertEvent)]
        announced = hook is not None and hook.state in (DeliveryState.FAILED, DeliveryState.MISSED)
        assert len(events) == announced
        for event in events:
            assert hook is not None
            assert event.message.startswith(hook.outcome.error)
        # Whatever was found: it is done, or the engine goes on with it.
        assert (made.state is OperationState.DONE) is (verdict.operation is None)
