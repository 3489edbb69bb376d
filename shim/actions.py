"""What one hook does and under which rules: the types that a declaration is read into. ``shim.lifecycle`` reads it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shim.records import Hook


@dataclass(frozen=True, slots=True)
class ExecAction:
    """``exec``: argv as given, no shell, in the container. At least one word."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HttpGetAction:
    """``httpGet``: a GET from the node's network namespace (a POST for postStop, which has something to tell).

    ``port`` is 1..65535 or a name from the container's ports; ``host`` empty means the pod's own address;
    ``scheme`` is ``HTTP`` or ``HTTPS``; ``headers`` in declared order, names may repeat. ``expect_status`` has the
    inclusive ranges of status that are a success; none means any. ``url`` is a node rule's absolute URL, in place of
    all of them (``port`` is 0 then).
    """

    port: int | str = 0
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    headers: tuple[tuple[str, str], ...] = ()
    expect_status: tuple[tuple[int, int], ...] = ()
    url: str = ""


@dataclass(frozen=True, slots=True)
class SleepAction:
    """``sleep``: whole seconds, 0 or more."""

    seconds: int


@dataclass(frozen=True, slots=True)
class TcpSocketAction:
    """``tcpSocket``: a connection to host and port, made and closed. ``port`` and ``host`` as in ``httpGet``."""

    port: int | str
    host: str = ""


@dataclass(frozen=True, slots=True)
class RunAction:
    """``run``: argv as given, on the node, as hookshim's own user. Only the node's rules may declare it."""

    command: tuple[str, ...]


Action = ExecAction | HttpGetAction | SleepAction | TcpSocketAction | RunAction


class OnFailure(StrEnum):
    """What a PostStart that failed does to its container; Kubernetes knows only ``kill``."""

    KILL = "kill"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a hook that fails is tried; ``attempts`` None: until its time is over.

    The pause before try n + 1 is ``backoff * 2 ** (n - 1)`` seconds, and up to ``backoff`` more, so that many do not
    come at once; never above ``max_backoff``.
    """

    attempts: int | None = 1
    backoff: float = 1.0
    max_backoff: float = 30.0


@dataclass(frozen=True, slots=True)
class LifecycleHandler:
    """One hook as it is declared. ``timeout`` bounds all of its attempts together, in seconds (None: no bound)."""

    action: Action
    timeout: float | None = None
    retry: Retry = Retry()
    on_failure: OnFailure = OnFailure.KILL


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """What one container declares: at most one handler for each hook."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    post_stop: LifecycleHandler | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """One hook of one container with who declared it: ``source`` as in ``shim.records``."""

    hook: Hook
    handler: LifecycleHandler
    source: str
