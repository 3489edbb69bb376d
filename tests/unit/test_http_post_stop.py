"""What a postStop's httpGet tells its receiver, whom it takes for one, and whether it has been told."""

from __future__ import annotations

import asyncio
import json

import pytest

from server.handlers.http import HttpHandler
from server.handlers.reach import POD_ONLY, Reach
from shim.actions import HttpGetAction
from shim.errors import RuntimeCallError
from shim.ports import Attempt
from shim.records import RULE, Ending, Hook, Outcome
from tests.support.receiver import Receiver
from tests.unit.handler_bed import OK, PATIENCE, TEXT, attempt, peer

ENDING = Ending(started=True, exit_code=137, reason="OOMKilled", finished_at=1767225600.5, started_at=1767225599.0)
GONE = "the pod is not ready any more, and its address may be another's"


def post_stop(action: HttpGetAction, ending: Ending | None = ENDING, **more: object) -> Attempt:
    """An attempt of a postStop, of a pod on the host's network."""
    return attempt(action, hook=Hook.POST_STOP, ending=ending, **more)  # type: ignore[arg-type] # attempt's own, by name


async def tell(made: Attempt, *, ready: bool = True, reach: Reach = POD_ONLY) -> Outcome:
    """Deliver it; ``ready`` is its sandbox."""

    async def is_ready(sandbox_id: str) -> bool:
        assert sandbox_id == "s1"
        return ready

    async with asyncio.timeout(PATIENCE):
        return await HttpHandler(reach, is_ready).deliver(made)


async def test_a_post_stop_is_a_post_that_tells_the_end() -> None:
    """Who it was, how and when it ended, and the delivery's identity, in the body as in the headers."""
    async with peer() as server:
        outcome = await tell(post_stop(HttpGetAction(server.port, "/stop", headers=(("X-A", "1"),))))
    assert outcome == Outcome(http_status=200, output=b"HTTP/1.1 200 OK\nok")
    assert server.lines()[0] == "POST /stop HTTP/1.1"
    assert server.header("Content-Type") == ["application/json"]
    assert server.header("Hookshim-Delivery") == ["d1"]
    assert server.header("Hookshim-Attempt") == ["2"]
    assert server.header("X-A") == ["1"]
    assert json.loads(server.bodies[0]) == {
        "hook": "postStop",
        "delivery": "d1",
        "attempt": 2,
        "containerId": "c1",
        "containerName": "web",
        "podName": "pod",
        "podNamespace": "ns",
        "podUid": "uid",
        "sandboxId": "s1",
        "exitCode": 137,
        "reason": "OOMKilled",
        "startedAt": "2025-12-31T23:59:59.000Z",
        "finishedAt": "2026-01-01T00:00:00.500Z",
    }


@pytest.mark.parametrize(
    "ending",
    [None, Ending(started=True, exit_code=None, reason="", finished_at=0.0), Ending(True, None, "Unknown", 1e18, 0.0)],  # noqa: FBT003 - a record
)
async def test_what_nobody_knows_of_an_end_is_null(ending: Ending | None) -> None:
    """The receiver can tell it from an exit code of 0 and from 1970."""
    async with peer() as server:
        assert (await tell(post_stop(HttpGetAction(server.port), ending))).succeeded
    told = json.loads(server.bodies[0])
    assert [told[name] for name in ("exitCode", "reason", "startedAt", "finishedAt")] == [None, "Unknown", None, None]


async def test_the_bodys_headers_are_not_the_hooks_to_set() -> None:
    """A receiver must be able to read what it is told."""
    declared = (("content-type", "text/plain"), ("Content-Length", "3"), ("Transfer-Encoding", "chunked"))
    async with peer() as server:
        assert (await tell(post_stop(HttpGetAction(server.port, headers=declared)))).succeeded
    assert server.header("Content-Type") == ["application/json"]
    assert server.header("Transfer-Encoding") == []
    assert server.header("Content-Length") == [str(len(server.bodies[0]))]


