"""The records that the journal keeps and the engine passes on. All are frozen: a change is a new record.

Times named ``*_at`` are seconds since the epoch, for people; deadlines are seconds of the boot's clock
(CLOCK_BOOTTIME) and mean nothing without their ``boot_id``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Hook(StrEnum):
    """Which of a container's moments; the values are Kubernetes' field names, and ``postStop`` is ours."""

    POST_START = "postStart"
    PRE_STOP = "preStop"
    POST_STOP = "postStop"


class OperationKind(StrEnum):
    """What a caller asked for; END is what nobody needs to ask for, EXEC the kubelet's own run of its preStop."""

    START = "start"
    STOP = "stop"
    END = "end"
    EXEC = "exec"


class Reason(StrEnum):
    """Why an operation exists."""

    START_CONTAINER = "StartContainer"
    STOP_CONTAINER = "StopContainer"
    STOP_POD_SANDBOX = "StopPodSandbox"
    REMOVE_CONTAINER = "RemoveContainer"
    REMOVE_POD_SANDBOX = "RemovePodSandbox"
    POST_START_FAILED = "FailedPostStart"
    EXITED = "Exited"
    ENDED = "Ended"
    EXEC_SYNC = "ExecSync"


class OperationState(StrEnum):
    """How far an operation has come; the diagram is in ``shim.table``."""

    ACCEPTED = "accepted"
    HOOKS_DONE = "hooks_done"
    FORWARDED = "forwarded"
    DONE = "done"


class DeliveryState(StrEnum):
    """What became of one hook; the diagram is in ``shim.table``."""

    ARMED = "armed"
    PENDING = "pending"
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    FAILED = "failed"
    EXITED = "exited"
    VOID = "void"
    SKIPPED = "skipped"
    MISSED = "missed"

    @property
    def open(self) -> bool:
        """Whether something is still to happen."""
        return self in (DeliveryState.ARMED, DeliveryState.PENDING, DeliveryState.DELIVERING)


#: Outcomes that a person should hear of: each comes with an event.
ANNOUNCED = frozenset({DeliveryState.FAILED, DeliveryState.MISSED})


#: An exit status above this is a signal's: 128 + its number.
SIGNALLED = 128


class ContainerState(StrEnum):
    """The runtime's own words (CRI api.proto, ContainerState)."""

    CREATED = "CONTAINER_CREATED"
    RUNNING = "CONTAINER_RUNNING"
    EXITED = "CONTAINER_EXITED"
    UNKNOWN = "CONTAINER_UNKNOWN"

    @property
    def startable(self) -> bool:
        """Whether a start can have an effect."""
        return self is ContainerState.CREATED

    @property
    def stoppable(self) -> bool:
        """Whether a stop finds a process: UNKNOWN counts, since containerd kills it."""
        return self in (ContainerState.RUNNING, ContainerState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class ContainerRef:
    """Who a container is: what every record, event and error text names. Never changes."""

    id: str
    sandbox_id: str
    name: str
    pod: str
    namespace: str
    uid: str

    @property
    def pod_text(self) -> str:
        """The pod as the kubelet's texts write it: ``name_namespace(uid)``."""
        return f"{self.pod}_{self.namespace}({self.uid})"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a container stands when it is not running: ``started`` tells an exit from a start that failed.

    ``started_at`` and ``finished_at`` in seconds since the epoch, 0 if the runtime does not know; ``exit_code`` None if
    nobody knows.
    """

    started: bool
    exit_code: int | None
    reason: str
    finished_at: float
    started_at: float = 0.0


#: Whom an event is about that is no container's.
NODE = ContainerRef("", "", "", "", "", "")


@dataclass(frozen=True, slots=True)
class Operation:
    """What a caller asked and was accepted.

    ``timeout`` is what is forwarded to StopContainer in whole seconds (0 for a start); ``deadline`` ends the
    current phase, in seconds of the boot's clock (None: no bound). ``ending`` is an END's, once it is known.
    ``forwarded_at`` is when a stop was last sent to the runtime.
    """

    id: str
    kind: OperationKind
    reason: Reason
    container: ContainerRef
    state: OperationState
    timeout: int
    deadline: float | None
    boot_id: str
    created_at: float
    finished_at: float | None = None
    error: str = ""
    ending: Ending | None = None
    forwarded_at: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to. ``error`` is empty for a success; it never holds the handler's output.

    ``output`` is the tail of what the handler said, for the node's owner alone. ``permanent``: another attempt would
    come to the same (not kept).
    """

    error: str = ""
    exit_status: int | None = None
    http_status: int | None = None
    output: bytes = b""
    permanent: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the hook has done what it was for."""
        return not self.error


class Stage(StrEnum):
    """How far the process of an attempt has come, as far as that is committed."""

    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class Execution:
    """The process of one attempt, by which it is found again.

    ``pid`` on the node and ``pid_started`` (clock ticks since boot, proc(5) ``starttime``) from RUNNING on;
    ``exit_status`` when EXITED, 128 + n after signal n.
    """

    stage: Stage
    pid: int | None = None
    pid_started: int | None = None
    exit_status: int | None = None


#: Who declared a hook: the container's annotation, its pod's, or its kubelet; a node's rule is ``rule NAME``.
CONTAINER, POD, KUBELET, RULE = "container", "pod", "kubelet", "rule "


@dataclass(frozen=True, slots=True)
class Delivery:
    """One hook of one operation; those of one operation run in the order of their ``position``.

    ``handler`` is the declaration as JSON (``{"exec": {"command": [...]}}``), ``source`` who made it. ``attempts``
    counts how often it was sent, ``interruptions`` how often the daemon ended in the middle. ``next_attempt_at`` is
    when a pending one is tried again. ``execution`` is the current attempt's, filled in when it is read.

    ``retried_at`` is when the owner has last asked for it again, ``attempts_before`` how often it was sent before that.
    """

    id: str
    operation_id: str
    container: ContainerRef
    hook: Hook
    position: int
    handler: str
    state: DeliveryState
    created_at: float
    attempts: int = 0
    interruptions: int = 0
    finished_at: float | None = None
    outcome: Outcome = Outcome()
    source: str = CONTAINER
    next_attempt_at: float | None = None
    execution: Execution | None = None
    retried_at: float | None = None
    attempts_before: int = 0

    @property
    def tries(self) -> int:
        """How often it was sent of what its declaration allows: what was cut off by hookshim's end does not count."""
        return self.attempts - self.attempts_before - self.interruptions


@dataclass(frozen=True, slots=True)
class Found:
    """A delivery that somebody looked for, its operation, and all deliveries of that in their order."""

    delivery: Delivery
    operation: Operation
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """What the journal keeps of one attempt of a delivery. ``ended_at`` None: it runs, or nobody saw its end."""

    number: int
    began_at: float
    ended_at: float | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Event:
    """A Warning about a pod, as ``kubectl describe pod`` shows the kubelet's, or about the ``NODE``."""

    at: float
    reason: str
    container: ContainerRef
    delivery_id: str
    message: str

    @property
    def field_path(self) -> str:
        """The part of the pod that the event is about (Kubernetes ObjectReference.fieldPath)."""
        return f"spec.containers{{{self.container.name}}}" if self.container != NODE else ""
