"""An admin socket that answers what a test says: for states of a daemon that none can be brought into at will."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc

from server import VERSION
from server.admin.answers import Status
from server.admin.messages import SERVICE, from_status
from server.wire.hookshim.admin.v1 import admin_pb2 as pb

GOOD = Status(
    version=VERSION,
    pid=1,
    started_at=time.time(),
    serving=True,
    reason="",
    listen=Path("/run/hookshim/hookshim.sock"),
    containerd=Path("/run/containerd/containerd.sock"),
    state_dir=Path("/var/lib/hookshim"),
    containerd_reachable=True,
    containerd_since=time.time(),
    containerd_reason="",
    journal_ok=True,
    journal_reason="",
    journals_set_aside=0,
    open_operations=0,
)


class StandIn:
    """``status`` and ``metrics`` are what it answers; it answers nothing while ``answers`` is not set."""

    def __init__(self) -> None:
        self.status = GOOD
        self.metrics = ""
        self.answers = threading.Event()
        self.answers.set()

    def change(self, **fields: object) -> None:
        """Do well but for this."""
        self.status = replace(GOOD, **fields)  # type: ignore[arg-type]  # each is given in its own type

    def answer(self, _request: bytes, _context: grpc.ServicerContext) -> bytes:
        """The RPC Status."""
        self.answers.wait()
        return from_status(self.status).SerializeToString()

    def text(self, _request: bytes, _context: grpc.ServicerContext) -> bytes:
        """The RPC Metrics."""
        self.answers.wait()
        return pb.MetricsResponse(text=self.metrics).SerializeToString()


@contextmanager
def admin(path: Path) -> Iterator[StandIn]:
    """One at this socket."""
    made = StandIn()
    methods: dict[str, Callable[[bytes, grpc.ServicerContext], bytes]] = {"Status": made.answer, "Metrics": made.text}
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()
    }
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield made
    finally:
        made.answers.set()
        server.stop(0).wait()
