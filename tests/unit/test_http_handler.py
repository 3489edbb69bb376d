"""What an httpGet hook sends and what it makes of the answer, against real servers on loopback.

The pod is on the host's network here, so that loopback is its own address; test_reach.py has the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import VERSION
from server.handlers.exchange import BODY_LIMIT
from server.handlers.http import HttpHandler
from server.handlers.target import PORTS, Target, UnresolvedError, redirected, request_target
from shim.actions import ExecAction, HttpGetAction
from shim.records import Outcome
from tests.unit.handler_bed import OK, PATIENCE, TEXT, Answer, attempt, deliver, get, peer, untrusted


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """A server's TLS, with a certificate that nobody should trust."""
    return untrusted(tmp_path)


async def test_a_request_is_the_kubelets_with_an_identity() -> None:
    """GET to the pod's address, with hookshim's name and the delivery's identity, and nothing else."""
    async with peer() as server:
        outcome = await get(server.port)
    assert outcome == Outcome(http_status=200, output=b"HTTP/1.1 200 OK\nok")
    assert len(server.heads) == 1
    assert server.lines() == [
        "GET /stop HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        f"User-Agent: hookshim/{VERSION}",
        "Accept: */*",
        "Connection: close",
        "Hookshim-Delivery: d1",
        "Hookshim-Attempt: 2",
    ]


@pytest.mark.parametrize("status", [100 + 99 + 1, 204, 304, 404, 500, 599, 999])
async def test_any_response_is_a_delivery(status: int) -> None:
    """The kubelet asks whether there was a response, not which."""
    async with peer(f"HTTP/1.1 {status} Some Thing\r\nContent-Length: 0\r\n\r\n".encode()) as server:
        outcome = await get(server.port)
    assert outcome.succeeded
    assert outcome.http_status == status
    assert outcome.output == f"HTTP/1.1 {status} Some Thing\n".encode()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay\r\n\r\nand more",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 500 Late\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=no-such\r\nContent-Length: 1\r\n\r\n\xff",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: \xff=\xfe; bad\r\nX: \xff\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 30_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nLocation: http://elsewhere.invalid/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 \x1b[2J\xff\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_a_careless_response_is_a_delivery_too(answer: bytes) -> None:
    """What is wrong behind a status line that can be read is not the hook's business."""

    async def careless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with peer(careless) as server:
        outcome = await get(server.port)
    assert outcome.error == ""
    assert outcome.http_status == 200


@pytest.mark.parametrize("size", [1, 3, 26, 27, 28, 29, 1000])
async def test_a_body_where_none_belongs_takes_nothing_from_the_response(size: int) -> None:
    """Wherever what comes is cut: a server that answers 204 with a body has been told."""

    async def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = b"HTTP/1.1 204 No Content\r\n\r\nok"
        for begin in range(0, len(answer), size):
            writer.write(answer[begin : begin + size])
            await writer.drain()
            await asyncio.sleep(0)

    async with peer(cut) as server:
        outcome = await get(server.port)
    assert (outcome.error, outcome.http_status) == ("", 204)


async def test_a_pod_on_the_hosts_network_is_reached_on_loopback() -> None:
    """The runtime reports no address for it, and the kubelet's hook would fail."""
    async with peer() as server:
        outcome = await deliver(attempt(HttpGetAction(server.port)))
    assert outcome.succeeded


async def test_a_declared_host_is_where_the_request_goes() -> None:
    """Instead of the pod's address, which then is not needed at all."""
    async with peer() as server:
        outcome = await deliver(attempt(HttpGetAction(server.port, host="localhost")))
    assert outcome.succeeded
    assert server.header("Host") == [f"localhost:{server.port}"]


async def test_a_named_port_is_looked_up_in_the_kubelets_annotation() -> None:
    """containerPort, as the kubelet takes it (FindPortByName)."""
    async with peer() as server:
        ports = [
            {"name": "metrics", "containerPort": 1, "protocol": "TCP"},
            {"containerPort": 2},
            {"name": "web", "hostPort": 3, "containerPort": server.port, "protocol": "TCP", "hostIP": "1.2.3.4"},
        ]
        made = attempt(HttpGetAction("web"), annotations={PORTS: json.dumps(ports)})
        assert (await deliver(made)).succeeded


