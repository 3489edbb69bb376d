"""What an annotation's hook reaches, with listeners that must not be reached and count who comes all the same."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.handlers.connector import connector
from server.handlers.http import HttpHandler
from server.handlers.reach import POD_ONLY, Reach, to_address
from server.handlers.target import RefusedError, UnresolvedError
from server.handlers.tcp import TcpHandler
from shim.actions import HttpGetAction, TcpSocketAction
from shim.records import CONTAINER, KUBELET, POD, RULE, Outcome
from tests.support.own_network import Names, in_own_network
from tests.unit.handler_bed import OK, PATIENCE, attempt

#: The pod's addresses, another pod's, and what no pod has any business with; all of them real, with a listener.
POD_IPS = ("10.7.0.2", "fd00:7::2")
OTHER = "10.7.0.3"
ADDRESSES = (
    *(f"{one}/128" if ":" in one else f"{one}/32" for one in POD_IPS),
    f"{OTHER}/32",
    "fd00:7::3/128",
    "169.254.169.254/32",
    "fe80::7/64",
    "2002:7f00:1::/128",
    "64:ff9b::7f00:1/128",
    "64:ff9b::a9fe:a9fe/128",
    "64:ff9b:1::7f00:1/128",
    "fd00:7::5efe:7f00:1/128",
    "::a9fe:a9fe/128",
)
#: All that a configuration can allow.
EVERYTHING = Reach(("*",), (ip_network("0.0.0.0/0"), ip_network("::/0")))

NEVER = [
    ("127.0.0.1", "127.0.0.1", "loopback"),
    ("127.9.9.9", "127.9.9.9", "loopback"),
    ("localhost", "127.0.0.1", "loopback"),
    ("LOCALHOST", "127.0.0.1", "loopback"),
    ("2130706433", "127.0.0.1", "loopback"),
    ("017700000001", "127.0.0.1", "loopback"),
    ("0177.0.0.1", "127.0.0.1", "loopback"),
    ("0x7f000001", "127.0.0.1", "loopback"),
    ("0x7f.1", "127.0.0.1", "loopback"),
    ("127.1", "127.0.0.1", "loopback"),
    ("0", "0.0.0.0", "unspecified"),
    ("0.0.0.0", "0.0.0.0", "unspecified"),
    ("::", "::", "unspecified"),
    ("::1", "::1", "loopback"),
    ("0:0:0:0:0:0:0:1", "::1", "loopback"),
    ("::ffff:127.0.0.1", "127.0.0.1", "loopback"),
    ("::ffff:7f00:1", "127.0.0.1", "loopback"),
    ("::ffff:0.0.0.0", "0.0.0.0", "unspecified"),
    ("169.254.169.254", "169.254.169.254", "link-local"),
    ("2852039166", "169.254.169.254", "link-local"),
    ("::ffff:169.254.169.254", "169.254.169.254", "link-local"),
    ("::a9fe:a9fe", "::a9fe:a9fe", "link-local"),
    ("fe80::7", "fe80::7", "link-local"),
    ("fe80::7%lo", "fe80::7", "link-local"),
    ("fe80::7%1", "fe80::7", "link-local"),
    ("2002:7f00:1::", "2002:7f00:1::", "loopback"),
    ("64:ff9b::7f00:1", "64:ff9b::7f00:1", "loopback"),
    ("64:ff9b::a9fe:a9fe", "64:ff9b::a9fe:a9fe", "link-local"),
    ("64:ff9b:1::7f00:1", "64:ff9b:1::7f00:1", "loopback"),
    ("fd00:7::5efe:7f00:1", "fd00:7::5efe:7f00:1", "loopback"),
    ("224.0.0.1", "224.0.0.1", "multicast"),
    ("ff02::1", "ff02::1", "multicast"),
]

Deliver = Callable[..., Coroutine[None, None, Outcome]]


@dataclass
class Door:
    """A listener on every address of its network, which counts who comes through it and answers anybody."""

    port: int = 0
    came: list[str] = field(default_factory=list)
    answer: bytes = OK

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.came.append(str(to_address(writer.get_extra_info("sockname")[0])))
        if await reader.read(65536):
            writer.write(self.answer)
        writer.close()

    async def seen(self) -> list[str]:
        """The addresses that connections came to until now, those that nobody has waited for included.

        A listener is given connections in the order in which they were made: one more on each ends the count.
        """
        for address in POD_IPS:
            reader, writer = await asyncio.open_connection(address, self.port)
            writer.write(b"x")
            await reader.read()
            writer.close()
            assert self.came.pop() == address
        return self.came


@asynccontextmanager
async def door() -> AsyncIterator[Door]:
    """One that is open for the length of a block."""
    made = Door()
    first = await asyncio.start_server(made.serve, "0.0.0.0", 0)
    made.port = first.sockets[0].getsockname()[1]
    second = await asyncio.start_server(made.serve, "::", made.port)
    async with first, second:
        yield made


@asynccontextmanager
async def names(answers: dict[str, list[list[str]]]) -> AsyncIterator[Names]:
    """A DNS server on 127.0.0.1, port 53, of the test's own network."""
    made = Names(answers)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: made, local_addr=("127.0.0.1", 53))
    try:
        yield made
    finally:
        transport.close()


