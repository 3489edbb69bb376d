"""h2load's answers are read as they are, and an error of gRPC's is never counted as a call that went well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bench.fake import LISTED, fake_runtime, listing
from tests.support.bench.load import (
    Call,
    Callers,
    LoadError,
    Request,
    check_summary,
    framed,
    load,
    parse_log,
    summed_up,
)
from tests.wire import cri_pb2 as cri

SUMMARY = """\
finished in 22.62ms, 8842.12 req/s, 874.63KB/s
requests: 200 total, 200 started, 200 done, 200 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 200 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 19.78KB (20258) total, 412B (412) headers (space savings 94.58%), 7.81KB (8000) data
"""


@pytest.fixture(scope="module")
def runtime() -> Iterator[Path]:
    """The socket of a fake runtime."""
    with fake_runtime() as (socket, _):
        yield socket


def request(containers: int) -> Request:
    """A call that lists so many containers."""
    which = cri.ContainerFilter(label_selector={LISTED: str(containers)})
    message = cri.ListContainersRequest(filter=which).SerializeToString()
    return Request("/runtime.v1.RuntimeService/ListContainers", message, len(listing(containers)))


def test_a_log_is_read_in_seconds() -> None:
    """Microseconds since the epoch, an HTTP status, microseconds."""
    assert parse_log("1795280836294389\t200\t294\n1795280836294755\t-1\t160\n") == [
        Call(1795280836.294389, 200, 294e-6),
        Call(1795280836.294755, -1, 160e-6),
    ]


@pytest.mark.parametrize("line", ["", "1\t2", "one\t200\t3", "garbage"])
def test_a_log_that_cannot_be_read_is_an_error(line: str) -> None:
    """A line that is cut off or something else is not passed over."""
    with pytest.raises(LoadError, match="cannot be read"):
        parse_log(f"1\t200\t3\n{line}\n")


def test_a_rate_is_from_the_first_beginning_to_the_last_end() -> None:
    """Calls that overlap count once each, over the time in which all of them lie."""
    done = summed_up([Call(10.0, 200, 0.5), Call(10.25, 200, 0.25), Call(10.5, 200, 0.5)])
    assert (done.calls, done.median) == (3, 0.5)
    assert done.rate == pytest.approx(3.0)


def test_first_calls_are_left_out_by_when_they_began() -> None:
    """The calls that make connections are the first to begin, and may be the last to end."""
    done = summed_up([Call(10.5, 200, 0.1), Call(10.0, 200, 9.0), Call(10.6, 200, 0.1)], first=1)
    assert (done.calls, done.median) == (2, 0.1)
    assert done.rate == pytest.approx(10.0)


@pytest.mark.parametrize("calls", [[], [Call(1.0, 200, 0.1), Call(1.0, -1, 0.1)], [Call(1.0, 503, 0.1)]])
def test_calls_that_failed_come_to_nothing(calls: list[Call]) -> None:
    """One stream that failed spoils the measurement: it may have been the slowest."""
    with pytest.raises(LoadError):
        summed_up(calls)


def test_a_summary_of_answers_as_expected_passes() -> None:
    """200 answers of 35 bytes, with the five in front of each."""
    check_summary(SUMMARY, 200, 35)


@pytest.mark.parametrize(
    ("text", "calls", "answer", "said"),
    [
        (SUMMARY, 200, 36, "have 8000 bytes instead of 8200"),
        (SUMMARY, 201, 35, "of 201 calls 200 were answered"),
        (SUMMARY.replace("200 succeeded", "199 succeeded"), 200, 35, "of 200 calls 199 were answered"),
        ("connection refused", 200, 35, "nothing that can be read"),
    ],
)
def test_a_summary_of_anything_else_is_an_error(text: str, calls: int, answer: int, said: str) -> None:
    """Answers that are missing, too short or not told of are told."""
    with pytest.raises(LoadError, match=said):
        check_summary(text, calls, answer)


def test_a_message_is_framed_as_grpc_does() -> None:
    """Not compressed, and four bytes of length, most significant first."""
    assert framed(b"abc") == b"\x00\x00\x00\x00\x03abc"


@pytest.mark.parametrize("callers", [Callers(1), Callers(16), Callers(1, 16)])
def test_all_callers_get_their_answers(runtime: Path, callers: Callers) -> None:
    """h2load speaks to a unix socket, and every call but each caller's first is counted."""
    done = load(runtime, request(200), callers, 160)
    assert done.calls == 160 - callers.connections * callers.streams
    assert done.median > 0
    assert done.rate > 0


def test_an_error_of_grpcs_is_told_though_http_says_200(runtime: Path) -> None:
    """A method that the backend does not know is no fast answer."""
    with pytest.raises(LoadError, match="errors of gRPC's"):
        load(runtime, Request("/runtime.v1.RuntimeService/Nonsense", b"", 10), Callers(1), 5)


def test_nobody_listening_is_told(tmp_path: Path) -> None:
    """Without a server there are no numbers."""
    with pytest.raises(LoadError):
        load(tmp_path / "none.sock", request(1), Callers(1), 5)