@pytest.mark.parametrize(
    ("annotations", "why"),
    [
        ({}, f'port "web" not found: the container has no annotation {PORTS}'),
        ({PORTS: "[]"}, f'port "web" not found in the annotation {PORTS}'),
        ({PORTS: '[{"name":"Web","containerPort":1}]'}, f'port "web" not found in the annotation {PORTS}'),
        ({PORTS: '[7, null, {"name":7}]'}, f'port "web" not found in the annotation {PORTS}'),
        ({PORTS: "{}"}, f'port "web" not found: the annotation {PORTS} is not a JSON list'),
        ({PORTS: "["}, f'port "web" not found: the annotation {PORTS} is not a JSON list'),
        ({PORTS: "[" * 90_000}, f'port "web" not found: the annotation {PORTS} is not a JSON list'),
        (
            {PORTS: '[{"name":"web","containerPort":"80"}]'},
            f'port "web" has no valid containerPort in the annotation {PORTS}',
        ),
        (
            {PORTS: '[{"name":"web","containerPort":0}]'},
            f'port "web" has no valid containerPort in the annotation {PORTS}',
        ),
    ],
)
async def test_a_port_that_is_not_there_fails_the_hook(annotations: dict[str, str], why: str) -> None:
    """The text says what was looked for and where; the annotation is somebody else's and may be anything."""
    outcome = await deliver(attempt(HttpGetAction("web", "/stop"), annotations=annotations))
    assert outcome == Outcome(error=TEXT + why)


async def test_a_pod_without_an_address_fails_the_hook() -> None:
    """It is said in the kubelet's sentence."""
    outcome = await deliver(attempt(HttpGetAction(1, "/stop"), host_network=False))
    assert outcome == Outcome(error=TEXT + "the pod has no IP address")


@pytest.mark.parametrize(
    ("declared", "sent"),
    [
        ("/", "/"),
        ("stop", "/stop"),
        ("/a/../b//c/.", "/a/../b//c/."),
        ("/stop?a=1&b=%2F%zz&c=é d", "/stop?a=1&b=%2F%zz&c=%C3%A9%20d"),
        ("/stop?a=//b?c", "/stop?a=//b?c"),
        ("?a", "/?a"),
        ("/a%2Fb c/é", "/a%2Fb%20c/%C3%A9"),
        ("/a;b=1,2:@!$&'()*+[x]~", "/a;b=1,2:@!$&'()*+[x]~"),
        ('/"<>\\^`{|}', "/%22%3C%3E%5C%5E%60%7B%7C%7D"),
        ("/stop#part?x", "/stop"),
        ("http://elsewhere/stop?x", "/stop?x"),
        ("//elsewhere/stop", "/stop"),
        ("/a//b", "/a//b"),
        ("/%zz?a#b", "/%25zz%3Fa%23b"),
        ("/a\r\nX-Evil: 1", "/a%0D%0AX-Evil:%201"),
    ],
)
async def test_a_path_goes_out_as_the_kubelet_sends_it(declared: str, sent: str) -> None:
    """Its query is kept and nothing is encoded twice; what is no URL is a path as it stands (formatURL)."""
    async with peer() as server:
        outcome = await get(server.port, declared)
    assert outcome.succeeded
    assert server.lines()[0] == f"GET {sent} HTTP/1.1"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_path_makes_a_request_line(path: str) -> None:
    """Nothing that is declared can end the line or begin another."""
    target = request_target(path)
    assert target.startswith("/")
    assert target.isascii()
    assert target.isprintable()
    assert " " not in target


async def test_declared_headers_are_sent_in_order_with_repeats() -> None:
    """Values that may be anything but control characters arrive as they are, in UTF-8."""
    headers = (("X-B", "2"), ("X-A", "1"), ("x-b", " 3\t"), ("X-Empty", ""), ("X-Uni", "é“"))
    async with peer() as server:
        await get(server.port, headers=headers)
    assert server.lines()[4:9] == ["X-B: 2", "X-A: 1", "X-B: 3", "X-Empty: ", "X-Uni: é“"]


async def test_host_header_sets_the_authority() -> None:
    """The first that says anything; the connection still goes to the pod."""
    async with peer() as server:
        await get(server.port, headers=(("host", " a.example:1 "), ("Host", "b.example")))
    assert server.header("Host") == ["a.example:1"]


