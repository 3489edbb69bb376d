"""A network for one test: a thread in namespaces of its own, where any address and any name can be real.

What a node must never be made to reach (its loopback, a cloud's metadata service, a name that changes its meaning)
exists there with a listener behind it, and nothing of it is seen by anybody else on the machine.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import subprocess
import threading
from collections.abc import Callable, Coroutine, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_NEW_MOUNTS, _NEW_NETWORK = 0x00020000, 0x40000000
_A, _AAAA = 1, 28


def in_own_network(
    main: Callable[[], Coroutine[None, None, T]], addresses: Sequence[str], resolver_file: Path | None = None
) -> T:
    """What ``main`` returns, run in a network that has loopback with these addresses and nothing else.

    ``resolver_file`` is written, and is ``/etc/resolv.conf`` there, so that names are asked of 127.0.0.1, port 53.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            _unshare()
            for command in (("link", "set", "lo", "up"), *(("addr", "add", one, "dev", "lo") for one in addresses)):
                subprocess.run(["ip", *command], check=True)
            if resolver_file is not None:
                resolver_file.write_text("nameserver 127.0.0.1\noptions timeout:5 attempts:1\n")
                subprocess.run(["mount", "--make-rprivate", "/"], check=True)
                subprocess.run(["mount", "--bind", resolver_file, "/etc/resolv.conf"], check=True)
            results.append(asyncio.run(main()))
        except BaseException as error:  # noqa: BLE001 - it is the test's, and raised there
            failures.append(error)

    thread = threading.Thread(target=run, name="own network")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _unshare() -> None:
    """Give the calling thread, and what it starts from now on, namespaces of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_MOUNTS | _NEW_NETWORK):
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")


class Names(asyncio.DatagramProtocol):
    """A DNS server: each question for a name takes its next answer, the last one stays."""

    def __init__(self, answers: dict[str, list[list[str]]]) -> None:
        self._answers = {(name, kind): list(turns) for name, turns in answers.items() for kind in (_A, _AAAA)}
        self.asked: list[tuple[str, int]] = []
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override] # what a datagram endpoint has
        """Listening."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        """Answer one question (RFC 1035)."""
        labels, at = [], 12
        while size := data[at]:
            labels.append(data[at + 1 : at + 1 + size].decode())
            at += 1 + size
        name = ".".join(labels)
        (kind,) = struct.unpack_from(">H", data, at + 1)
        question = data[12 : at + 5]
        self.asked.append((name, kind))
        turns = self._answers.get((name, kind), [[]])
        found = [ip_address(one) for one in (turns.pop(0) if len(turns) > 1 else turns[0])]
        packed = [one.packed for one in found if one.version == (4 if kind == _A else 6)]
        head = data[:2] + struct.pack(">HHHHH", 0x8580, 1, len(packed), 0, 0)
        records = [b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(one)) + one for one in packed]
        if self._transport is not None:
            self._transport.sendto(head + question + b"".join(records), addr)
