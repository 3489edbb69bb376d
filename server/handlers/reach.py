"""Who may reach what: a hook that a pod declares is sent by the node, which reaches more than the pod does.

The decision is about the addresses that are connected to, not about how a host is written: a name is looked up once,
every address that it has is judged, and nothing but these is connected to. So neither a name that means something else
a moment later nor an unusual spelling of an address gets past it.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from server.handlers.target import RefusedError, UnresolvedError
from shim.ports import Attempt, Pod
from shim.records import RULE
from shim.strictjson import printable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
#: What the system's resolver answers.
Found = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]

#: Seconds to look a name up, and to connect (each): Go's default for both together, which is the kubelet's.
CONNECT_SECONDS = 30.0

_THIS_HOST = IPv4Network("0.0.0.0/8")
_NAT64 = IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_COMPATIBLE = IPv6Network("::/96")
# The first half of an interface identifier that ends in an IPv4 address (RFC 5214).
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
_NAME_LENGTH = 255


def trusted(attempt: Attempt) -> bool:
    """Whether the node's owner has declared this hook: such a one may reach anything."""
    return attempt.source.startswith(RULE)


@dataclass(frozen=True, slots=True)
class Reach:
    """What annotations may name beside their pod's own address: the configuration's ``reach.hosts``, ``reach.cidrs``.

    ``hosts`` are globs for names (``*`` also takes dots, upper and lower case are the same); an address is for
    ``cidrs`` to allow. Neither opens loopback or link-local to a pod that has a network of its own.
    """

    hosts: tuple[str, ...] = ()
    cidrs: tuple[Network, ...] = ()

    async def addresses(self, attempt: Attempt, host: str) -> tuple[str, ...]:
        """The addresses of ``host``, each of which the attempt may connect to; at least one.

        Raises UnresolvedError if it has none, RefusedError if one of them is out of reach.
        """
        found = _numeric(host)
        literal = bool(found)
        found = found or await _looked_up(host)
        if not trusted(attempt):
            for text in found:
                self._check(attempt.container.pod, host, to_address(text), literal=literal)
        return found

    def _check(self, pod: Pod, host: str, address: Address, *, literal: bool) -> None:
        where = f"host {printable(host, _NAME_LENGTH)} is {address}, which is"
        why = next((word for one in (address, *_embedded(address)) if (word := _never(one, pod))), "")
        named = any(fnmatchcase(_folded(host), _folded(glob)) for glob in self.hosts)
        if why:
            pods = "a pod" if pod.host_network else "a pod that is not on the host's network"
            text = f"{where} {why}, and never reached for {pods}, whatever reach.hosts and reach.cidrs allow"
        elif is_own(pod, address) or any(address in network for network in self.cidrs) or (named and not literal):
            return
        else:
            keys = "reach.cidrs does not allow" if literal else "neither reach.hosts nor reach.cidrs allows"
            text = f"{where} not the pod's own address, and {keys} it in the node's configuration"
        # A name may have another address tomorrow.
        raise RefusedError(text) if literal else UnresolvedError(text)


#: What annotations may reach when the configuration allows nothing more.
POD_ONLY = Reach()


def to_address(text: str) -> Address:
    """An address without its zone, as what the kernel connects to: an IPv4 address also when it is written as IPv6."""
    address = ip_address(text.partition("%")[0])
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def is_own(pod: Pod, address: Address) -> bool:
    """Whether an address is the pod's own; on the host's network that is loopback."""
    return address.is_loopback if pod.host_network else address in {to_address(ip) for ip in pod.ips}


def _never(address: Address, pod: Pod) -> str:
    """What makes an address one that no configuration opens to this pod; empty if nothing does."""
    if address.is_multicast:
        return "multicast"
    # The kernel takes it for loopback.
    if address.is_unspecified or (isinstance(address, IPv4Address) and address in _THIS_HOST):
        return "unspecified"
    if pod.host_network:
        return ""
    if address.is_loopback:
        return "loopback"
    return "link-local" if address.is_link_local else ""


def _embedded(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that a translator on the way may make of an IPv6 address."""
    if isinstance(address, IPv4Address):
        return
    number = int(address)
    last = IPv4Address(number & 0xFFFFFFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    compatible = address in _COMPATIBLE and number > 1
    if compatible or address in _NAT64 or address in _LOCAL_NAT64 or number >> 32 & 0xFFFFFFFF in _ISATAP:
        yield last
    if address in _LOCAL_NAT64:
        # Around the bits 64 to 71 (RFC 6052, 2.2).
        yield IPv4Address((number >> 64 & 0xFFFF) << 16 | number >> 40 & 0xFFFF)


def _folded(name: str) -> str:
    return name.lower().removesuffix(".")


def _numeric(host: str) -> tuple[str, ...]:
    """The address that a host is, in any spelling that the system's resolver takes (``0x7f.1``); none for a name."""
    try:
        return _texts(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except (OSError, UnicodeError):
        return ()


async def _looked_up(host: str) -> tuple[str, ...]:
    shown = printable(host, _NAME_LENGTH)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            found = await _resolved(host)
    except TimeoutError:
        raise UnresolvedError(f"host {shown} was not resolved in {CONNECT_SECONDS:g} s") from None
    if not found:
        raise UnresolvedError(f"no address found for host {shown}")
    return _texts(found)


async def _resolved(host: str) -> Sequence[Found]:
    """What the system's resolver says, asked in a thread of its own.

    The event loop's are few and have other work, which a name whose server does not answer must not hold up.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Sequence[Found]] = loop.create_future()

    def give(found: Sequence[Found]) -> None:
        if not answer.done():
            answer.set_result(found)

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        except (OSError, UnicodeError):
            found = []
        # Nobody waits any more when the loop is closed.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(give, found)

    threading.Thread(target=ask, name="lookup", daemon=True).start()
    return await answer


def _texts(found: Sequence[Found]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
