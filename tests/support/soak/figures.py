"""The soak's figures, and the line that says them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.support.soak.moves import Kind, Victim
from tests.support.soak.verdict import Fate


@dataclass(slots=True)
class Figures:
    """Counts of hook calls. ``delivered`` were seen by their receiver at least once.

    ``lost``: due, seen by nobody, and not recorded as given up. ``duplicated``: seen more than once, by handler.
    ``not_called``: due and not seen, by the reason recorded; ``cut_short``: the same, but seen. ``own_ends``:
    containers that were killed from outside or exited by themselves. ``fronts``: daemons that were started, by their
    front doors. ``slowest``: the seconds of the round that took longest, and its number; ``slowest_for``: the answers
    that it waited for. ``hung``: calls that took longer than any may while nobody was killed; ``slowest_call``: the
    longest of all, in seconds, and what it was; ``spared``: kills that were not made, since they would have ended a
    call that was overdue.
    """

    seed: int
    callers: int
    rounds: int = 0
    kills: Counter[Victim] = field(default_factory=Counter)
    fronts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    due: int = 0
    delivered: int = 0
    lost: int = 0
    own_ends: int = 0
    starts_failed: int = 0
    killed_at_start: int = 0
    #: Rounds whose container ended by itself and was removed before hookshim had looked.
    unrecorded: list[int] = field(default_factory=list)
    #: Rounds whose container ended by itself while containerd was away, which says UNKNOWN of it.
    ends_lost: list[int] = field(default_factory=list)
    #: Containers of which it said that they run though they had ended, until it was started again for that.
    ends_mended: int = 0
    duplicated: Counter[Kind] = field(default_factory=Counter)
    fates: Counter[Fate] = field(default_factory=Counter)
    cut_short: Counter[str] = field(default_factory=Counter)
    not_called: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, 0)
    slowest_for: str = ""
    hung: int = 0
    slowest_call: tuple[float, str] = (0.0, "none")
    spared: int = 0
    #: Everything that must not be, each with its round, container and deliveries.
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether the soak has shown what it is to show."""
        return self.lost == 0 and not self.problems

    @property
    def again(self) -> str:
        """The command that makes the same moves again."""
        return f"hack/soak {self.rounds} --seed {self.seed} --callers {self.callers}"

    def line(self) -> str:
        """All figures in a few words."""
        rate = self.rounds / self.seconds * 60 if self.seconds else 0.0
        kills, twice, fates = self.kills, self.duplicated, self.fates
        return (
            f"seed {self.seed}: {self.rounds} rounds in {self.seconds:.0f} s ({rate:.0f} a minute), kills: "
            f"{kills[Victim.HOOKSHIM]} hookshim, {kills[Victim.CONTAINERD]} containerd, {self.own_ends} containers; "
            f"hookshims started ({_say(self.fronts)}); "
            f"hook calls due {self.due}, delivered {self.delivered}, lost {self.lost}, duplicated "
            f"{twice[Kind.EXEC]} exec and {twice[Kind.HTTP]} http; not called ({_say(self.not_called)}), "
            f"cut short ({_say(self.cut_short)}); void {fates[Fate.VOID]} of {self.starts_failed} starts that failed "
            f"({self.killed_at_start} as their container was killed); ended by itself before PreStop "
            f"{fates[Fate.NOT_DUE]}, and without a record {len(self.unrecorded)} {self.unrecorded}; "
            f"ends that containerd has lost {len(self.ends_lost)} {self.ends_lost} and, until it was started again, "
            f"{self.ends_mended}; "
            f"slowest round {self.slowest[0]:.0f} s ({self.slowest[1]}: {self.slowest_for}); calls that hung "
            f"{self.hung}, slowest call {self.slowest_call[0]:.1f} s ({self.slowest_call[1]}), kills spared for one "
            f"{self.spared}; "
            f"problems {len(self.problems)}"
        )


def _say(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "0"
