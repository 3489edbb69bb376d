"""The relay carries calls through, and lets them end, as the reference does: the reference's own tests."""

from __future__ import annotations

from tests.unit import test_front, test_front_ends
from tests.unit.relay.again import again

_CARRIED = again(
    test_front,
    {
        "test_a_stream_stays_open_for_a_minute",  # the relay has no clock that could end one
        "test_metadata_of_the_connection_stays_behind",  # needs no front door
    },
)

_ENDED = again(
    test_front_ends,
    {
        "test_a_bug_while_forwarding_is_told",  # plants its bug in the reference
        "test_a_cancelled_stream_is_not_taken_for_a_whole_one",  # makes a reference; test_wire.py has it for the relay
        # These two ask the backend, not the front door.
        "test_a_runtime_without_cri_is_not_reachable",
        "test_waiting_for_a_runtime_reports_why_and_ends_when_told",
    },
)

globals().update(_CARRIED | _ENDED)
