"""The words that people read: in StartContainer's error, in events, in the deliveries table.

They are the kubelet's where it has some (kubelet ``lifecycle/handlers.go``), without handler output.
"""

from __future__ import annotations

from shim.lifecycle import Action, ExecAction, printable
from shim.records import ContainerRef, Delivery, Event, Hook

#: Kubernetes' event reasons (kubelet ``events/event.go``).
REASONS = {Hook.POST_START: "FailedPostStartHook", Hook.PRE_STOP: "FailedPreStopHook"}

_LIMIT = 1024


def failed(action: Action, container: ContainerRef, why: str) -> str:
    """The kubelet's sentence for a handler that failed, ``why`` after ``error:``."""
    if isinstance(action, ExecAction):
        what = f"Exec lifecycle hook ([{printable(' '.join(action.command), _LIMIT)}])"
    else:
        what = f"HTTP lifecycle hook ({printable(action.path, _LIMIT)})"
    return f'{what} for Container "{container.name}" in Pod "{container.pod_text}" failed - error: {why}'


def post_start_refusal(error: str) -> str:
    """What StartContainer answers after a failed PostStart."""
    return f"PostStart handler: {error}"


def event(at: float, delivery: Delivery) -> Event:
    """The Warning about a delivery that has failed or was missed."""
    attempt = f" (attempt {delivery.attempts}" if delivery.attempts else " (not attempted"
    message = f"{delivery.outcome.error}{attempt}, delivery {delivery.id})"
    return Event(at, REASONS[delivery.hook], delivery.container, delivery.id, message)


STOPPED = "stopped before it ended"
ENDED_FIRST = "container exited"
REBOOTED = "missed: the node was restarted"
NOT_RUNNING = "missed: the container had ended when hookshim looked again"


def timed_out(seconds: float) -> str:
    """A handler that used up its budget."""
    return f"timed out after {seconds:.3g} s"


def interrupted(times: int) -> str:
    """A delivery that recovery gives up."""
    return f"interrupted {times} times by the end of hookshim"


def ended_by_itself(reason: str, exit_code: int) -> str:
    """A container with a PreStop that nobody stopped."""
    return f"ended by itself: {reason or 'no reason given'}, exit code {exit_code}"
