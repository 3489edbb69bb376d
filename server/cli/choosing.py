"""The options by which deliveries and events are chosen, and what they mean."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, TypeVar

import click

from server.cli.options import options
from server.log import printable
from shim.query import SHORTEST_ID, Filter
from shim.records import DeliveryState, Hook

F = TypeVar("F", bound=Callable[..., Any])

#: Stands for every state that is no outcome.
_OPEN: Final = "open"

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGO: Final = re.compile(r"(\d{1,9}(?:\.\d+)?)([smhd])")


def _since(_context: click.Context, _parameter: click.Parameter, typed: str | None) -> float | None:
    """A moment, as how long ago it is (30m, 2h, 1d) or by RFC 3339; in seconds since the epoch."""
    if typed is None:
        return None
    if found := _AGO.fullmatch(typed):
        return time.time() - float(found[1]) * _UNITS[found[2]]
    moment = None
    with suppress(ValueError):
        moment = datetime.fromisoformat(typed)
    if moment is None or moment.tzinfo is None:
        expected = "a time ago, as 90s, 30m, 2h or 1d, or a time with its zone, as 2026-11-21T08:00:00Z"
        raise click.BadParameter(f"{printable(typed)!r}: expected {expected}")
    return moment.timestamp()


_POD = click.option("--pod", metavar="NAME", help="Only this pod's: NAME, or NAMESPACE/NAME.")
_NAMESPACE = click.option("--namespace", "-n", metavar="NAME", help="Only this namespace's.")
_CONTAINER = click.option(
    "--container",
    metavar="NAME",
    help=f"Only this container's: its name, or the beginning of its id, {SHORTEST_ID} characters at least.",
)
_HOOK = click.option("--hook", type=click.Choice([hook.value for hook in Hook]), help="Only this hook's.")
_STATE = click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([_OPEN, *(state.value for state in DeliveryState)]),
    help="Only those in this state; may be repeated. open: armed, pending or delivering.",
)
_SINCE = click.option(
    "--since", metavar="TIME", callback=_since, help="Only what began or ended since: 30m, 2h, 1d ago, or RFC 3339."
)
_LIMIT = click.option("--limit", metavar="N", type=click.IntRange(min=1), help="Only the newest N.  [default: all]")

#: All of them, as one decorator.
CHOICE = options(_POD, _NAMESPACE, _CONTAINER, _HOOK, _STATE, _SINCE, _LIMIT)


def chosen(
    *,
    pod: str | None,
    namespace: str | None,
    container: str | None,
    hook: Hook | str | None,
    states: Sequence[str],
    since: float | None,
    limit: int | None,
) -> Filter:
    """What the options mean. Raises click.UsageError for a pod of one namespace that is wanted of another."""
    if pod is not None and "/" in pod:
        of, pod = pod.split("/", 1)
        if namespace not in (None, of):
            raise click.UsageError(f"--pod names the namespace {of!r}, --namespace {namespace!r}: give one of them")
        namespace = of
    wanted = {state for name in states for state in _states(name)}
    return Filter(pod, namespace, container, None if hook is None else Hook(hook), frozenset(wanted), since, limit)


def _states(name: str) -> list[DeliveryState]:
    return [state for state in DeliveryState if state.open] if name == _OPEN else [DeliveryState(name)]
