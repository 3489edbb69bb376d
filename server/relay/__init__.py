"""The second front door: it relays HTTP/2 connections instead of ending them, so that a call costs next to nothing.

`GrpcFront` (server.front) is the reference, and what it answers itself is answered here alike. From the bottom up:
frames, header blocks and windows; one direction (`lane`) and one side (`upward`, `downward`); two connections that are
one (`pair`), all without I/O; then sockets and the front door.
"""

from server.relay.front import RelayFront

__all__ = ["RelayFront"]
