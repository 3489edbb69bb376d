"""What a call makes due, decided from annotations and settings alone: which hooks, which budgets. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from shim.actions import Declared, ExecAction, LifecycleHandler, SleepAction
from shim.errors import DeclarationError
from shim.lifecycle import KEY, effective, parse_kubelet
from shim.ports import Container, Rules
from shim.records import KUBELET, Hook

#: The pod's grace, decimal seconds; the kubelet writes it on every container (kubelet ``kuberuntime/labels.go``).
GRACE_KEY = "io.kubernetes.pod.terminationGracePeriod"

#: The container's own preStop as Go's JSON; the kubelet writes it (kubelet ``kuberuntime/labels.go``).
KUBELET_KEY = "io.kubernetes.container.preStopHandler"

#: containerd counts a timeout in int64 nanoseconds: above this it overflows and kills at once.
MAX_TIMEOUT = 9_000_000_000

_DIGITS = len(str(MAX_TIMEOUT)) + 1

#: What a process still gets after its hook has used up the grace (kubelet ``minimumGracePeriodInSeconds``).
MINIMUM_GRACE = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """What the node's owner decides. ``default_grace`` in seconds, for pods that name none.

    ``retention``: seconds for which what has ended is kept; ``post_stop``: for which a postStop is tried.
    ``ensure_kubelet``: whether the kubelet's own exec preStop is made to run (``kubelet_prestop``).
    """

    default_grace: int = 30
    zero_timeout_runs: bool = True
    max_interruptions: int = 5
    retention: float = 24 * 3600.0
    post_stop: float = 24 * 3600.0
    ensure_kubelet: bool = False


def hooks(container: Container, rules: Rules, settings: Settings) -> tuple[Declared, ...]:
    """All hooks of the container: for each, those of the node's rules in their order, then the pod's own.

    The kubelet's comes before all of them, as when the kubelet runs it. Raises DeclarationError.
    """
    own = effective(container.ref.name, container.annotations, container.pod.annotations)
    return (*kubelets(container, settings), *rules.matching(container), *own)


def kubelets(container: Container, settings: Settings) -> tuple[Declared, ...]:
    """The kubelet's own exec preStop, if hookshim is to see to it. One that cannot be read is the kubelet's affair."""
    text = container.annotations.get(KUBELET_KEY) if settings.ensure_kubelet else None
    if text is None:
        return ()
    with suppress(DeclarationError):
        action = parse_kubelet(text)
        if isinstance(action, ExecAction):
            return (Declared(Hook.PRE_STOP, LifecycleHandler(action), KUBELET),)
    return ()


def check(name: str, annotations: Mapping[str, str], pod_annotations: Mapping[str, str], settings: Settings) -> None:
    """Raise DeclarationError if a container declared so could not be started."""
    longest = _grace(annotations, pod_annotations, settings)
    for declared in effective(name, annotations, pod_annotations):
        action = declared.handler.action
        if isinstance(action, SleepAction) and action.seconds > longest:
            raise DeclarationError(
                f"annotation {KEY} of the {declared.source}: at {declared.hook}.sleep.seconds: expected at most the "
                f"termination grace of {longest} s, found {action.seconds}"
            )


def of(declared: Iterable[Declared], hook: Hook) -> list[Declared]:
    """Those for one hook, in their order."""
    return [one for one in declared if one.hook is hook]


def grace(container: Container, settings: Settings) -> int:
    """The pod's termination grace in whole seconds; one that cannot be read counts as not named."""
    return _grace(container.annotations, container.pod.annotations, settings)


def _grace(annotations: Mapping[str, str], pod_annotations: Mapping[str, str], settings: Settings) -> int:
    text = annotations.get(GRACE_KEY, pod_annotations.get(GRACE_KEY, ""))
    if text.isascii() and text.isdigit():
        # More digits than a timeout can have are not read: Python refuses to, from some length on.
        return min(int(text.lstrip("0")[:_DIGITS] or "0"), MAX_TIMEOUT)
    return settings.default_grace


def clamp(timeout: int) -> int:
    """A StopContainer timeout as it is meant: negative is 0."""
    return min(max(timeout, 0), MAX_TIMEOUT)


def stop_budget(timeout: int, container: Container, settings: Settings) -> int:
    """Seconds from the acceptance of a stop to the end of its countdown: timeout 0 has a budget of its own."""
    return timeout or max(grace(container, settings), MINIMUM_GRACE)


def grace_left(timeout: int, left: float) -> int:
    """What is forwarded of ``timeout`` when ``left`` seconds of the countdown remain; 0 stays 0."""
    return max(min(MINIMUM_GRACE, timeout), min(timeout, math.ceil(left)))
