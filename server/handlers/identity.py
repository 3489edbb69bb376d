"""Who a hook is about, as a receiver on the node or in the network is told: one JSON document, or the same variables.

A postStop's receiver has nothing else: the container and its pod may be gone when it hears of them.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC, datetime

from shim.ports import Attempt
from shim.records import Hook

_CAPITAL = re.compile(r"(?=[A-Z])")


def fields(attempt: Attempt) -> dict[str, str | int | None]:
    """Hook, delivery, attempt, container and pod; for a postStop also how the container ended.

    Times are RFC 3339 in UTC. None is what nobody knows; a reason that nobody knows is ``Unknown``.
    """
    ref, ending = attempt.container.ref, attempt.ending
    told: dict[str, str | int | None] = {
        "hook": attempt.hook.value,
        "delivery": attempt.delivery_id,
        "attempt": attempt.number,
        "containerId": ref.id,
        "containerName": ref.name,
        "podName": ref.pod,
        "podNamespace": ref.namespace,
        "podUid": ref.uid,
        "sandboxId": ref.sandbox_id,
    }
    if attempt.hook is Hook.POST_STOP:
        told |= {
            "exitCode": None if ending is None else ending.exit_code,
            "reason": ending.reason if ending is not None and ending.reason else "Unknown",
            "startedAt": None if ending is None else _time(ending.started_at),
            "finishedAt": None if ending is None else _time(ending.finished_at),
        }
    return told


def document(attempt: Attempt) -> bytes:
    """The fields as a JSON object in one line of UTF-8."""
    return json.dumps(fields(attempt), ensure_ascii=False, separators=(",", ":")).encode(errors="replace") + b"\n"


def variables(attempt: Attempt) -> dict[bytes, bytes]:
    """The fields as ``HOOKSHIM_CONTAINER_ID`` and so on; what nobody knows is empty, and a NUL is left out."""
    return {
        f"HOOKSHIM_{_CAPITAL.sub('_', name).upper()}".encode(): b""
        if value is None
        else str(value).replace("\0", "").encode(errors="replace")
        for name, value in fields(attempt).items()
    }


def _time(seconds: float) -> str | None:
    # A runtime that does not know says 0, or a year that no calendar here has.
    with suppress(ValueError, OverflowError, OSError):
        if seconds > 0:
            return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return None
