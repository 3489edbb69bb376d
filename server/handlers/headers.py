"""The headers that an ``httpGet`` hook sends: those that are declared, the kubelet's own, and who it is."""

from __future__ import annotations

from collections.abc import Sequence

from shim.ports import Attempt

Header = tuple[str, str]

#: Set here and by nobody else: framing, and the identity that a receiver deduplicates on. Host is its own case.
_RESERVED = frozenset(
    {"host", "content-length", "transfer-encoding", "trailer", "hookshim-delivery", "hookshim-attempt"}
)


def sent(declared: Sequence[Header], attempt: Attempt, user_agent: str, *, posts: bool) -> tuple[Header, ...]:
    """All but ``Host``, in order. ``posts``: there is a body, of JSON."""
    return (
        *_with_defaults(declared, user_agent, posts=posts),
        ("Hookshim-Delivery", attempt.delivery_id),
        ("Hookshim-Attempt", str(attempt.number)),
    )


def declared_host(declared: Sequence[Header]) -> str:
    """The first ``Host``; empty if there is none."""
    return next((value.strip() for name, value in declared if name.lower() == "host"), "")


def _with_defaults(headers: Sequence[Header], user_agent: str, *, posts: bool) -> list[Header]:
    """The declared headers with the kubelet's defaults: an empty User-Agent or Accept sends none at all."""
    spelt: dict[str, str] = {}
    reserved = _RESERVED | {"content-type"} if posts else _RESERVED
    # A name that is repeated in another case would replace the first in aiohttp: HTTP does not care how it is spelt.
    values = [
        (spelt.setdefault(name.lower(), name), value.strip(" \t"))
        for name, value in headers
        if name.lower() not in reserved
    ]
    if posts:
        values.append(("Content-Type", "application/json"))
    agents = [pair for pair in values if pair[0].lower() == "user-agent"] or [("User-Agent", user_agent)]
    accepts = [pair for pair in values if pair[0].lower() == "accept"] or [("Accept", "*/*")]
    others = [pair for pair in values if pair[0].lower() not in ("user-agent", "accept")]
    if all(name.lower() != "connection" for name, _ in others):
        others.append(("Connection", "close"))
    # Go sends the first User-Agent alone, and takes the first Accept as the answer to whether there is one.
    return [*(agents[:1] if agents[0][1] else ()), *(accepts if accepts[0][1] else ()), *others]
