"""What one round came to: what its callers were told, and how containerd shows its container."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.soak.moves import OWN_EXIT, Manner, Round
from tests.wire import cri_pb2 as cri

#: What containerd says of a container whose end it has missed (``unknownExitCode`` in its ``cri/server``).
UNKNOWN_EXIT = 255


@dataclass(slots=True)
class Story:
    """``attempt``: which CreateContainer made the container; one that broke may have made another, which nobody starts.

    ``broken``: a call for its start was cut off, so that the start may have failed.

    ``struck``: when its process was sent SIGKILL from outside, 0 if it was not. ``removed``: a caller was told that it
    is. ``end_lost``: containerd has missed its end, and says UNKNOWN. Times are in nanoseconds since the epoch, as
    containerd counts.
    """

    moves: Round
    container: str = ""
    attempt: int = 0
    broken: bool = False
    removed: bool = False
    end_lost: bool = False
    start_answer: str = ""
    stop_answers: list[str] = field(default_factory=list)
    #: When a caller was told that the container has ended.
    ended_by: list[int] = field(default_factory=list)
    struck: int = 0
    status: cri.ContainerStatus = field(default_factory=cri.ContainerStatus)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def started(self) -> bool:
        """Whether the container was started, as containerd has it."""
        return bool(self.status.started_at)

    @property
    def unknowable(self) -> bool:
        """Whether containerd, killed inside its start, cannot tell any more whether the container runs."""
        return not self.started and self.status.state == cri.CONTAINER_UNKNOWN

    @property
    def may_end(self) -> bool:
        """Whether it may have ended without a call."""
        return self.moves.death is not None

    @property
    def ended_itself(self) -> bool:
        """Whether it did, as far as can be known: its own exit code, or the signal that was sent.

        Its status may be from before its end, if a call removed it, and containerd does not always know the exit code.
        """
        if self.moves.death is None:
            return False
        if self.moves.death.manner is Manner.EXITS:
            return self.status.exit_code in (OWN_EXIT, UNKNOWN_EXIT) or not self.status.finished_at
        return bool(self.struck)

    def expect(self, *, right: bool, expected: str, seen: object) -> None:
        """Note a problem unless that is ``right``."""
        if not right:
            self.problems.append(f"expected: {expected}; seen: {seen}")
