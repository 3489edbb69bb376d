"""Which metadata passes through a proxy: all of it, but for what belongs to each connection."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    Pairs: TypeAlias = tuple[tuple[str, str | bytes], ...]

#: Where gRPC carries binary status details (``google.rpc.Status``).
STATUS_DETAILS = "grpc-status-details-bin"

#: grpc writes these itself on each connection (gRPC over HTTP/2, "Requests" and "Reserved"). It overwrites a
#: user agent that is passed on, so the caller's ends here.
_PER_CONNECTION = frozenset({"user-agent", "content-type", "te", "host"})

#: What grpc agrees to send. It does not check what it receives, and would fail the whole call.
_TEXT = re.compile(r"[\x20-\x7e]*")


def passed_on(metadata: Iterable[tuple[str, str | bytes]] | None) -> Pairs:
    """The pairs to send on, in their order, repeated keys included.

    ``grpc-`` keys are the protocol's own, but for the binary ones, which are its users' (tracing, status details).
    """
    return tuple((key, value) for key, value in metadata or () if _passes(key, value))


def _passes(key: str, value: str | bytes) -> bool:
    if key.endswith("-bin"):
        return True
    if key in _PER_CONNECTION or key.startswith((":", "grpc-")):
        return False
    return isinstance(value, str) and _TEXT.fullmatch(value) is not None