@pytest.mark.parametrize(
    ("declared", "name", "sent"),
    [
        ((("user-agent", "mine"), ("User-Agent", "second")), "User-Agent", ["mine"]),
        ((("User-Agent", ""),), "User-Agent", []),
        ((("Accept", "text/plain"), ("accept", "text/html")), "Accept", ["text/plain", "text/html"]),
        ((("Accept", ""), ("Accept", "text/html")), "Accept", []),
        ((("Connection", "keep-alive"),), "Connection", ["keep-alive"]),
        ((("Hookshim-Delivery", "x"), ("hookshim-delivery", "y")), "Hookshim-Delivery", ["d1"]),
        ((("Hookshim-Attempt", "9"),), "Hookshim-Attempt", ["2"]),
        ((("Content-Length", "5"),), "Content-Length", []),
        ((("Transfer-Encoding", "chunked"),), "Transfer-Encoding", []),
        ((("Trailer", "X"),), "Trailer", []),
        ((("Expect", "100-continue"),), "Expect", ["100-continue"]),
        ((("Cookie", "a=b"),), "Cookie", ["a=b"]),
    ],
)
async def test_headers_with_a_meaning_of_their_own(
    declared: tuple[tuple[str, str], ...], name: str, sent: list[str]
) -> None:
    """An empty User-Agent or Accept sends none (as the kubelet); identity and framing are not the hook's to set."""
    async with peer() as server:
        outcome = await get(server.port, headers=declared)
    assert outcome.succeeded
    assert server.header(name) == sent


def moved(location: str, status: int = 302) -> bytes:
    """A redirect, whose own body nobody needs."""
    return f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 100000\r\n\r\n".encode("latin-1")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_on_the_same_host_is_followed(status: int) -> None:
    """With the same method, identity and headers, Host among them; the last answer counts."""
    async with peer(moved("next?b=1#c", status), OK) as server:
        outcome = await get(server.port, "/a/stop?x", headers=(("Host", "a.example"), ("Authorization", "s3cret")))
    assert outcome == Outcome(http_status=200, output=b"HTTP/1.1 200 OK\nok")
    assert server.lines(1) == ["GET /a/next?b=1 HTTP/1.1", *server.lines(0)[1:]]


async def test_a_redirect_to_another_port_of_the_same_host_is_followed() -> None:
    """An absolute one names its own authority."""
    async with peer() as second, peer(moved(f"http://127.0.0.1:{second.port}/x y\xe9")) as first:
        outcome = await get(first.port, headers=(("Host", "a.example"),))
    assert outcome.http_status == 200
    assert second.lines()[0] == "GET /x%20y%E9 HTTP/1.1"
    assert second.header("Host") == [f"127.0.0.1:{second.port}"]


async def test_a_redirects_path_is_taken_as_it_is() -> None:
    """It is a URL's path already: no second host is looked for in it."""
    async with peer(moved("/.//a//b?c=//d"), OK) as server:
        await get(server.port)
    assert server.lines(1)[0] == "GET //a//b?c=//d HTTP/1.1"


async def test_https_answered_in_plain_http_that_fails_too_fails_the_hook() -> None:
    """With both reasons; both were tried once."""
    firsts: list[bytes] = []

    async def neither(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        firsts.append(await reader.read(1))
        writer.write(b"no protocol\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(neither, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        outcome = await get(port, scheme="HTTPS")
    why = (
        f"https was answered in plain http, and then in http: 127.0.0.1:{port} answered with something that is not HTTP"
    )
    assert outcome == Outcome(error=TEXT + why)
    assert firsts == [b"\x16", b"G"]


async def test_a_redirect_to_another_host_is_the_answer() -> None:
    """It is not followed, and it is a delivery (kubelet, RedirectChecker(false))."""
    async with peer() as second, peer(moved(f"http://localhost:{second.port}/")) as first:
        outcome = await get(first.port)
    assert (outcome.error, outcome.http_status) == ("", 302)
    assert second.heads == []


@pytest.mark.parametrize("answer", [moved(""), b"HTTP/1.1 302 Moved\r\nContent-Length: 0\r\n\r\n", moved("/x", 304)])
async def test_a_redirect_to_nowhere_is_the_answer(answer: bytes) -> None:
    """Go returns such a response too."""
    async with peer(answer) as server:
        outcome = await get(server.port, body_seconds=0.05)
    assert outcome.succeeded
    assert len(server.heads) == 1


async def test_ten_redirects_are_followed() -> None:
    """The tenth leads to the answer."""
    async with peer(*[moved("/x")] * 10, OK) as server:
        outcome = await get(server.port)
    assert outcome.http_status == 200
    assert len(server.heads) == 11


async def test_a_redirect_loop_fails_the_hook() -> None:
    """After ten, as an error, which is what the kubelet's client makes of it."""
    async with peer(moved("/stop")) as server:
        outcome = await get(server.port)
    assert outcome == Outcome(error=TEXT + "stopped after 10 redirects")
    assert len(server.heads) == 11


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://[::1", "redirected to a malformed URL"),
        ("http://127.0.0.1:99999/", "redirected to a malformed URL"),
        ("http://127.0.0.1:x/", "redirected to a malformed URL"),
        ("ftp://127.0.0.1/", "redirected to an unsupported scheme, ftp"),
    ],
)
async def test_a_redirect_that_cannot_be_followed_fails_the_hook(location: str, why: str) -> None:
    """As an error of its own; where it leads is not said, since that is the receiver's text."""
    async with peer(moved(location)) as server:
        outcome = await get(server.port)
    assert outcome == Outcome(error=TEXT + why)


