"""The daemons that are compared have the front doors that they are named by."""

from __future__ import annotations

import socket
from pathlib import Path

from server.relay import frames
from tests.differential.ways import Ways
from tests.support.waiting import PATIENCE

#: What a client's connection begins with.
_BEGIN = frames.PREFACE + frames.frame(frames.SETTINGS, 0, 0)


def settings_of(path: Path) -> bytes:
    """The settings that a server begins its connections with (RFC 9113, 3.4)."""
    with socket.socket(socket.AF_UNIX) as client, client.makefile("rb") as received:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        client.sendall(_BEGIN)
        prefix = received.read(frames.PREFIX_SIZE)
        assert prefix[3:] == frames.frame(frames.SETTINGS, 0, 0)[3:]
        return received.read(int.from_bytes(prefix[:3]))


def test_the_relay_is_containerd_itself_to_a_client_and_the_other_door_is_not(ways: Ways) -> None:
    """A relayed connection begins with containerd's own settings; the reference is a server with its own."""
    found = {way: settings_of(client.socket) for way, client in ways.all.items()}
    assert found["relay"] == found["direct"]
    assert found["grpc"] != found["direct"]
