"""Every transition of a delivery and of an operation, as data. Anything else raises.

A delivery::

                start failed
      armed ───────────────────────────► void
        │ container is started                     container ended / gone
        ▼                                     ┌───────────────────────────────► skipped, missed
     pending ──► delivering ──► delivered     │
        ▲            │  ├──────► failed       │   (from pending, and from delivering after a crash)
        └────────────┘  └──────► exited ◄─────┘
          retry, interruption

    armed, pending, delivering → missed (reboot)   failed → pending (the owner's retry)
    pending → failed (a stop came, its time was over, or it was interrupted too often)
    armed, pending, delivering → skipped (the owner's skip)   pending → pending (the owner's retry: at once)

A postStop is armed until its container has ended; neither that nor a reboot is the end of it.

An operation::

    start   accepted ──► forwarded ──► done            accepted → done (it never started)
    stop    accepted ──► hooks_done ──► forwarded ──► done
                             ▲             │ error
                             └─────────────┘           any → done (the container is not running)
    end     accepted ──► forwarded ──► done            accepted → done (it never started, or all of it is skipped)
    start, end: done → forwarded (the owner's retry)
    exec    accepted ──► done      (the kubelet's own ExecSync was answered, or nobody knows)
"""

from __future__ import annotations

from enum import StrEnum

from shim.errors import TransitionError
from shim.records import DeliveryState as D
from shim.records import OperationKind as K
from shim.records import OperationState as O


class DeliveryEvent(StrEnum):
    """What can happen to a delivery."""

    STARTED = "the container is started"
    START_FAILED = "the start failed"
    ENDED = "the container has ended, and is to be told of"
    SEND = "an attempt begins"
    SUCCEEDED = "the handler succeeded"
    FAILED = "the handler failed"
    RETRY = "the handler failed and asks for another attempt"
    INTERRUPTED = "the daemon ended during the attempt"
    GIVEN_UP = "a stop came, its time is over, or it was interrupted too often"
    CONTAINER_EXITED = "the container exited during the attempt"
    NOT_DUE = "the container ended by itself before the hook was due"
    NOT_RUNNING = "the container is found not running"
    REBOOTED = "the node was restarted"
    OWNER_RETRY = "the node's owner asks for it again"
    OWNER_SKIP = "the node's owner takes it back"


class OperationEvent(StrEnum):
    """What can happen to an operation."""

    STARTED = "the runtime has started the container"
    HOOKS_ENDED = "the hooks have an outcome"
    FORWARD = "the stop is sent to the runtime"
    FORWARD_FAILED = "the runtime answered the stop with an error"
    END = "nothing is left to do"
    OWNER_RETRY = "the node's owner asks for one of its hooks again"


_E = DeliveryEvent
DELIVERY: dict[tuple[D, DeliveryEvent], D] = {
    (D.ARMED, _E.STARTED): D.PENDING,
    (D.ARMED, _E.START_FAILED): D.VOID,
    (D.ARMED, _E.ENDED): D.PENDING,
    (D.ARMED, _E.REBOOTED): D.MISSED,
    (D.PENDING, _E.SEND): D.DELIVERING,
    (D.PENDING, _E.GIVEN_UP): D.FAILED,
    (D.PENDING, _E.NOT_DUE): D.SKIPPED,
    (D.PENDING, _E.NOT_RUNNING): D.MISSED,
    (D.PENDING, _E.REBOOTED): D.MISSED,
    (D.DELIVERING, _E.SUCCEEDED): D.DELIVERED,
    (D.DELIVERING, _E.FAILED): D.FAILED,
    (D.DELIVERING, _E.RETRY): D.PENDING,
    (D.DELIVERING, _E.INTERRUPTED): D.PENDING,
    (D.DELIVERING, _E.CONTAINER_EXITED): D.EXITED,
    (D.DELIVERING, _E.NOT_RUNNING): D.MISSED,
    (D.DELIVERING, _E.REBOOTED): D.MISSED,
    (D.FAILED, _E.OWNER_RETRY): D.PENDING,
    (D.PENDING, _E.OWNER_RETRY): D.PENDING,
    (D.ARMED, _E.OWNER_SKIP): D.SKIPPED,
    (D.PENDING, _E.OWNER_SKIP): D.SKIPPED,
    (D.DELIVERING, _E.OWNER_SKIP): D.SKIPPED,
}

_P = OperationEvent
OPERATION: dict[tuple[K, O, OperationEvent], O] = {
    (K.START, O.ACCEPTED, _P.STARTED): O.FORWARDED,
    (K.START, O.ACCEPTED, _P.END): O.DONE,
    (K.START, O.FORWARDED, _P.END): O.DONE,
    (K.START, O.DONE, _P.OWNER_RETRY): O.FORWARDED,
    (K.STOP, O.ACCEPTED, _P.HOOKS_ENDED): O.HOOKS_DONE,
    (K.STOP, O.HOOKS_DONE, _P.FORWARD): O.FORWARDED,
    (K.STOP, O.FORWARDED, _P.FORWARD_FAILED): O.HOOKS_DONE,
    (K.STOP, O.ACCEPTED, _P.END): O.DONE,
    (K.STOP, O.HOOKS_DONE, _P.END): O.DONE,
    (K.STOP, O.FORWARDED, _P.END): O.DONE,
    (K.END, O.ACCEPTED, _P.STARTED): O.FORWARDED,
    (K.END, O.ACCEPTED, _P.END): O.DONE,
    (K.END, O.FORWARDED, _P.END): O.DONE,
    (K.END, O.DONE, _P.OWNER_RETRY): O.FORWARDED,
    (K.EXEC, O.ACCEPTED, _P.END): O.DONE,
}


def next_delivery(state: D, event: DeliveryEvent) -> D:
    """The state after ``event``. Raises TransitionError for a pair that is not in the table."""
    try:
        return DELIVERY[state, event]
    except KeyError:
        raise TransitionError(f"a delivery that is {state} cannot take: {event}") from None


def next_operation(kind: K, state: O, event: OperationEvent) -> O:
    """The state after ``event``. Raises TransitionError for a triple that is not in the table."""
    try:
        return OPERATION[kind, state, event]
    except KeyError:
        raise TransitionError(f"a {kind} that is {state} cannot take: {event}") from None
