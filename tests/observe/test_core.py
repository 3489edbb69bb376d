"""What the pages, the probes and Prometheus are told of the daemon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.observe import journals
from tests.observe.bed import Observer, observer
from tests.observe.client import ask, eventually, session, version
from tests.observe.stand_in import StandIn, admin

#: Seconds that a daemon that hangs may cost whoever asks, on a busy machine.
BOUND = 8.0


@pytest.fixture(scope="module")
def daemon(short: Path) -> Iterator[StandIn]:
    """Answers at an admin socket."""
    with admin(short / "a.sock") as made:
        yield made


@pytest.fixture(scope="module")
def one(short: Path, daemon: StandIn) -> Iterator[Observer]:
    """Asks there."""
    journals.write(short / "core")
    with observer(short / "core", admin=short / "a.sock") as made:
        yield made


@pytest.fixture(autouse=True)
def _well(daemon: StandIn) -> None:
    """Every test begins with a daemon that does well."""
    daemon.change()


async def told(one: Observer, text: str) -> None:
    """Wait until the page says so: an answer is kept for a second."""
    await eventually(one, "/", lambda answer: text in answer.text)


async def test_a_daemon_that_does_well_is_no_news(one: Observer) -> None:
    """No banner; the probes say ok."""
    await told(one, '<div id="banner" data-live>\n</div>')
    for path in ("/healthz", "/readyz"):
        answer = await ask(one, path)
        assert (answer.status, answer.text) == (200, "ok\n")


async def test_a_daemon_that_does_not_serve_yet_is_alive_and_not_ready(one: Observer, daemon: StandIn) -> None:
    """The reason is in the probe's answer and on the page."""
    daemon.change(serving=False, reason="containerd does not <answer>")
    await told(one, "containerd does not &lt;answer&gt;")
    ready = await ask(one, "/readyz")
    assert (ready.status, ready.text) == (503, "containerd does not <answer>\n")
    assert (await ask(one, "/healthz")).status == 200


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"containerd_reachable": False, "containerd_reason": "nobody there"},
            "containerd does not answer.</strong> nobody there",
        ),
        ({"journal_ok": False, "journal_reason": "disk full"}, "The journal does not work.</strong> disk full"),
    ],
)
async def test_what_is_wrong_beside_is_at_the_top(
    one: Observer, daemon: StandIn, fields: dict[str, object], text: str
) -> None:
    """Also while calls are served."""
    daemon.change(**fields)
    await told(one, text)


async def test_open_pages_are_told_of_what_befalls_the_daemon(one: Observer, daemon: StandIn) -> None:
    """Its trouble, and the end of that, while nothing happens in the journal."""
    await told(one, '<div id="banner" data-live>\n</div>')
    async with session(one) as client, client.get("/events") as response:
        names = [await version(response)]
        for fields in ({"journal_ok": False}, {}):
            daemon.change(**fields)
            names.append(await version(response))
    assert names[0] == names[-1]
    assert names[1] != names[0]


async def test_metrics_are_the_daemons_own_text(one: Observer, daemon: StandIn) -> None:
    """Byte by byte, with the type that Prometheus asks for."""
    daemon.metrics = '# TYPE a counter\na_total{b="ü"} 1.0\n'
    answer = await ask(one, "/metrics")
    assert (answer.status, answer.text) == (200, daemon.metrics)
    assert answer.headers["Content-Type"].startswith("text/plain; version=")


async def test_a_daemon_that_hangs_is_waited_for_a_moment(one: Observer, daemon: StandIn) -> None:
    """Many who ask at once wait no longer than one; pages come from the journal all the same."""
    daemon.answers.clear()
    try:
        await eventually(one, "/healthz", lambda answer: answer.status == 503)
        began = time.monotonic()
        answers = await asyncio.gather(*(ask(one, path) for path in ("/metrics", "/healthz", "/readyz", "/") * 10))
        assert time.monotonic() - began < BOUND
    finally:
        daemon.answers.set()
    assert [answer.status for answer in answers[:4]] == [503, 503, 503, 200]
    assert "has not answered for 2 s" in answers[0].text
    assert "queue-0" in answers[3].text
