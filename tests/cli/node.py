"""A node for the doctor to look at: settings, sockets that answer as they are told, and a file system of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from server import config
from server.config import Config
from tests.wire import cri_pb2 as cri

#: Answers a method's message, or raises by its context.
Answer = Callable[[str, grpc.ServicerContext], bytes]


def settings(tmp_path: Path, **options: str | Path) -> Config:
    """Settings that are all below ``tmp_path``."""
    given = {name: str(value) for name, value in options.items()}
    paths = {
        "state_dir": str(tmp_path / "state"),
        "listen": str(tmp_path / "h.sock"),
        "containerd": str(tmp_path / "c.sock"),
        "admin": str(tmp_path / "a.sock"),
        "hooks_dir": str(tmp_path / "hooks.d"),
    }
    return config.load(None, {}, paths | given, tmp_path / "none.toml").config


def kubelet(root: Path, argv: Sequence[str], files: dict[str, str] | None = None, pid: int = 77) -> Path:
    """A node's file system on which such a process runs, with these files."""
    process = root / "proc" / str(pid)
    process.mkdir(parents=True)
    (process / "cmdline").write_bytes("\0".join(argv).encode() + b"\0")
    for name, text in (files or {}).items():
        file = root / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def healthy(method: str, _: grpc.ServicerContext) -> bytes:
    """What a containerd says that has nothing to complain of."""
    if method.endswith("/Version"):
        return cri.VersionResponse(
            version="0.1.0", runtime_name="containerd", runtime_version="1.6.20", runtime_api_version="v1"
        ).SerializeToString()
    ready = [cri.RuntimeCondition(type=name, status=True) for name in ("RuntimeReady", "NetworkReady")]
    return cri.StatusResponse(status=cri.RuntimeStatus(conditions=ready)).SerializeToString()


@contextmanager
def served(path: Path, answer: Answer) -> Iterator[None]:
    """A server at a unix socket, closed to others, until the end of the block."""

    class Everything(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            method = details.method
            return grpc.unary_unary_rpc_method_handler(lambda _, context: answer(method, context))

    with ThreadPoolExecutor(2) as workers:
        server = grpc.server(workers, [Everything()])
        server.add_insecure_port(f"unix:{path}")
        server.start()
        path.chmod(0o660)
        try:
            yield
        finally:
            server.stop(None).wait()