async def http(host: str, port: int, reach: Reach, *, source: str = CONTAINER, host_network: bool = False) -> Outcome:
    """An httpGet hook with this host."""
    made = attempt(
        HttpGetAction(port, "/stop", host),
        ips=() if host_network else POD_IPS,
        host_network=host_network,
        source=source,
    )
    async with asyncio.timeout(PATIENCE):
        return await HttpHandler(reach).deliver(made)


async def tcp(host: str, port: int, reach: Reach, *, source: str = CONTAINER, host_network: bool = False) -> Outcome:
    """A tcpSocket hook with this host."""
    made = attempt(
        TcpSocketAction(port, host), ips=() if host_network else POD_IPS, host_network=host_network, source=source
    )
    async with asyncio.timeout(PATIENCE):
        return await TcpHandler(reach).deliver(made)


def test_what_is_never_reached_is_not_reached_by_any_spelling(tmp_path: Path) -> None:
    """Loopback, link-local and their like: refused before a connection, whatever the configuration allows.

    Whether httpGet or tcpSocket; the text names host, address and reason, and another attempt is not made.
    """

    async def main() -> None:
        async with names({}), door() as closed:
            for host, address, why in NEVER:
                for deliver in (http, tcp):
                    for reach in (POD_ONLY, EVERYTHING):
                        outcome = await deliver(host, closed.port, reach)
                        assert outcome.error.endswith(
                            f" failed - error: host {host} is {address}, which is {why}, and never reached for a pod "
                            "that is not on the host's network, whatever reach.hosts and reach.cidrs allow"
                        ), host
                        assert outcome.permanent or host.lower() == "localhost"
            assert await closed.seen() == []

    in_own_network(main, ADDRESSES, tmp_path / "resolv.conf")


@pytest.mark.parametrize("deliver", [http, tcp])
def test_a_pods_own_addresses_are_reached(deliver: Deliver) -> None:
    """By default, by name of either family, and as IPv4 in IPv6: it is the same address."""

    async def main() -> None:
        async with door() as open_one:
            for host in ("", *POD_IPS, f"::ffff:{POD_IPS[0]}", "FD00:7:0::2"):
                assert (await deliver(host, open_one.port, POD_ONLY)).error == ""
            assert await open_one.seen() == [POD_IPS[0], *POD_IPS, *POD_IPS]

    in_own_network(main, ADDRESSES)


def test_an_ipv6_pod_is_reached() -> None:
    """At its first address, which stands in brackets in the text of a failure."""

    async def main() -> None:
        made = attempt(TcpSocketAction(9), ips=POD_IPS[::-1], host_network=False)
        outcome = await TcpHandler().deliver(made)
        assert outcome.error.endswith(f"connect to [{POD_IPS[1]}]:9: connection refused")
        async with door() as open_one:
            ours = attempt(HttpGetAction(open_one.port), ips=POD_IPS[::-1], host_network=False)
            assert (await HttpHandler().deliver(ours)).http_status == 200
            assert await open_one.seen() == [POD_IPS[1]]

    in_own_network(main, ADDRESSES)


def test_a_runtime_that_says_loopback_opens_nothing() -> None:
    """A network plugin may call a pod's own loopback its address: on the node it is another's."""

    async def main() -> None:
        async with door() as closed:
            for ip in ("127.0.0.1", "::1", "169.254.169.254"):
                made = attempt(HttpGetAction(closed.port), ips=(ip,), host_network=False)
                assert "and never reached for a pod" in (await HttpHandler().deliver(made)).error
            assert await closed.seen() == []

    in_own_network(main, ADDRESSES)


