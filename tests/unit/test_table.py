"""Every transition that there is, and that there is no other."""

from __future__ import annotations

from itertools import product

import pytest

from shim.errors import TransitionError
from shim.records import DeliveryState, OperationKind, OperationState
from shim.table import DELIVERY, OPERATION, DeliveryEvent, OperationEvent, next_delivery, next_operation

DELIVERIES = """
armed       STARTED           pending
armed       START_FAILED      void
armed       ENDED             pending
armed       REBOOTED          missed
pending     SEND              delivering
pending     GIVEN_UP          failed
pending     NOT_DUE           skipped
pending     NOT_RUNNING       missed
pending     REBOOTED          missed
delivering  SUCCEEDED         delivered
delivering  FAILED            failed
delivering  RETRY             pending
delivering  INTERRUPTED       pending
delivering  CONTAINER_EXITED  exited
delivering  NOT_RUNNING       missed
delivering  REBOOTED          missed
failed      OWNER_RETRY       pending
pending     OWNER_RETRY       pending
armed       OWNER_SKIP        skipped
pending     OWNER_SKIP        skipped
delivering  OWNER_SKIP        skipped
"""

OPERATIONS = """
start  accepted    STARTED         forwarded
start  accepted    END             done
start  forwarded   END             done
start  done        OWNER_RETRY     forwarded
stop   accepted    HOOKS_ENDED     hooks_done
stop   accepted    END             done
stop   hooks_done  FORWARD         forwarded
stop   hooks_done  END             done
stop   forwarded   FORWARD_FAILED  hooks_done
stop   forwarded   END             done
end    accepted    STARTED         forwarded
end    accepted    END             done
end    forwarded   END             done
end    done        OWNER_RETRY     forwarded
exec   accepted    END             done
"""


def test_a_delivery_moves_as_the_table_says_and_in_no_other_way() -> None:
    """Every state with every event: the state after it, or TransitionError that names both."""
    rows = [line.split() for line in DELIVERIES.split("\n") if line]
    table = {(DeliveryState(state), DeliveryEvent[event]): DeliveryState(after) for state, event, after in rows}
    assert table == DELIVERY
    for state, event in product(DeliveryState, DeliveryEvent):
        if (state, event) in table:
            assert next_delivery(state, event) is table[state, event]
        else:
            with pytest.raises(TransitionError, match=f"a delivery that is {state} cannot take: {event}"):
                next_delivery(state, event)


def test_an_operation_moves_as_the_table_says_and_in_no_other_way() -> None:
    """Every kind and state with every event: the state after it, or TransitionError that names them."""
    rows = [line.split() for line in OPERATIONS.split("\n") if line]
    table = {
        (OperationKind(kind), OperationState(state), OperationEvent[event]): OperationState(after)
        for kind, state, event, after in rows
    }
    assert table == OPERATION
    for kind, state, event in product(OperationKind, OperationState, OperationEvent):
        if (kind, state, event) in table:
            assert next_operation(kind, state, event) is table[kind, state, event]
        else:
            with pytest.raises(TransitionError, match=f"a {kind} that is {state} cannot take: {event}"):
                next_operation(kind, state, event)


def test_every_state_can_be_reached() -> None:
    """Nothing in the diagram is an island: a delivery begins armed, pending or delivering."""
    begins = {DeliveryState.ARMED, DeliveryState.PENDING, DeliveryState.DELIVERING}
    assert begins | set(DELIVERY.values()) == set(DeliveryState)
    assert {OperationState.ACCEPTED} | set(OPERATION.values()) == set(OperationState)


def test_every_open_state_has_a_way_out_that_recovery_takes() -> None:
    """A reboot ends every open delivery, as its owner can, and every operation that is not done can end."""
    for state in DeliveryState:
        assert ((state, DeliveryEvent.OWNER_SKIP) in DELIVERY) is state.open
        assert ((state, DeliveryEvent.REBOOTED) in DELIVERY) is state.open
    ends = {(kind, state) for kind, state, event in OPERATION if event is OperationEvent.END}
    starts = {(OperationKind.START, state) for state in (OperationState.ACCEPTED, OperationState.FORWARDED)}
    stops = {(OperationKind.STOP, state) for state in OperationState if state is not OperationState.DONE}
    told = {(OperationKind.END, state) for state in (OperationState.ACCEPTED, OperationState.FORWARDED)}
    assert ends == starts | stops | told | {(OperationKind.EXEC, OperationState.ACCEPTED)}
