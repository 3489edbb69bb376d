"""Calls from h2load, a load generator that is not Python, so that the client's own time is small and the same for all.

h2load knows HTTP/2 and nothing of gRPC: a call that ends with an error of gRPC's is a success to it, since its HTTP
status is 200. Such an answer has no body, so the bytes that came are counted against the answer that is expected.
"""

from __future__ import annotations

import re
import shutil
import statistics
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SUMMARY = re.compile(r"requests: (\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")
_DATA = re.compile(r"\((\d+)\) data")

#: Seconds that one run of h2load may take.
_LIMIT = 300.0

#: The status of every answer of gRPC's, by HTTP.
_OK = 200

#: What a gRPC message has in front of it: a byte that says whether it is compressed, and its length.
_PREFIX = struct.Struct(">BI")


class LoadError(RuntimeError):
    """The calls did not all come to the answer that was expected, or h2load itself failed."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is called: a full method, its message, and how many bytes each answer's message has."""

    method: str
    message: bytes
    answer: int


@dataclass(frozen=True, slots=True)
class Callers:
    """How many call at the same time: ``connections``, each with so many ``streams``."""

    connections: int
    streams: int = 1


@dataclass(frozen=True, slots=True)
class Call:
    """A line of h2load's log: when the call began and how long it took, in seconds, and its HTTP status."""

    began: float
    status: int
    took: float


@dataclass(frozen=True, slots=True)
class Load:
    """What a number of calls came to: the median time of one in seconds, and how many came to an end in a second."""

    calls: int
    median: float
    rate: float


def framed(message: bytes) -> bytes:
    """A gRPC message as it goes over the wire, not compressed."""
    return _PREFIX.pack(0, len(message)) + message


def parse_log(text: str) -> list[Call]:
    """The calls of h2load's ``--log-file``. Raises LoadError if a line is no such line."""
    calls = []
    for line in text.splitlines():
        fields = line.split("\t")
        try:
            calls.append(Call(int(fields[0]) / 1e6, int(fields[1]), int(fields[2]) / 1e6))
        except (IndexError, ValueError):
            raise LoadError(f"h2load's log has a line that cannot be read: {line!r}") from None
    return calls


def check_summary(text: str, calls: int, answer: int) -> None:
    """Raise LoadError unless h2load says that all calls were answered, each with ``answer`` bytes of a message."""
    found, data = _SUMMARY.search(text), _DATA.search(text)
    if found is None or data is None:
        raise LoadError(f"h2load says nothing that can be read: {text.strip()[-300:]!r}")
    total, succeeded = int(found[1]), int(found[2])
    if total != calls or succeeded != calls:
        raise LoadError(f"of {calls} calls {succeeded} were answered: {found[0]}")
    expected = calls * (answer + _PREFIX.size)
    if int(data[1]) != expected:
        raise LoadError(
            f"{calls} answers have {data[1]} bytes instead of {expected}: some of them are errors of gRPC's"
        )


def summed_up(calls: Sequence[Call], first: int = 0) -> Load:
    """What they came to, without the ``first`` ones. Raises LoadError if none are left, or one has failed."""
    calls = sorted(calls, key=lambda call: call.began)[first:]
    if not calls or any(call.status != _OK for call in calls):
        raise LoadError("h2load's log has no calls, or some that failed")
    seconds = max(call.began + call.took for call in calls) - min(call.began for call in calls)
    return Load(len(calls), statistics.median(call.took for call in calls), len(calls) / max(seconds, 1e-6))


def program() -> str:
    """Where h2load is. Raises FileNotFoundError saying how to get it."""
    found = shutil.which("h2load")
    if found is None:
        raise FileNotFoundError("h2load is missing: apt-get install nghttp2-client")
    return found


def load(socket: Path, request: Request, callers: Callers, calls: int, *, cold: bool = False) -> Load:
    """So many calls at a unix socket. Raises LoadError.

    The first call of each caller is not counted unless ``cold``: connections are made with it, also behind a proxy.
    """
    with tempfile.TemporaryDirectory(prefix="hookshim-load-") as made:
        body, log = Path(made, "body"), Path(made, "log")
        body.write_bytes(framed(request.message))
        command = [
            program(),
            *("--requests", calls, "--clients", callers.connections, "--max-concurrent-streams", callers.streams),
            *("--data", body, "--log-file", log, "--base-uri", f"unix:{socket}"),
            *("--header", "content-type: application/grpc", "--header", "te: trailers"),
            f"http://localhost{request.method}",
        ]
        words = [str(word) for word in command]
        try:
            # In a session of its own: a terminal's Ctrl-C is for the bench, which ends when this has.
            done = subprocess.run(
                words, check=False, capture_output=True, text=True, timeout=_LIMIT, start_new_session=True
            )
        except subprocess.TimeoutExpired:
            raise LoadError(f"{calls} calls took more than {_LIMIT:g} s") from None
        if done.returncode:
            raise LoadError(f"h2load ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
        check_summary(done.stdout, calls, request.answer)
        return summed_up(parse_log(log.read_text()), 0 if cold else callers.connections * callers.streams)