@pytest.mark.parametrize("deliver", [http, tcp])
def test_other_addresses_need_the_configuration(deliver: Deliver, tmp_path: Path) -> None:
    """By network, or by name for names; the refusal says which key would allow it."""
    allowed = [
        ("peer.example", Reach(("*.EXAMPLE",))),
        ("PEER.Example.", Reach(("peer.example",))),
        ("peer.example", Reach((), (ip_network("10.7.0.3/32"),))),
        (OTHER, Reach((), (ip_network("10.7.0.0/16"),))),
        ("::ffff:10.7.0.3", Reach((), (ip_network("10.7.0.0/16"),))),
        ("0x0a070003", Reach((), (ip_network("10.7.0.0/16"),))),
    ]
    refused = [
        ("peer.example", POD_ONLY, "neither reach.hosts nor reach.cidrs allows"),
        ("peer.example", Reach(("*.example.com", "peer", "eer.example")), "neither reach.hosts nor reach.cidrs allows"),
        (OTHER, POD_ONLY, "reach.cidrs does not allow"),
        (OTHER, Reach(("*",)), "reach.cidrs does not allow"),
        (OTHER, Reach((), (ip_network("10.7.0.0/31"), ip_network("::/0"))), "reach.cidrs does not allow"),
    ]

    async def main() -> None:
        async with names({name: [[OTHER]] for name in ("peer.example", "PEER.Example")}), door() as one:
            for host, reach in allowed:
                assert (await deliver(host, one.port, reach)).error == "", host
            assert await one.seen() == [OTHER] * len(allowed)
            for host, reach, key in refused:
                why = (
                    f"error: host {host} is {OTHER}, which is not the pod's own address, "
                    f"and {key} it in the node's configuration"
                )
                assert (await deliver(host, one.port, reach)).error.endswith(why)
            assert await one.seen() == [OTHER] * len(allowed)

    in_own_network(main, ADDRESSES, tmp_path / "resolv.conf")


@pytest.mark.parametrize("deliver", [http, tcp])
@pytest.mark.parametrize(
    "answer", ["127.0.0.1", "169.254.169.254", "0.0.0.0", "::1", "fe80::7", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
)
def test_a_name_that_is_allowed_must_not_mean_the_node(deliver: Deliver, answer: str, tmp_path: Path) -> None:
    """Whoever answers for the name: one bad address among good ones is enough to refuse it."""

    async def main() -> None:
        async with names({"peer.example": [[OTHER, answer]]}), door() as closed:
            outcome = await deliver("peer.example", closed.port, EVERYTHING)
            assert "error: host peer.example is " in outcome.error
            assert "and never reached for a pod that is not on the host's network" in outcome.error
            assert not outcome.permanent
            assert await closed.seen() == []

    in_own_network(main, ADDRESSES, tmp_path / "resolv.conf")


@pytest.mark.parametrize("deliver", [http, tcp])
def test_a_name_is_looked_up_once(deliver: Deliver, tmp_path: Path) -> None:
    """What was judged is what is connected to, although the name means loopback a moment later."""

    async def main() -> None:
        async with names({"peer.example": [[OTHER], ["127.0.0.1"]]}) as server, door() as one:
            assert (await deliver("peer.example", one.port, EVERYTHING)).error == ""
            assert len(server.asked) == len(set(server.asked))
            assert await one.seen() == [OTHER]
            assert "loopback" in (await deliver("peer.example", one.port, EVERYTHING)).error
            assert await one.seen() == [OTHER]

    in_own_network(main, ADDRESSES, tmp_path / "resolv.conf")


def test_a_name_whose_server_is_silent_holds_up_nothing_else(tmp_path: Path) -> None:
    """Neither what the daemon does in threads nor the hooks of other pods."""

    async def main() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 53))
            async with door() as one:
                waiting = [asyncio.create_task(tcp(f"n{i}.example", one.port, POD_ONLY)) for i in range(64)]
                async with asyncio.timeout(PATIENCE):
                    assert await asyncio.to_thread(silent.recv, 512)
                    assert (await http("", one.port, POD_ONLY)).succeeded
                assert not any(task.done() for task in waiting)
                for task in waiting:
                    task.cancel()
                await asyncio.wait(waiting)

    in_own_network(main, ADDRESSES, tmp_path / "resolv.conf")


def test_a_connector_connects_to_nothing_that_was_not_judged() -> None:
    """An address goes by no resolver: it is refused where the connection would be made."""

    async def main() -> None:
        async with door() as closed, aiohttp.ClientSession(connector=connector([OTHER], tls=False)) as session:
            for host in ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[fe80::7%25lo]"):
                with pytest.raises(aiohttp.ClientError):
                    await session.get(f"http://{host}:{closed.port}/")
            assert await closed.seen() == []
            async with session.get(f"http://anything:{closed.port}/") as response:
                assert response.status == 200
            assert await closed.seen() == [OTHER]

    in_own_network(main, ADDRESSES)


