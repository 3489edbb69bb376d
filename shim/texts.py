"""The words that people read: in StartContainer's error, in events, in the deliveries table.

They are the kubelet's where it has some (kubelet ``lifecycle/handlers.go``), without handler output.
"""

from __future__ import annotations

from shim.actions import Action, ExecAction, HttpGetAction, RunAction, SleepAction, TcpSocketAction
from shim.records import ContainerRef, Delivery, DeliveryState, Event, Hook
from shim.strictjson import printable

#: Kubernetes' event reasons (kubelet ``events/event.go``); it has no postStop.
REASONS = {
    Hook.POST_START: "FailedPostStartHook",
    Hook.PRE_STOP: "FailedPreStopHook",
    Hook.POST_STOP: "FailedPostStopHook",
}

#: Of those that were accepted and could not be made: Kubernetes has no word for them, since it forgets them.
MISSED_REASONS = {
    Hook.POST_START: "MissedPostStartHook",
    Hook.PRE_STOP: "MissedPreStopHook",
    Hook.POST_STOP: "MissedPostStopHook",
}

_LIMIT = 1024


def failed(action: Action, container: ContainerRef, why: str) -> str:
    """The kubelet's sentence for a handler that failed, ``why`` after ``error:``."""
    return f'{_what(action)} for Container "{container.name}" in Pod "{container.pod_text}" failed - error: {why}'


def _what(action: Action) -> str:
    match action:
        case ExecAction(command):
            return f"Exec lifecycle hook ([{printable(' '.join(command), _LIMIT)}])"
        case HttpGetAction(url=""):
            return f"HTTP lifecycle hook ({printable(action.path, _LIMIT)})"
        case HttpGetAction(url=url):
            # What follows the path may hold a credential.
            return f"HTTP lifecycle hook ({printable(url.partition('?')[0], _LIMIT)})"
        case SleepAction(seconds):
            return f"Sleep lifecycle hook ({seconds} s)"
        case TcpSocketAction(port, host):
            return f"TCP lifecycle hook ({printable(f'{host}:{port}', _LIMIT)})"
        case RunAction(command):
            return f"Run lifecycle hook ([{printable(' '.join(command), _LIMIT)}])"


def undeclared(container: ContainerRef, problem: str) -> str:
    """A declaration that turns out to be malformed when its hook is due."""
    return f'Lifecycle hook for Container "{container.name}" in Pod "{container.pod_text}" failed - error: {problem}'


def post_start_refusal(error: str) -> str:
    """What StartContainer answers after a failed PostStart."""
    return f"PostStart handler: {error}"


def not_started(container: ContainerRef, error: str) -> str:
    """What StartContainer answers if the hooks of the container cannot be written down."""
    what = f"container {container.name} of pod {container.pod_text}"
    return f"{what} is not started, because its hooks cannot be recorded: {error}"


def event(at: float, delivery: Delivery) -> Event:
    """The Warning about a delivery that has failed or was missed."""
    attempt = f" (attempt {delivery.attempts}" if delivery.attempts else " (not attempted"
    message = f"{delivery.outcome.error}{attempt}, delivery {delivery.id})"
    reasons = MISSED_REASONS if delivery.state is DeliveryState.MISSED else REASONS
    return Event(at, reasons[delivery.hook], delivery.container, delivery.id, message)


STOPPED = "stopped before it ended"
JOURNAL_DAMAGED = "JournalDamaged"
KUBELET_RAN = "the kubelet has run it"
KUBELET_RUNS = "the kubelet runs it, and it has not ended within the grace"
ENDED_FIRST = "container exited"
EARLIER_FAILED = "not run: an earlier hook failed, and the container is stopped"
NO_TIME_LEFT = "not run: the hooks before it have used up the grace period"
REBOOTED = "missed: the node was restarted"
NOT_RUNNING = "missed: the container had ended when hookshim looked again"


def skipped(reason: str) -> str:
    """A delivery that its owner has taken back."""
    return f"skipped by the owner: {reason}"


def timed_out(seconds: float) -> str:
    """A handler that used up its budget."""
    return f"timed out after {seconds:.3g} s"


def interrupted(times: int) -> str:
    """A delivery that recovery gives up."""
    return f"interrupted {times} times by the end of hookshim"


def ended_by_itself(reason: str, exit_code: int | None) -> str:
    """A container with a PreStop that nobody stopped."""
    return f"ended by itself: {reason or 'no reason given'}, exit code {exit_code}"


def exited_with(command: tuple[str, ...], status: int) -> str:
    """A command that failed, in the kubelet's words as far as they go."""
    return f"command '{printable(' '.join(command), _LIMIT)}' exited with {status}"
