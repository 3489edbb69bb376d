"""The front doors: what clients of the runtime connect to instead of containerd."""

from server.front.address import ListenError
from server.front.router import Gate
from server.front.server import GrpcFront

__all__ = ["Gate", "GrpcFront", "ListenError"]
