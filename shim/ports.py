"""What the engine needs from outside, as protocols: the runtime, the handlers, time and chance."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from shim.actions import Declared, LifecycleHandler
from shim.changes import Change
from shim.records import (
    CONTAINER,
    ContainerRef,
    ContainerState,
    Delivery,
    Ending,
    Execution,
    Found,
    Hook,
    Operation,
    Outcome,
)

#: The caller's request metadata, passed on with the forwarded call: (key, value) pairs.
Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod sandbox as the runtime knows it now. ``ips`` is empty on the host's network.

    ``runtime_handler`` is the RuntimeClass's, empty for the default.
    """

    id: str
    name: str
    namespace: str
    uid: str
    annotations: dict[str, str]
    ips: tuple[str, ...]
    host_network: bool
    labels: dict[str, str] = field(default_factory=dict)
    runtime_handler: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the runtime knows it now. ``annotations`` are the container's own, and never change.

    ``image`` is the reference that it was created with.
    """

    ref: ContainerRef
    state: ContainerState
    annotations: dict[str, str]
    pod: Pod
    image: str = ""


async def _unrecorded(_execution: Execution) -> None:
    """For an attempt that nobody could find again."""


async def _sent() -> None:
    """For an attempt that is on disk already."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one delivery: everything a handler needs.

    ``budget`` is the seconds it may take (None: no bound); the engine cancels the handler when they are over.
    ``source`` says who declared it (``shim.records``). ``execution`` is what is recorded of this very attempt: with its
    beginning, or by an earlier process. ``record`` writes it; it never raises, and returns when that is on disk, or
    cannot be for now.
    ``ending`` is what a postStop has to tell. ``sent`` returns when it is on disk that the attempt has begun, as does
    ``record``; that is so before a handler is given one, unless it is Foreseeing.
    """

    delivery_id: str
    number: int
    hook: Hook
    handler: LifecycleHandler
    container: Container
    budget: float | None
    source: str = CONTAINER
    execution: Execution | None = None
    record: Callable[[Execution], Awaitable[None]] = _unrecorded
    ending: Ending | None = None
    sent: Callable[[], Awaitable[None]] = _sent


class Handler(Protocol):
    """Carries out attempts of one kind of action."""

    async def deliver(self, attempt: Attempt) -> Outcome:
        """Carry the attempt out and return what it came to; only bugs raise.

        Cancelling it ends the work, as far as the kind allows (an exec is killed, a connection closed).
        """
        ...

    async def find(self, attempt: Attempt) -> Outcome | None:
        """Go on with an attempt that an earlier process began, and return what it came to.

        None: it is not to be found, nothing of it will have an effect from now on as far as can be known, and it has
        to be sent again. Cancelling it ends the work, as in ``deliver``.
        """
        ...


@runtime_checkable
class Foreseeing(Protocol):
    """A handler that prepares its work while its attempt is not on disk yet, and waits for that before any effect."""

    @property
    def begins(self) -> Execution | None:
        """What is recorded with the beginning of each attempt: how far its process may be once that is on disk."""
        ...

    def foresee(self, container: Container) -> None:
        """A hook is about to be due in this container. Returns at once, and nothing comes of it but time."""
        ...


class Rules(Protocol):
    """The hooks that the node's owner declares, as they are now."""

    @property
    def generation(self) -> int:
        """Another number whenever the rules have been replaced."""
        ...

    def matching(self, container: Container) -> Sequence[Declared]:
        """What the rules declare for this container, in their order."""
        ...


class Runtime(Protocol):
    """The container runtime, as far as the engine asks it. All raise RuntimeCallError.

    Ids given to it may be prefixes, as people type them; ids in its answers are whole.
    """

    async def find(self, container_id: str) -> Container | None:
        """The container as it is now with its pod, None if the runtime knows none by that id."""
        ...

    async def find_all(self, container_ids: Collection[str]) -> dict[str, Container]:
        """Those of these containers (whole ids) that the runtime knows, as they are now, by their ids.

        The pod of one that has ended is not asked for.
        """
        ...

    async def in_pod(self, sandbox_id: str, wanted: Callable[[str, ContainerState], bool]) -> list[Container]:
        """The pod's containers whose id and state are ``wanted``; none if the runtime knows no such pod."""
        ...

    async def state(self, container_id: str) -> ContainerState | None:
        """The state now, None if the container is gone."""
        ...

    async def ending(self, container_id: str) -> Ending | None:
        """How a container that is not running ended, None if it is gone."""
        ...

    async def start(self, request: bytes, metadata: Metadata, timeout: float | None) -> bytes:
        """StartContainer with the caller's own message; ``timeout`` is the seconds the caller still waits."""
        ...

    async def stop(self, container_id: str, timeout: int, request: bytes, metadata: Metadata, within: float) -> bytes:
        """StopContainer; ``timeout`` whole seconds of grace, ``within`` seconds for the call itself.

        ``request`` is the caller's own message, or empty; its other fields go on with it.
        """
        ...

    async def exec(self, request: bytes, metadata: Metadata) -> bytes:
        """ExecSync with the caller's own message, to its end."""
        ...

    async def running(self) -> list[Container]:
        """All containers that run."""
        ...

    async def wait_ended(self, container_id: str) -> None:
        """Return when the container is not running any more (or is gone); survives the runtime's restart."""
        ...

    async def clear_leftover(self, container_id: str) -> None:
        """Delete a task that a cut-off start left behind, if there is one."""
        ...


class Clock(Protocol):
    """Time and chance come in through here; waiting is the event loop's, which tests replace."""

    @property
    def boot_id(self) -> str:
        """The kernel's id of this boot."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch, for people."""
        ...

    def boottime(self) -> float:
        """Seconds of the boot's clock, which goes on over a restart of the daemon."""
        ...

    def new_id(self) -> str:
        """A fresh id: letters and digits, at most 32."""
        ...


class Journal(Protocol):
    """What is kept on disk. A commit that returned survives whatever dies."""

    async def commit(self, *changes: Change) -> None:
        """Apply all of the changes or none. Raises JournalConflictError, JournalUnavailableError."""
        ...

    async def deliveries_of(self, container_id: str) -> list[Delivery]:
        """All that was ever recorded for one container, oldest first. Raises JournalUnavailableError."""
        ...

    async def find(self, key: str) -> Found:
        """The delivery whose id is this or, of all, begins so.

        Raises UnknownDeliveryError, AskedWronglyError (more than one), JournalUnavailableError.
        """
        ...

    async def born(self) -> float:
        """When the journal was begun, in seconds since the epoch. Raises JournalUnavailableError."""
        ...

    async def executions_of(self, container_id: str) -> list[Operation]:
        """The kubelet's own runs of a container's preStop, oldest first. Raises JournalUnavailableError."""
        ...

    async def open_work(self) -> list[tuple[Operation, list[Delivery]]]:
        """Every open operation with its deliveries, oldest first. Raises JournalUnavailableError."""
        ...

    async def open_work_of(self, container_id: str) -> list[tuple[Operation, list[Delivery]]]:
        """The same of one container. Raises JournalUnavailableError."""
        ...
