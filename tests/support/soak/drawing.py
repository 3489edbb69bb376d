"""Draws a round from the seed and its number alone, so that a seed can be repeated."""

from __future__ import annotations

from random import Random

from tests.support.soak.moves import Death, Ending, Hook, HookMove, Kill, Kind, Manner, Phase, Round, Victim

#: How often a round has each. A container that ends by itself is rare enough to leave most PreStops due.
_KILL, _DEATH, _WALKS = 0.5, 0.25, 0.15

#: How often a kill is aimed at the start, where it hits those of other rounds too, so that these have no hooks.
_AT_START = 0.4

#: Seconds for which containerd stays down, at most.
_DOWN = 0.8

#: Whom a kill is for: containerd's restart costs all callers a second or so.
_VICTIMS = {Victim.HOOKSHIM: 6, Victim.CONTAINERD: 3, Victim.BOTH: 2}


def draw(seed: int, number: int) -> Round:
    """The round of that number."""
    chance = Random(f"{seed} round {number}")
    hooks = {}
    if chance.random() >= 0.1:
        hooks = {hook: _hook(chance) for hook in Hook if chance.random() < 0.75}
    longest = max((move.seconds for move in hooks.values()), default=0.0)
    death = _death(chance, longest) if chance.random() < _DEATH else None
    overtake = chance.uniform(0.0, 0.3) if chance.random() < 0.1 else None
    if death is not None and death.alone:
        overtake = None
    other = overtake is None and chance.random() < 0.3
    ending = chance.choice((Ending.REMOVE, Ending.STOP_POD, Ending.REMOVE_POD)) if other else Ending.STOP
    walks = chance.random() < _WALKS and ending is Ending.STOP and overtake is None
    return Round(
        number=number,
        hooks=hooks,
        patience=chance.choice((0.3, 2.0)) if chance.random() < 0.15 else 120.0,
        rest=chance.choice((0.0, chance.uniform(0.0, 0.3))),
        overtake=overtake,
        ending=ending,
        grace=chance.choice((0, 2, 3, 5)),
        second_grace=chance.choice((0, 1, 2, 8)) if chance.random() < 0.15 else None,
        walks=chance.uniform(0.01, 0.6) if walks else None,
        finish=chance.choice((0.0, 0.0, 0.3, 0.8)),
        remove=chance.random() < 0.5,
        kill=_kill(chance, longest, walks=walks) if walks or chance.random() < _KILL else None,
        death=death,
    )


def _hook(chance: Random) -> HookMove:
    seconds = chance.choice((0.0, 0.0, 0.2, 1.0))
    return HookMove(chance.choice(tuple(Kind)), seconds, fails=chance.random() < 0.2)


def _moment(chance: Random, longest: float) -> float:
    # half of them while the runtime or the journal is at work, half while a hook may be running
    return chance.choice((chance.uniform(0.0, 0.15), chance.uniform(0.0, longest + 0.4)))


def _kill(chance: Random, longest: float, *, walks: bool) -> Kill:
    [victim] = chance.choices(tuple(_VICTIMS), tuple(_VICTIMS.values()))
    # where nobody asks again, the stop is what must not be forgotten
    return Kill(
        Phase.START if not walks and chance.random() < _AT_START else Phase.END,
        _moment(chance, longest),
        victim,
        down=chance.choice((0.0, chance.uniform(0.0, _DOWN))),
        hookshim_first=chance.random() < 0.5,
    )


def _death(chance: Random, longest: float) -> Death:
    manner = chance.choice(tuple(Manner))
    alone = chance.random() < 0.4
    phase = Phase.START if alone or manner is Manner.EXITS else chance.choice(tuple(Phase))
    # most of them when the start is over: one that is killed in it has no hooks
    after = chance.choice((chance.uniform(0.0, 0.3), chance.uniform(0.1, longest + 0.8)))
    return Death(manner, phase, after, alone)
