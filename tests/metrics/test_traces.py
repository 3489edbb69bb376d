"""Spans as a collector gets them over HTTP from a running daemon, and that a collector is never in anybody's way."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.conftest import MakeHookshim
from tests.metrics import OBEDIENT
from tests.support.containerd import PrivateContainerd
from tests.support.hookshimd import Hookshim
from tests.support.receiver import Receiver
from tests.support.stage import KEY, exec_hook, http_hook
from tests.support.waiting import until
from tests.wire import cri_pb2 as cri

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

#: Where a collector takes traces.
TRACES = "/v1/traces"

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def spans(collector: Receiver) -> list[Span]:
    """All spans that the collector has got."""
    found = [ExportTraceServiceRequest.FromString(request.body) for request in collector.seen(TRACES)]
    return [
        span for one in found for resource in one.resource_spans for of in resource.scope_spans for span in of.spans
    ]


def named(collector: Receiver, *names: str) -> list[Span]:
    """The spans of these names, once all are there."""

    def look() -> list[Span] | None:
        by_name = {span.name: span for span in spans(collector)}
        return [by_name[name] for name in names] if set(names) <= by_name.keys() else None

    return until(look, f"spans {names}")


def attributes(span: Span) -> dict[str, str | int]:
    """A span's attributes that are text or numbers."""
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def traced(
    make: MakeHookshim, containerd: PrivateContainerd, collector: Receiver, options: Sequence[str] = ()
) -> Hookshim:
    """A daemon that sends its spans there."""
    endpoint = f"http://{collector.host}:{collector.port}"
    return make(containerd, env={"HOOKSHIM_TRACES_ENDPOINT": endpoint}, options=options)


def test_a_hooks_span_is_the_child_of_the_calls_and_that_of_its_callers(
    hookshim: MakeHookshim, containerd: PrivateContainerd, pod_name: str
) -> None:
    """One trace from the caller's span over the call to each attempt, with who it was about and what it came to."""
    with Receiver() as collector:
        daemon = traced(hookshim, containerd, collector)
        hooks = {"postStart": exec_hook(["sh", "-c", "echo s3c''ret"]), "preStop": exec_hook(["sh", "-c", "exit 4"])}
        pod = daemon.cri.run_pod(pod_name)
        container = daemon.cri.create(pod, "c", OBEDIENT, annotations={KEY: json.dumps(hooks)})
        metadata = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("authorization", "Bearer s3cret"))
        calls = {
            "StartContainer": cri.StartContainerRequest(container_id=container),
            "StopContainer": cri.StopContainerRequest(container_id=container, timeout=10),
        }
        for method, request in calls.items():
            reply = daemon.cri.call(method, request.SerializeToString(), metadata=metadata)
            assert reply.code is grpc.StatusCode.OK
        service = "runtime.v1.RuntimeService"
        start, stop, post_start, pre_stop = named(
            collector, f"{service}/StartContainer", f"{service}/StopContainer", "postStart exec", "preStop exec"
        )
        for call, hook in ((start, post_start), (stop, pre_stop)):
            assert {call.trace_id.hex(), hook.trace_id.hex()} == {TRACE}
            assert call.parent_span_id.hex() == PARENT
            assert hook.parent_span_id == call.span_id
            assert call.start_time_unix_nano < hook.start_time_unix_nano < hook.end_time_unix_nano
            assert hook.end_time_unix_nano < call.end_time_unix_nano
        told = attributes(pre_stop)
        [delivery] = [one for one in daemon.deliveries() if one["hook"] == "preStop"]
        assert told["hookshim.delivery"] == delivery["id"]
        assert (told["k8s.pod.name"], told["k8s.container.name"], told["container.id"]) == (pod_name, "c", container)
        assert (told["process.exit.code"], told["hookshim.attempt"]) == (4, 1)
        assert (post_start.status.code, pre_stop.status.code) == (0, 2)
        assert attributes(stop)["hookshim.decision"] == "answer"
        assert not any(b"s3cret" in request.body for request in collector.requests)


@pytest.mark.parametrize("trouble", ["hangs", "is not there"])
def test_a_collector_in_trouble_is_in_nobodys_way(
    hookshim: MakeHookshim, containerd: PrivateContainerd, receiver: Receiver, pod_name: str, trouble: str
) -> None:
    """Hooks, calls and the end of the daemon wait for no collector: they are done while it has answered nothing."""
    with Receiver() as collector:
        release = collector.hang(TRACES)
        daemon = traced(hookshim, containerd, collector, ["--drain-seconds", "5", "--log-level", "debug"])
        if trouble == "is not there":
            collector.close()
        pod = daemon.cri.run_pod(pod_name)
        hooks = {KEY: json.dumps({"preStop": http_hook(receiver, "/stop")})}
        for number in range(3):
            container = daemon.cri.create(pod, f"c{number}", OBEDIENT, annotations=hooks)
            daemon.cri.start(container)
            daemon.cri.stop(container, 10)
        if trouble == "hangs":
            collector.wait_for(TRACES)
        assert len(receiver.seen("/stop")) == 3
        began = time.monotonic()
        assert daemon.terminate() == 0
        # A second is for what is left; the SDK itself would wait for half a minute.
        assert time.monotonic() - began < 15
        assert not release.is_set()
        assert [one["state"] for one in daemon.deliveries()] == ["delivered"] * 3
        assert "s3cret" not in daemon.log.read_text()
