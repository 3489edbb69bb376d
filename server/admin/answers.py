"""What the admin service answers, as frozen records: the command line and the observer see these and no messages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Status:
    """How the daemon does. ``*_at`` and ``*_since`` in seconds since the epoch.

    ``reason`` says why calls are not let in (empty if ``serving``); ``containerd_reason`` and ``journal_reason`` what
    is wrong there (empty if nothing is). ``containerd_since``: since when the runtime answers, or does not.
    ``open_operations`` is None if the journal does not answer; a postStop's is open for as long as its container runs.
    """

    version: str
    pid: int
    started_at: float
    serving: bool
    reason: str
    listen: Path
    containerd: Path
    state_dir: Path
    containerd_reachable: bool
    containerd_since: float
    containerd_reason: str
    journal_ok: bool
    journal_reason: str
    journals_set_aside: int
    open_operations: int | None


@dataclass(frozen=True, slots=True)
class AppliedHook:
    """One hook that applies to a container. ``source`` is ``container``, ``pod``, ``kubelet`` or ``rule NAME``.

    ``handler`` in a line, without header values. ``timeout`` in seconds for all attempts (None: no bound of its own),
    ``attempts`` None: until its time is over; ``backoff`` and ``max_backoff`` in seconds. ``on_failure``: ``kill`` or
    ``ignore``.
    """

    hook: str
    source: str
    handler: str
    timeout: float | None
    attempts: int | None
    backoff: float
    max_backoff: float
    on_failure: str


@dataclass(frozen=True, slots=True)
class ContainerHooks:
    """Which hooks apply to a container now, in the order in which those of one moment run.

    ``state`` is the runtime's word (``CONTAINER_RUNNING``). ``none_because`` says why there are no hooks, and is empty
    if there are; ``problem`` what is wrong with the container's own declaration, whose hooks are not in ``hooks`` then.
    """

    id: str
    sandbox_id: str
    name: str
    pod: str
    namespace: str
    uid: str
    state: str
    hooks: tuple[AppliedHook, ...]
    none_because: str
    problem: str


@dataclass(frozen=True, slots=True)
class Done:
    """What was done to a delivery: its whole id, and a sentence for people."""

    delivery_id: str
    message: str
