"""The schema of a declaration, Kubernetes' own ``Lifecycle``, and the one place that parses it.

Filled in below; see semantics in the README ("Declaring hooks").
"""

from __future__ import annotations

from dataclasses import dataclass

#: The annotation key, on the container's config and on the pod's.
KEY = "hookshim.dev/lifecycle"


@dataclass(frozen=True, slots=True)
class ExecAction:
    """``exec``: argv as given, no shell. At least one word."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HttpGetAction:
    """``httpGet``: a GET from the node's network namespace.

    ``port`` is 1..65535 or a name from the container's ports; ``host`` empty means the pod's own address;
    ``scheme`` is ``HTTP`` or ``HTTPS``; ``headers`` in declared order, names may repeat.
    """

    port: int | str
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    headers: tuple[tuple[str, str], ...] = ()


Action = ExecAction | HttpGetAction


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """What one container declares: at most one handler for each hook."""

    post_start: Action | None = None
    pre_stop: Action | None = None