@pytest.mark.parametrize(
    ("status", "expected", "why"),
    [
        (204, (), ""),
        (500, (), "HTTP status 500, expected 2xx"),
        (404, (), "HTTP status 404, expected 2xx"),
        (404, ((200, 299), (404, 404)), ""),
        (200, ((202, 202),), "HTTP status 200, expected 202"),
    ],
)
async def test_a_post_stop_has_arrived_when_its_status_says_so(
    status: int, expected: tuple[tuple[int, int], ...], why: str
) -> None:
    """2xx unless the hook says otherwise, and another attempt may arrive: it is not given up."""
    async with peer(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()) as server:
        outcome = await tell(post_stop(HttpGetAction(server.port, "/stop", expect_status=expected)))
    assert outcome.error == (why and TEXT + why)
    assert outcome.http_status == status
    assert not outcome.permanent


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_that_keeps_the_post_is_followed(status: int) -> None:
    """On the same host, with the body."""
    moved = f"HTTP/1.1 {status} X\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n".encode()
    async with peer(moved, OK) as server:
        assert (await tell(post_stop(HttpGetAction(server.port)))).succeeded
    assert server.lines(1)[0] == "POST /next HTTP/1.1"
    assert server.bodies[1] == server.bodies[0] != b""


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_redirect_that_makes_a_get_of_it_is_not_followed(status: int) -> None:
    """The request after it would tell nobody anything, and its answer would count."""
    moved = f"HTTP/1.1 {status} X\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n".encode()
    async with peer(moved, OK) as server:
        outcome = await tell(post_stop(HttpGetAction(server.port, "/stop")))
    assert outcome.error == f"{TEXT}HTTP status {status}, expected 2xx"
    assert len(server.heads) == 1


@pytest.mark.parametrize("host", ["", "127.0.0.1", "localhost", "::ffff:127.0.0.1"])
async def test_a_pod_that_has_ended_is_not_told_at_its_address(host: str) -> None:
    """It may be another pod's by now; it does not come back, so it is not tried again."""
    async with peer() as server:
        outcome = await tell(post_stop(HttpGetAction(server.port, "/stop", host)), ready=False)
    assert outcome == Outcome(error=TEXT + GONE, permanent=True)
    assert server.heads == []


async def test_a_removed_pod_has_no_address_to_be_told_at() -> None:
    """Nothing is known of it then but its id; that it is gone is said, not that it had no address."""
    outcome = await tell(post_stop(HttpGetAction(1, "/stop"), host_network=False), ready=False)
    assert outcome == Outcome(error=TEXT + GONE, permanent=True)


async def test_without_the_runtimes_word_a_pod_is_not_told() -> None:
    """But the next attempt may be."""

    async def away(_: str) -> bool:
        raise RuntimeCallError("UNAVAILABLE", "containerd is away")

    async with peer() as server:
        outcome = await HttpHandler(ready=away).deliver(post_stop(HttpGetAction(server.port, "/stop")))
    assert outcome == Outcome(error=f"{TEXT}the runtime does not say whether the pod is still there: UNAVAILABLE")
    assert server.heads == []


async def test_a_rule_tells_its_own_receiver_whatever_became_of_the_pod() -> None:
    """Neither a URL's nor an explicit host's address is the pod's."""
    async with peer() as server:
        url = HttpGetAction(url=f"http://127.0.0.1:{server.port}/ended")
        for action in (url, HttpGetAction(server.port, host="127.0.0.1")):
            assert (await tell(post_stop(action, source=f"{RULE}mesh"), ready=False)).succeeded
    assert len(server.bodies) == 2


async def test_other_hooks_ask_nobody_whether_their_pod_is_ready() -> None:
    """They belong to a container that runs."""
    async with peer() as server:
        outcome = await tell(attempt(HttpGetAction(server.port)), ready=False)
    assert outcome.succeeded


async def test_an_attempt_cannot_be_found_again() -> None:
    """A request whose process has died is sent anew."""
    assert await HttpHandler().find(post_stop(HttpGetAction(1))) is None


async def test_the_support_receiver_takes_a_post_with_its_body() -> None:
    """What tests of the daemon will read."""
    with Receiver() as receiver:
        assert (await tell(post_stop(HttpGetAction(receiver.port, "/ended")))).succeeded
        (request,) = receiver.seen("/ended")
    assert request.method == "POST"
    assert json.loads(request.body)["reason"] == "OOMKilled"
