"""A test can end or hold the daemon at every named place, and at no other."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shim.failpoints import Failpoint, FailpointError, Failpoints

#: Passes one place five times and another once, and says how far it came.
PASSES = """
import asyncio, sys
from shim.failpoints import Failpoint, Failpoints

async def main() -> None:
    failpoints = Failpoints(sys.argv[1])
    for number in range(1, 6):
        await failpoints.hit(Failpoint.STOP_ACCEPTED)
        print(number, flush=True)
    await failpoints.hit(Failpoint.STOP_COMMITTED)
    print("end", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("text", "said", "status"),
    [
        ("", "1 2 3 4 5 end", 0),
        ("start.accepted=kill", "1 2 3 4 5 end", 0),
        ("stop.accepted=kill", "", -signal.SIGKILL),
        ("stop.accepted=kill@1", "", -signal.SIGKILL),
        ("stop.accepted=kill@3", "1 2", -signal.SIGKILL),
        ("stop.accepted=kill@6", "1 2 3 4 5 end", 0),
        (" start.accept=kill , stop.committed=kill ,", "1 2 3 4 5", -signal.SIGKILL),
    ],
)
def test_an_armed_place_kills_the_process_at_the_pass_that_was_named(text: str, said: str, status: int) -> None:
    """With SIGKILL, so that nothing is flushed or cleaned up; every other place is passed."""
    result = subprocess.run([sys.executable, "-c", PASSES, text], capture_output=True, text=True, check=False)
    assert (result.stdout.split(), result.returncode) == (said.split(), status), result.stderr


async def test_a_held_place_waits_until_its_file_is_removed(tmp_path: Path) -> None:
    """The file says that the place is reached; whoever removes it lets the daemon go on."""
    file = tmp_path / "held"
    failpoints = Failpoints(f"stop.accepted=hold({file})")
    await failpoints.hit(Failpoint.STOP_ACCEPT)
    assert not file.exists()
    held = asyncio.create_task(failpoints.hit(Failpoint.STOP_ACCEPTED))
    while not file.exists():  # noqa: ASYNC110 - nothing tells of a file
        await asyncio.sleep(0.001)
    assert not held.done()
    file.unlink()
    await held


@pytest.mark.parametrize(
    "term",
    [
        "stop.accepted",
        "stop.accepted=",
        "stop.accepted=exit",
        "stop.accepted=kill@0",
        "stop.accepted=kill@-1",
        "stop.accepted=kill@many",
        "stop.accepted=hold(relative)",
        "stop.accepted=hold(/a",
        "stop.nowhere=kill",
        "=kill",
        "kill",
    ],
)
def test_a_text_that_does_not_parse_is_refused_with_what_was_expected(term: str) -> None:
    """The term as it was written, the three forms, and every name."""
    with pytest.raises(FailpointError) as refused:
        Failpoints(f"start.accept=kill,{term}")
    text = str(refused.value)
    assert text.startswith(f"HOOKSHIM_FAILPOINTS: {term!r}: expected NAME=kill, NAME=kill@N or NAME=hold(/FILE), ")
    assert all(name in text for name in Failpoint)


def test_what_is_armed_can_be_told() -> None:
    """For the log: nobody runs with an armed failpoint without knowing it."""
    assert Failpoints("").describe() == []
    assert Failpoints("stop.accept=kill, start.accept=hold(/x)").describe() == ["stop.accept", "start.accept"]