def test_a_redirect_does_not_lead_elsewhere(tmp_path: Path) -> None:
    """To another host it is the answer; to the same one it goes where the first request went, whatever DNS says now."""

    async def main() -> None:
        async with names({"peer.example": [[OTHER], ["127.0.0.1"]]}) as server, door() as inner, door() as outer:
            for host in ("127.0.0.1", "localhost", "[::1]", "2130706433", "169.254.169.254", "[::ffff:7f00:1]", "0"):
                location = f"Location: http://{host}:{inner.port}/\r\n"
                outer.answer = f"HTTP/1.1 307 Moved\r\n{location}Content-Length: 0\r\n\r\n".encode()
                outcome = await http("", outer.port, EVERYTHING)
                assert (outcome.http_status, outcome.error) == (307, "")
            assert await inner.seen() == []
            outer.answer = f"HTTP/1.1 302 Moved\r\nLocation: http://peer.example:{inner.port}/\r\n\r\n".encode()
            assert (await http("peer.example", outer.port, EVERYTHING)).http_status == 200
            assert len(server.asked) == len(set(server.asked))
            assert await inner.seen() == [OTHER]

    in_own_network(main, ADDRESSES, tmp_path / "resolv.conf")


@pytest.mark.parametrize("deliver", [http, tcp])
def test_a_pod_on_the_hosts_network_has_loopback_and_no_more(
    deliver: Deliver,
) -> None:
    """It is there already; a neighbour, or a cloud's metadata, needs the configuration as for any pod."""

    async def main() -> None:
        async with door() as one:
            for host in ("", "127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1", "127.9.9.9"):
                assert (await deliver(host, one.port, POD_ONLY, host_network=True)).error == "", host
            reached = ["127.0.0.1"] * 3 + ["::1", "127.0.0.1", "127.9.9.9"]
            for host in (OTHER, "169.254.169.254"):
                refused = await deliver(host, one.port, POD_ONLY, host_network=True)
                assert "not the pod's own address" in refused.error
            for host in ("0.0.0.0", "::"):
                refused = await deliver(host, one.port, EVERYTHING, host_network=True)
                assert "which is unspecified, and never reached for a pod, whatever" in refused.error
            assert await one.seen() == reached
            assert (await deliver("169.254.169.254", one.port, EVERYTHING, host_network=True)).error == ""
            assert await one.seen() == [*reached, "169.254.169.254"]

    in_own_network(main, ADDRESSES)


@pytest.mark.parametrize(
    ("source", "allowed"), [(CONTAINER, False), (POD, False), (KUBELET, False), (f"{RULE}a", True)]
)
def test_only_a_rule_reaches_anything(source: str, *, allowed: bool) -> None:
    """It is the node's owner's, who is on the node anyway; by host, and by a URL of its own."""

    async def main() -> None:
        async with door() as one:
            for host in ("127.0.0.1", OTHER, "169.254.169.254"):
                for deliver in (http, tcp):
                    assert (await deliver(host, one.port, POD_ONLY, source=source)).succeeded is allowed
                url = HttpGetAction(url=f"http://{host}:{one.port}/x?y")
                made = attempt(url, ips=POD_IPS, host_network=False, source=source)
                assert (await HttpHandler().deliver(made)).succeeded is allowed
            assert len(await one.seen()) == 9 * allowed

    in_own_network(main, ADDRESSES)


@given(st.ip_addresses())
def test_any_address_is_reached_or_refused_in_one_way(address: object) -> None:
    """With no configuration a pod reaches no address but its own, and the judgement never breaks."""
    made = attempt(HttpGetAction(1), ips=("10.7.0.2",), host_network=False)
    if ip_address(str(address)) == ip_address("10.7.0.2"):
        return
    with pytest.raises(RefusedError):
        asyncio.run(POD_ONLY.addresses(made, str(address)))


@given(st.text(min_size=1, max_size=40).filter(lambda text: "." not in text))
def test_any_numeric_text_is_refused_in_one_way(text: str) -> None:
    """Whatever the resolver makes of a number in some spelling, the judgement is about its address."""
    made = attempt(HttpGetAction(1), ips=("10.7.0.2",), host_network=False)
    digits = "".join(str(ord(one) % 8) for one in text)
    with pytest.raises(UnresolvedError):
        asyncio.run(POD_ONLY.addresses(made, f"0x{digits[:8]}"))
