"""What an exec's end comes to, in the kubelet's words, whichever way it was run."""

from __future__ import annotations

from shim import texts
from shim.actions import ExecAction
from shim.ports import Attempt
from shim.records import Outcome
from shim.strictjson import printable

#: How much of a handler's output is kept, in bytes: the end of it.
OUTPUT_LIMIT = 4 * 1024

#: How much of the runtime's own words an error quotes, in characters.
_QUOTED = 1024


def command(attempt: Attempt) -> tuple[str, ...]:
    """The words to run. Raises TypeError: another kind of action is a bug."""
    action = attempt.handler.action
    if not isinstance(action, ExecAction):
        raise TypeError(f"an exec handler was given {type(action).__name__}")
    return action.command


def exited(attempt: Attempt, status: int, output: bytes) -> Outcome:
    """It ran to its end; exit status 0 is success."""
    output = output[-OUTPUT_LIMIT:]
    if status == 0:
        return Outcome(exit_status=0, output=output)
    why = texts.exited_with(command(attempt), status)
    return Outcome(texts.failed(attempt.handler.action, attempt.container.ref, why), exit_status=status, output=output)


def refused(attempt: Attempt, why: str) -> Outcome:
    """It did not run, or nobody knows how it ended."""
    return Outcome(texts.failed(attempt.handler.action, attempt.container.ref, printable(why, _QUOTED)))
