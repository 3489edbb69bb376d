"""What seeing to the kubelet's preStop costs everybody else's ExecSync, counted in calls that containerd gets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.test_kubelet_prestop import ENSURE
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIClient
from tests.support.hookshimd import Hookshim
from tests.support.stage import exec_hook

#: What a kubelet writes at a container with an exec preStop.
HOOK = ["true"]
KUBELETS = {"io.kubernetes.container.preStopHandler": json.dumps(exec_hook(HOOK))}


class Tap(grpc.GenericRpcHandler):
    """Stands between hookshim and containerd, passes everything on as bytes, and counts the methods.

    What counts is a call with a message: of one that hookshim answers itself containerd may get the fields.
    """

    def __init__(self, containerd: Path, socket: Path) -> None:
        options = [("grpc.default_authority", "localhost")]
        self.calls: Counter[str] = Counter()
        self._channel = grpc.insecure_channel(f"unix:{containerd}", options=options)
        self._server = grpc.server(ThreadPoolExecutor(32), handlers=[self])
        self._server.add_insecure_port(f"unix:{socket}")
        self._server.start()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """Every method, whatever its cardinality."""
        method = str(handler_call_details.method)

        def serve(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            try:
                first = next(requests, None)
            except grpc.RpcError:  # its caller has left
                return
            self.calls[method.rpartition("/")[2]] += first is not None
            stub: Any = self._channel.stream_stream(method)
            # A caller's deadline ends its own call, and with it this one.
            call = stub(chain(() if first is None else [first], requests), metadata=context.invocation_metadata())
            context.add_callback(call.cancel)
            try:
                yield from call
            except grpc.RpcError:
                context.abort(call.code(), call.details())

        return grpc.stream_stream_rpc_method_handler(serve)

    def close(self) -> None:
        """End it, and what goes through it."""
        self._channel.close()
        self._server.stop(None).wait()


@pytest.fixture
def tap(containerd: PrivateContainerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Tap, Path]]:
    """A tap on containerd, and its socket."""
    socket = tmp_path_factory.mktemp("tap", numbered=True) / "t.sock"
    made = Tap(containerd.socket, socket)
    yield made, socket
    made.close()


def asked(tap: Tap, client: CRIClient, container: str, command: list[str], limit: int = 0) -> dict[str, int]:
    """The calls that containerd gets for one ExecSync, after a first one that has met the container's pod."""
    client.exec_sync(container, command, limit)
    tap.calls.clear()
    client.exec_sync(container, command, limit)
    return dict(tap.calls)


@pytest.mark.parametrize("how", ["ensure", "off"])
def test_an_exec_sync_that_is_no_hook_costs_one_look_up_and_a_probe_none(
    tap: tuple[Tap, Path], tmp_path_factory: pytest.TempPathFactory, pod_name: str, how: str
) -> None:
    """Off, not even the hook itself is looked up."""
    counts, socket = tap
    directory = tmp_path_factory.mktemp("d", numbered=True)
    daemon = Hookshim(directory, socket, ENSURE if how == "ensure" else {})
    daemon.start()
    try:
        pod = daemon.cri.run_pod(pod_name)
        hooked = daemon.cri.create(pod, "hooked", ["sleep", "3600"], annotations=KUBELETS)
        plain = daemon.cri.create(pod, "plain", ["sleep", "3600"])
        for container in (hooked, plain):
            daemon.cri.start(container)
        alone = {"ExecSync": 1}
        looked_up = {"ExecSync": 1, "ListContainers": 1} if how == "ensure" else alone
        assert asked(counts, daemon.cri, hooked, HOOK) == looked_up
        assert asked(counts, daemon.cri, hooked, ["echo"]) == looked_up
        # One without hooks was found to have none when it was started.
        assert asked(counts, daemon.cri, plain, HOOK) == alone
        for container in (hooked, plain):
            assert asked(counts, daemon.cri, container, HOOK, limit=10) == alone
    finally:
        daemon.close()
