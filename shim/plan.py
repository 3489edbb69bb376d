"""What a call makes due, decided from annotations and settings alone: which hooks, which budgets. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shim.lifecycle import Lifecycle, effective
from shim.ports import Container

#: The pod's grace, decimal seconds; the kubelet writes it on every container (kubelet ``kuberuntime/labels.go``).
GRACE_KEY = "io.kubernetes.pod.terminationGracePeriod"

#: containerd counts a timeout in int64 nanoseconds: above this it overflows and kills at once.
MAX_TIMEOUT = 9_000_000_000

#: What a process still gets after its hook has used up the grace (kubelet ``minimumGracePeriodInSeconds``).
MINIMUM_GRACE = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """What the node's owner decides. ``default_grace`` in seconds, for pods that name none.

    ``retention``: seconds for which what has ended is kept.
    """

    default_grace: int = 30
    zero_timeout_runs: bool = True
    max_interruptions: int = 5
    retention: float = 24 * 3600.0


def lifecycle(container: Container) -> Lifecycle:
    """What the container declares. Raises DeclarationError."""
    return effective(container.ref.name, container.annotations, container.pod.annotations)


def grace(container: Container, settings: Settings) -> int:
    """The pod's termination grace in whole seconds; one that cannot be read counts as not named."""
    text = container.annotations.get(GRACE_KEY, container.pod.annotations.get(GRACE_KEY, ""))
    if text.isascii() and text.isdigit():
        return min(int(text), MAX_TIMEOUT)
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
