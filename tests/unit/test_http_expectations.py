"""What a status is worth to an httpGet hook that expects some, and what a rule's URL is held to."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from shim.actions import HttpGetAction
from shim.records import RULE, Outcome
from tests.unit.handler_bed import OK, TEXT, attempt, deliver, get, peer, untrusted

URL_TEXT = 'HTTP lifecycle hook ({}) for Container "web" in Pod "pod_ns(uid)" failed - error: {}'


def answered(status: int, body: str = "body") -> bytes:
    """A response with this status."""
    return f"HTTP/1.1 {status} Word\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("expected", "status", "why"),
    [
        (((200, 299),), 200, ""),
        (((200, 299),), 299, ""),
        (((200, 299),), 199 + 101, "HTTP status 300, expected 2xx"),
        (((200, 299),), 503, "HTTP status 503, expected 2xx"),
        (((204, 204),), 200, "HTTP status 200, expected 204"),
        (((200, 201),), 205, "HTTP status 205, expected 200, 201"),
        (((200, 299), (404, 404)), 404, ""),
        (((200, 299), (404, 404)), 500, "HTTP status 500, expected 2xx, 404"),
        (((500, 599),), 503, ""),
    ],
)
async def test_a_status_that_is_not_expected_fails_the_hook(
    expected: tuple[tuple[int, int], ...], status: int, why: str
) -> None:
    """With what came and what was expected; status and body are kept for the node's owner, and in no text."""
    async with peer(answered(status)) as server:
        outcome = await get(server.port, expect_status=expected)
    output = f"HTTP/1.1 {status} Word\nbody".encode()
    assert outcome == Outcome(error=why and TEXT + why, http_status=status, output=output)
    assert len(server.heads) == 1


async def test_the_last_answer_is_the_one_that_is_expected() -> None:
    """A redirect that is followed is none; one that is not followed is."""
    moved = b"HTTP/1.1 302 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"
    away = b"HTTP/1.1 302 Moved\r\nLocation: http://elsewhere.invalid/\r\nContent-Length: 0\r\n\r\n"
    async with peer(moved, OK) as server:
        assert (await get(server.port, expect_status=((200, 200),))).succeeded
    async with peer(away) as server:
        outcome = await get(server.port, expect_status=((200, 200),))
    assert outcome.error == TEXT + "HTTP status 302, expected 200"


async def test_a_rules_url_is_where_the_request_goes() -> None:
    """With its own host, port, path and query; the pod needs no address."""
    async with peer() as server:
        action = HttpGetAction(url=f"http://localhost:{server.port}/a%2Fb/é?token=s3cret&c= d")
        outcome = await deliver(attempt(action, host_network=False, source=f"{RULE}mesh"))
    assert outcome.succeeded
    assert server.lines()[0] == "GET /a%2Fb/%C3%A9?token=s3cret&c=%20d HTTP/1.1"
    assert server.header("Host") == [f"localhost:{server.port}"]


async def test_a_urls_query_is_in_no_text() -> None:
    """It may be what the receiver knows the node by."""
    async with peer() as server:
        port = server.port
    url = f"http://127.0.0.1:{port}/a"
    outcome = await deliver(attempt(HttpGetAction(url=f"{url}?token=s3cret"), source=f"{RULE}mesh"))
    assert outcome == Outcome(error=URL_TEXT.format(url, f"connect to 127.0.0.1:{port}: connection refused"))


@pytest.mark.parametrize(
    "url", ["ftp://h/", "http:///x", "http://u:s3cret@h/", "http://h:99999/", "//h/", "http://[::1/"]
)
async def test_a_url_that_cannot_be_used_fails_the_hook(url: str) -> None:
    """The rules' reader refuses it before; a journal may hold it all the same."""
    outcome = await deliver(attempt(HttpGetAction(url=url), source=f"{RULE}mesh"))
    why = "the URL is not of the form http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH"
    assert outcome.error.endswith(f"error: {why}")


async def test_a_urls_certificate_has_to_be_valid(tmp_path: Path) -> None:
    """What a rule posts leaves the node: somebody in between must not read it. Pods' own are not verified."""
    async with peer(tls=untrusted(tmp_path)) as server:
        url = f"https://localhost:{server.port}/"
        outcome = await deliver(attempt(HttpGetAction(url=url), source=f"{RULE}mesh"))
    why = f"TLS handshake with localhost:{server.port}: the certificate is not valid for it"
    assert outcome == Outcome(error=URL_TEXT.format(url, why))
    assert server.heads == []


async def test_a_urls_certificate_is_held_against_the_nodes_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that OpenSSL takes by default; and for the name that the URL has."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command = [*made, "-keyout", str(key), "-out", str(certificate), *subject]
    await asyncio.to_thread(lambda: subprocess.run(command, check=True, capture_output=True))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    async with peer(tls=tls) as server:
        right = await deliver(attempt(HttpGetAction(url=f"https://localhost:{server.port}/"), source=f"{RULE}a"))
        wrong = await deliver(attempt(HttpGetAction(url=f"https://127.0.0.1:{server.port}/"), source=f"{RULE}a"))
    assert right.http_status == 200
    assert wrong.error.endswith("the certificate is not valid for it")
    assert len(server.heads) == 1


async def test_a_url_is_not_tried_again_in_plain_http() -> None:
    """Whoever answers in plain http would be told in the clear what was meant for TLS."""
    firsts: list[bytes] = []

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        firsts.append(await reader.read(1))
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        outcome = await deliver(attempt(HttpGetAction(url=url), source=f"{RULE}mesh"))
    assert outcome == Outcome(error=URL_TEXT.format(url, "https was answered in plain http"))
    assert firsts == [b"\x16"]
