"""The relay takes its socket, and gives it back, as the reference does: the reference's own tests."""

from __future__ import annotations

import pytest

from server.relay import RelayFront
from tests.unit import test_front_address
from tests.unit.relay.again import again
from tests.unit.test_front_address import umask

__all__ = ["umask"]


@pytest.fixture(autouse=True)
def relays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other front doors that these tests make are relays too."""
    monkeypatch.setattr(test_front_address, "GrpcFront", RelayFront)


globals().update(
    again(test_front_address, {"test_the_socket_is_never_open_to_others"})  # needs no front door
)
