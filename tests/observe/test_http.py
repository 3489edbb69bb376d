"""What the observer answers over HTTP, to whom, and what it never says."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest

from shim.records import DeliveryState, Hook
from shim.store import FILE
from tests.observe import journals
from tests.observe.bed import Observer, observer
from tests.observe.client import ask, page
from tests.observe.conftest import Node
from tests.support.waiting import PATIENCE
from tests.unit.records import write_version_1

#: An answer of every kind.
PATHS = ("/", "/events", "/metrics", "/healthz", "/readyz", "/static/page.js", "/deliveries/none", "/nothing")


def mode(path: Path) -> int:
    """Of a file."""
    return path.stat().st_mode


def pages(node: Node) -> list[str]:
    """The address of every page that has something of this journal."""
    found = node.found.values()
    return [
        "/",
        "/?state=failed",
        *(f"/deliveries/{one.id}" for one in found),
        *(f"/containers/{one.container.id}" for one in found),
    ]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_nothing_but_reading_is_allowed(on_port: Observer, method: str) -> None:
    """Also where there is nothing: no page can be made to change anything."""
    for path in ("/", "/nothing", "/metrics"):
        answer = await ask(on_port, path, method)
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_head_answers_as_get_without_a_body(on_port: Observer) -> None:
    """Also the stream, which ends then."""
    for path in ("/", "/events", "/static/page.css"):
        answer = await ask(on_port, path, "HEAD")
        assert (answer.status, answer.text) == (200, "")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "127.1.2.3", "[::1]:99", "a.localhost."])
async def test_a_port_answers_for_this_node(on_port: Observer, host: str) -> None:
    """With any port, since ssh forwards others."""
    assert (await ask(on_port, "/", Host=host)).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "10.0.0.1", "", "[::2]", "x y"]
)
async def test_a_port_answers_for_no_other_name(on_port: Observer, host: str) -> None:
    """A page of another site cannot read this one by a name that it makes resolve to loopback."""
    for path in PATHS:
        answer = await ask(on_port, path, Host=host)
        assert (answer.status, "Hooks" in answer.text) == (421, False)


async def test_another_sites_page_cannot_have_this_as_a_part(on_port: Observer) -> None:
    """No picture, script or stream; a link that is followed is answered, and so is this site's own page."""
    for path in PATHS:
        assert (await ask(on_port, path, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")).status == 403
    assert (await ask(on_port, "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")).status == 200
    assert (await ask(on_port, "/", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors")).status == 200


async def test_every_answer_tells_a_browser_to_trust_nothing_else(on_port: Observer) -> None:
    """Refusals, streams and text too."""
    answers = [await ask(on_port, path, "HEAD" if path == "/events" else "GET") for path in PATHS]
    answers += [await ask(on_port, "/", "POST"), await ask(on_port, "/", Host="evil.example")]
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Server"] == "hookshim"
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_what_a_handler_said_is_shown_on_the_socket_alone(
    node: Node, on_port: Observer, on_socket: Observer
) -> None:
    """Every user of the node reaches a port; the socket is its owner's."""
    path = f"/deliveries/{node.found['failed'].id}"
    assert "back later" in await page(on_socket, path)
    for each in pages(node):
        text = await page(on_port, each)
        assert "back later" not in text
        assert "drained 14 connections" not in text
        assert "</pre>" not in text


async def test_the_socket_is_its_owners_alone(node: Node, on_socket: Observer) -> None:
    """Nobody else can connect, and whoever can is not asked for a name."""
    socket = Path(on_socket.url.removeprefix("http://"))
    assert stat.S_IMODE(mode(socket)) == 0o600
    assert (await ask(on_socket, "/", Host="anything.example")).status == 200


async def test_nothing_that_a_pod_or_a_handler_chose_is_markup(
    node: Node, on_port: Observer, on_socket: Observer
) -> None:
    """Not in a page's text, attributes or links, and nothing in it reorders or hides what stands beside it."""
    for each in (on_port, on_socket):
        for path in (*pages(node), f"/?q={journals.SCRIPT}", f"/deliveries/{journals.SCRIPT}"):
            text = (await ask(each, path)).text
            assert journals.SCRIPT not in text
            assert "<img" not in text
            assert "49" not in re.findall(r"\{\{(.*?)\}\}", text)
            assert not set(text) & {"\u202e", "\x1b"}
    assert "&lt;script&gt;window.owned=1&lt;/script&gt;\\u202e\\x1b[31m{{7*7}}" in await page(on_port, "/")


async def test_credentials_of_a_handler_are_on_no_page(short: Path) -> None:
    """Header values, and what follows an absolute URL's path."""
    state_dir = short / "secrets"
    header = [{"name": "Authorization", "value": "Bearer sesame"}]
    with closing(journals.Writer(state_dir)) as writer:
        stop = writer.operation(journals.ref("c", "p"), 1000.0, took=1.0)
        one = writer.delivery(
            stop, Hook.PRE_STOP, journals.http("/x", httpHeaders=header), DeliveryState.DELIVERED, [journals.Try(0, 1)]
        )
        rule = json.dumps({"httpGet": {"url": "https://audit.example/in?token=sesame"}})
        two = writer.delivery(stop, Hook.PRE_STOP, rule, DeliveryState.DELIVERED, [journals.Try(0, 1)], position=1)
    with observer(state_dir, str(state_dir / "h.sock")) as asked:
        for path in ("/", f"/deliveries/{one.id}", f"/deliveries/{two.id}", f"/containers/{one.container.id}"):
            text = await page(asked, path)
            assert "httpGet http" in text
            assert "sesame" not in text


async def test_what_needs_somebody_comes_first(node: Node, on_port: Observer) -> None:
    """What is open, then what failed or was missed, then the rest, each newest first."""
    text = await page(on_port, "/")
    names = re.findall(r"<h3><span[^>]*>[^<]*</span>([^<]*)</h3>", text)
    assert names[0] == "api-5f6d8b9c7-kq2lm"
    assert names[1] == "web-7d4b9c6f5-x2x7q"
    assert names[3:] == ["queue-0", "import-28871520-4xv9p", "cache-2", "cache-1", "cache-0"]


@pytest.mark.parametrize(
    ("query", "pods"),
    [
        ("q=queue-0", ["queue-0"]),
        ("q=storage/CACHE-1", ["cache-1"]),
        ("q=worker", ["queue-0"]),
        ("q=jobs", ["queue-0", "import-28871520-4xv9p"]),
        ("q=%25", []),
        ("q=ca_he", []),
        ("state=missed", ["queue-0"]),
        ("state=open&hook=preStop", ["web-7d4b9c6f5-x2x7q"]),
        ("state=delivered&hook=postStop", []),
        ("q=queue-0&state=nonsense&hook=nonsense&page=nonsense", ["queue-0"]),
    ],
)
async def test_a_search_finds_what_is_all_of_it(on_port: Observer, query: str, pods: list[str]) -> None:
    """By any part of a name, whatever a pattern's characters are; what is no filter is none."""
    text = await page(on_port, f"/?{query}")
    assert re.findall(r"<h3><span[^>]*>[^<]*</span>([^<]*)</h3>", text) == pods


async def test_a_delivery_and_a_container_are_found_by_their_ids(node: Node, on_port: Observer) -> None:
    """As they are copied from a log."""
    one = node.found["missed"]
    for key in (one.id, one.container.id, one.container.id[:12], one.container.sandbox_id[:20], one.container.uid):
        assert "1 container that match" in await page(on_port, f"/?q={key}")


async def test_a_delivery_is_shown_with_all_that_became_of_it(node: Node, on_port: Observer) -> None:
    """Every attempt, the operation, what happens next, and the events."""
    text = await page(on_port, f"/deliveries/{node.found['failed'].id}")
    assert text.count("connection refused") == 2
    assert text.count("HTTP status 503</span>") == 2
    assert "Stop by StopContainer, done" in text
    assert "FailedPreStopHook" in text
    assert "attempt 5 at " in await page(on_port, f"/deliveries/{node.found['retrying'].id}")


async def test_more_containers_than_a_page_has_are_on_the_next(short: Path) -> None:
    """A page is bounded; what no page has is said, and so is a page that nobody has."""
    state_dir = short / "many"
    with closing(journals.Writer(state_dir)) as writer:
        for number in range(43):
            journals.started(writer, journals.ref("c", f"pod-{number:02}"), 1000.0 + number, journals.exec_("x"))
    with observer(state_dir) as asked:
        first, third = await page(asked, "/?state=delivered"), await page(asked, "/?state=delivered&page=3")
        assert "Containers 1 to 20 of 43" in first
        assert 'rel="next" href="/?state=delivered&amp;page=2"' in first
        assert [len(re.findall("<h3>", text)) for text in (first, third)] == [20, 3]
        assert 'rel="next"' not in third
        assert "nothing on this page" in await page(asked, "/?page=9999")


async def test_without_the_daemon_pages_say_so_and_show_the_journal(on_port: Observer) -> None:
    """Probes and Prometheus are told why."""
    text = await page(on_port, "/")
    assert "The daemon does not answer at " in text
    assert "queue-0" in text
    for path in ("/metrics", "/healthz", "/readyz"):
        answer = await ask(on_port, path)
        assert (answer.status, answer.headers["Content-Type"]) == (503, "text/plain; charset=utf-8")
        assert "the daemon does not answer at " in answer.text


async def test_a_journal_that_cannot_be_read_is_told_of(short: Path) -> None:
    """None yet, one of an older version, and a damaged one: each time a page."""
    state_dir = short / "journals"
    with observer(state_dir) as asked:
        assert "There is no journal yet" in await page(asked, "/")
        write_version_1(state_dir / FILE)
        assert "it failed" in await page(asked, "/deliveries/d1")
        for file in state_dir.glob(f"{FILE}*"):
            file.write_bytes(b"no journal at all" * 1000)
        answer = await ask(asked, "/")
        assert answer.status == 503
        assert f"the journal {state_dir / FILE} cannot be read" in answer.text


async def test_a_disk_that_hangs_is_told_of(short: Path) -> None:
    """A page waits for it for a moment only, and what needs no disk is answered meanwhile."""
    state_dir = short / "hangs"
    state_dir.mkdir()
    os.mkfifo(state_dir / FILE)  # to open it waits for somebody who never comes
    with observer(state_dir) as asked:
        answer = await ask(asked, "/")
        assert answer.status == 503
        assert "its disk has not answered for 5 s" in answer.text
        assert (await ask(asked, "/static/page.css")).status == 200


@pytest.mark.parametrize(
    "request_",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x00\xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET /?q=\xd9\xa3 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_fills_no_log(on_port: Observer, request_: bytes) -> None:
    """Anybody on the node may send it, and as much of it as he likes."""
    before = on_port.log.read_text()
    host, _, port = on_port.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(request_)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.0 400 ")
    assert on_port.log.read_text() == before