@given(st.text())
def test_any_location_is_followed_refused_or_foreign(location: str) -> None:
    """Whatever a receiver writes there, nothing but the three can come of it."""
    start = Target("http", "127.0.0.1", 80, "/stop")
    with contextlib.suppress(UnresolvedError):
        following = redirected(start, location)
        if following is not None:
            assert following.scheme in ("http", "https")
            assert following.host == "127.0.0.1"
            assert 0 < following.port < 65536
            assert following.path.isascii()
            assert following.path.startswith("/")


async def test_https_is_not_verified(tls: ssl.SSLContext) -> None:
    """As the kubelet: pods have certificates that no node knows."""
    async with peer(tls=tls) as server:
        outcome = await get(server.port, scheme="HTTPS", headers=(("Authorization", "s3cret"),))
    assert outcome == Outcome(http_status=200, output=b"HTTP/1.1 200 OK\nok")
    assert server.header("Authorization") == ["s3cret"]


async def test_https_answered_in_plain_http_is_retried_as_http_without_authorization() -> None:
    """As the kubelet (isHTTPResponseError): a scheme that was declared wrongly worked once, and still does."""
    hellos: list[bytes] = []

    async def either(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(1)
        if first == b"\x16":
            hellos.append(first)
            writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        else:
            heads.append(first + await reader.readuntil(b"\r\n\r\n"))
            writer.write(OK)
        await writer.drain()
        writer.close()

    heads: list[bytes] = []
    server = await asyncio.start_server(either, "127.0.0.1", 0)
    async with server:
        headers = (("authorization", "s3cret"), ("Cookie", "kept"))
        outcome = await get(server.sockets[0].getsockname()[1], scheme="HTTPS", headers=headers)
    assert outcome == Outcome(http_status=200, output=b"HTTP/1.1 200 OK\nok")
    assert len(hellos) == len(heads) == 1
    assert b"s3cret" not in heads[0]
    assert b"Cookie: kept" in heads[0]
    assert b"Hookshim-Delivery: d1" in heads[0]


async def test_https_that_is_answered_in_neither_fails_the_hook() -> None:
    """Once: a peer that merely closes has not said that it speaks plain http."""
    connections: list[int] = []

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(closing, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        outcome = await get(port, scheme="HTTPS", headers=(("Authorization", "s3cret"),))
    assert outcome.error.startswith(TEXT)
    assert f"127.0.0.1:{port}" in outcome.error
    assert len(connections) == 1


async def test_a_redirect_from_https_to_http_takes_no_credentials_along(tls: ssl.SSLContext) -> None:
    """What was declared for TLS is not said in the clear because a receiver asks for it."""
    async with peer() as plain, peer(moved(f"http://127.0.0.1:{plain.port}/"), tls=tls) as server:
        headers = (("Authorization", "s3cret"), ("Cookie", "a=b"), ("X-A", "1"))
        outcome = await get(server.port, scheme="HTTPS", headers=headers)
    assert outcome.http_status == 200
    assert [plain.header(name) for name in ("Authorization", "Cookie", "X-A")] == [[], [], ["1"]]


async def test_a_redirect_to_https_that_is_none_fails_the_hook() -> None:
    """There is no request of the declaration's own to retry."""

    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server, peer(moved(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")) as first:
        outcome = await get(first.port)
    assert outcome == Outcome(error=TEXT + "redirected; https was answered in plain http")


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body without an end, as fast as it is read."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def unfinished(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body that begins and does not go on."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
    await writer.drain()


async def test_an_endless_body_is_cut_off() -> None:
    """The first 4 KiB are kept, 10 KiB read, and the connection closed."""
    async with peer(endless) as server:
        outcome = await get(server.port, body_seconds=PATIENCE)
        async with asyncio.timeout(PATIENCE):
            await server.left.wait()
    assert outcome.succeeded
    assert outcome.output == b"HTTP/1.1 200 OK\n" + b"x" * 4096
    assert BODY_LIMIT == 10 * 1024


async def test_a_body_that_does_not_come_does_not_stall_the_hook() -> None:
    """What has come of it is kept."""
    async with peer(unfinished) as server:
        outcome = await get(server.port, body_seconds=0.2)
        async with asyncio.timeout(PATIENCE):
            await server.left.wait()
    assert outcome == Outcome(http_status=200, output=b"HTTP/1.1 200 OK\nbegun")


async def test_a_response_is_not_lost_to_a_budget_that_ends_with_its_body() -> None:
    """The handler stops waiting for the body before the engine stops waiting for the handler."""
    async with peer(unfinished) as server:
        made = attempt(HttpGetAction(server.port), budget=20)
        # Without the budget's bound it would wait for longer than the test's patience.
        outcome = await deliver(made, body_seconds=4 * 20)
    assert outcome.http_status == 200


async def test_cancelling_closes_the_connection() -> None:
    """A hook that has run out of its budget leaves no request behind."""

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with peer(silent) as server, asyncio.timeout(PATIENCE):
        task = asyncio.create_task(HttpHandler().deliver(attempt(HttpGetAction(server.port))))
        await server.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.left.wait()


async def test_cancelling_does_not_wait_for_a_handshake(tls: ssl.SSLContext) -> None:
    """A peer that takes the connection and says nothing in it holds nobody."""
    connected, left = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        left.set()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, asyncio.timeout(PATIENCE):
        action = HttpGetAction(server.sockets[0].getsockname()[1], scheme="HTTPS")
        task = asyncio.create_task(HttpHandler().deliver(attempt(action)))
        await connected.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await left.wait()


def open_files() -> set[Path]:
    """This process's, those of listing them included."""
    return set(Path("/proc/self/fd").iterdir())


async def test_nothing_is_left_open_after_a_delivery() -> None:
    """Neither by a keep-alive that the server offers nor by a body that was not read."""
    before = open_files()
    async with peer(
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50000
    ) as server:
        outcome = await get(server.port)
        async with asyncio.timeout(PATIENCE):
            await server.left.wait()
    assert outcome.succeeded
    assert len(server.heads) == 1
    assert len(open_files() - before) <= 1  # the event loop's resolver may have made one


async def test_the_environments_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods are reached from the node itself, whatever the daemon was started with."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with peer() as server:
        assert (await get(server.port)).succeeded


async def test_a_receiver_that_is_down_fails_the_hook() -> None:
    """At once, with the kubelet's sentence and the address."""
    async with peer() as server:
        port = server.port
    outcome = await get(port)
    assert outcome == Outcome(error=f"{TEXT}connect to 127.0.0.1:{port}: connection refused")


async def test_a_host_without_an_address_fails_the_hook() -> None:
    """`.invalid` has none by RFC 6761; the resolver's own words are left out."""
    outcome = await get(1, host="no-such-host.invalid")
    assert outcome == Outcome(error=f"{TEXT}no address found for host no-such-host.invalid")


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close without a word."""
    writer.close()


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End the connection with RST."""
    writer.transport.abort()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (hang_up, "closed the connection without an answer"),
        (b"SSH-2.0-s3cret\r\n\r\n", "answered with something that is not HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46s3cret", "answered with something that is not HTTP"),
        (b"HTTP/1.1 s3cret\r\n\r\n", "answered with something that is not HTTP"),
        (b"HTTP/1.1 200 OK\r\ns3cret\r\n\r\n", "answered with something that is not HTTP"),
    ],
)
async def test_what_is_no_response_fails_the_hook_without_being_repeated(answer: Answer, why: str) -> None:
    """Once sent it is not sent again, and the text has nothing of headers or answer."""
    async with peer(answer) as server:
        outcome = await get(server.port, headers=(("Authorization", "s3cret"),))
    assert outcome == Outcome(error=f"{TEXT}127.0.0.1:{server.port} {why}")
    assert len(server.heads) == 1


async def test_a_connection_that_is_reset_fails_the_hook_without_being_repeated() -> None:
    """However the system words it."""
    async with peer(reset) as server:
        outcome = await get(server.port)
    assert outcome.error.startswith(TEXT)
    assert f"127.0.0.1:{server.port}" in outcome.error
    assert outcome.http_status is None
    assert len(server.heads) == 1


async def test_another_kind_of_action_is_a_bug() -> None:
    """It is said, not recorded as the hook's failure."""
    with pytest.raises(TypeError, match="ExecAction"):
        await HttpHandler().deliver(attempt(ExecAction(("true",))))
