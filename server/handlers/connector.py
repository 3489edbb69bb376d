"""aiohttp's way to a server that has been looked up before: it asks no resolver, and connects to nothing else."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Sequence

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from server.handlers.reach import to_address
from server.handlers.response import keep_heads


def connector(addresses: Sequence[str], tls: ssl.SSLContext | bool) -> aiohttp.TCPConnector:  # noqa: FBT001 - aiohttp's own type: False is TLS that is not verified
    """A connector for one host with these addresses. No connection or address outlives its session."""
    allowed = {to_address(address) for address in addresses}

    def make(address: tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]) -> socket.socket:
        family, kind, protocol, _, where = address
        # The last word: aiohttp does not ask the resolver about what it takes for an address.
        if to_address(where[0]) not in allowed:
            raise OSError(errno.EACCES, "not an address that was looked up")
        return socket.socket(family, kind, protocol)

    return keep_heads(
        aiohttp.TCPConnector(
            force_close=True, use_dns_cache=False, ssl=tls, resolver=_Known(addresses), socket_factory=make
        )
    )


class _Known(AbstractResolver):
    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = tuple(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses that are known, whatever the name."""
        del family
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""
