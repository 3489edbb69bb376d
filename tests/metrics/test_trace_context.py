"""A caller's trace context reaches containerd, seen on the wire: with what is forwarded and what the engine calls."""

from __future__ import annotations

import json

import grpc
import pytest

from tests.conftest import MakeHookshim
from tests.metrics import OBEDIENT
from tests.metrics.wiretap import Wiretap
from tests.support.containerd import PrivateContainerd
from tests.support.stage import KEY, exec_hook
from tests.wire import cri_pb2 as cri

#: W3C Trace Context: a sampled span of somebody's, and what its vendors add.
PARENT = "00-{trace}-00f067aa0ba902b7-01"
STATE = "vendor=opaque,other=1"

CRI = "/runtime.v1.RuntimeService/"


@pytest.mark.parametrize("hooks", [0, 2], ids=["forwarded", "called by the engine"])
def test_a_callers_trace_context_arrives_at_containerd(
    hookshim: MakeHookshim, containerd: PrivateContainerd, pod_name: str, hooks: int
) -> None:
    """Byte for byte, for a container without hooks (forwarded) and for one with (the engine makes the call)."""
    daemon = hookshim(containerd, start=False)
    with Wiretap(daemon.directory / "tap.sock", containerd.socket) as tap:
        daemon.containerd = tap.path
        daemon.start()
        declared = {KEY: json.dumps({"postStart": exec_hook(["true"]), "preStop": exec_hook(["true"])})}
        pod = daemon.cri.run_pod(pod_name)
        container = daemon.cri.create(pod, "c", OBEDIENT, annotations=declared if hooks else {})
        calls = {
            "StartContainer": cri.StartContainerRequest(container_id=container),
            "ContainerStatus": cri.ContainerStatusRequest(container_id=container),
            "StopContainer": cri.StopContainerRequest(container_id=container, timeout=10),
        }
        for number, (method, request) in enumerate(calls.items(), start=1):
            parent = PARENT.format(trace=f"{number:032x}")
            metadata = (("traceparent", parent), ("tracestate", STATE))
            reply = daemon.cri.call(method, request.SerializeToString(), metadata=metadata)
            assert reply.code is grpc.StatusCode.OK
            arrived = [one for one in tap.seen if parent in one.values("traceparent")]
            # More than once where a front door sends a request's headers ahead, and takes it back.
            assert {one.path for one in arrived} == {f"{CRI}{method}"}
            assert [one.values("tracestate") for one in arrived] == [[STATE]] * len(arrived)
        assert [delivery["state"] for delivery in daemon.deliveries()] == ["delivered"] * hooks
        # The tap goes away under it, as containerd would.
        daemon.kill()
