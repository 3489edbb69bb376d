"""What can go wrong inside the engine, with what a person needs to act on it.

No gRPC code is made here: the edge does that, once (``server.intercept``).
"""


class HookshimError(Exception):
    """The root of the errors that hookshim raises on purpose."""


class DeclarationError(HookshimError):
    """A lifecycle declaration is malformed.

    The message names the annotation's key, the JSON path, and what was expected.
    """


class RuntimeCallError(HookshimError):
    """The container runtime answered a call with an error, or did not answer it.

    ``code`` is the gRPC status name as CRI uses it (``"NOT_FOUND"``), ``message`` the runtime's own text,
    ``details`` the binary status details (``grpc-status-details-bin``), empty if there are none.
    """

    #: The call may or may not have had its effect: the connection, not the runtime, ended it.
    AMBIGUOUS = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"})

    def __init__(self, code: str, message: str, details: bytes = b"") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details = details

    @property
    def ambiguous(self) -> bool:
        """Whether only the container's state can tell if the call had its effect."""
        return self.code in self.AMBIGUOUS


class TransitionError(HookshimError):
    """An event that the table does not have for this state: a bug, never an input."""


class JournalError(HookshimError):
    """The journal could not do what it was asked."""


class JournalConflictError(JournalError):
    """A record was not in the state that the change expected; nothing of the change was applied."""


class JournalCorruptError(JournalError):
    """The journal's file is damaged, or is no journal."""


class JournalUnavailableError(JournalError):
    """The journal cannot be written now (disk full, read-only, failing); nothing was applied."""


class HookFailedError(HookshimError):
    """A PostStart failed, so its container was stopped; the message is what StartContainer answers."""


class StoppedError(HookshimError):
    """A stop came while PostStart ran; the message is what StartContainer answers."""


class PodStoppingError(HookshimError):
    """The container's pod is being stopped or removed, so nothing in it is started."""


class CallerLeftError(HookshimError):
    """The caller left before anything was accepted, so nothing is done; nobody is there to be told."""


class ClosingError(HookshimError):
    """hookshim is shutting down and takes no new work."""


class RefusedError(HookshimError):
    """What the node's owner asks for cannot be done; the message says why, and what can be done instead."""


class AskedWronglyError(HookshimError):
    """What the node's owner has typed cannot be meant: an id that is not one delivery's, a reason that is none."""


class UnknownDeliveryError(HookshimError):
    """The journal has no such delivery."""
