"""An intercepted call's state, up to the point where it is an ordinary one or over. This is the whole table.

```
              message is whole            Pass
  RECEIVING ─────────────────► DECIDING ────────► PASSED
      │  └─ ends without one ─────│───────────────► ▲
      │     unreadable, shutdown  │ Answer, Refusal, shutdown
      ├───────────────────────────┴────────────────► ANSWERED
      └─ caller or backend ends ──┴────────────────► GONE
```

What is not in it cannot happen, and raises. In RECEIVING and DECIDING DATA are held; PASSED lets them go on, ANSWERED
and GONE drop them.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class State(Enum):
    """Where an intercepted call is."""

    RECEIVING = "receiving"
    DECIDING = "deciding"
    PASSED = "passed"
    ANSWERED = "answered"
    GONE = "gone"


class Event(Enum):
    """What happens to it."""

    WHOLE = "its message is whole"
    NO_MESSAGE = "its caller sends no more, and no message was whole"
    GOES_ON = "it was decided: it goes on"
    OWN = "it is answered here"
    ENDED = "its caller or the backend has ended it"


TABLE: Final[dict[tuple[State, Event], State]] = {
    (State.RECEIVING, Event.WHOLE): State.DECIDING,
    (State.RECEIVING, Event.NO_MESSAGE): State.PASSED,
    (State.RECEIVING, Event.OWN): State.ANSWERED,
    (State.RECEIVING, Event.ENDED): State.GONE,
    (State.DECIDING, Event.GOES_ON): State.PASSED,
    (State.DECIDING, Event.OWN): State.ANSWERED,
    (State.DECIDING, Event.ENDED): State.GONE,
}


def after(state: State, event: Event) -> State:
    """The state after an event. Raises RuntimeError for what cannot happen."""
    if (state, event) not in TABLE:
        raise RuntimeError(f"an intercepted call that is {state.value} cannot meet {event.value!r}")
    return TABLE[state, event]
