"""Spans by OpenTelemetry's SDK: its queue is bounded, and drops what a slow collector does not take.

A call's span is the child of its caller's (W3C Trace Context), and lasts until it is decided: until the engine has
answered it, hooks included, or until it is passed on. An attempt's span is the child of the call's that it came of; one
that recovery makes has no parent. No span has what a handler said, a header, or a command's arguments.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from server import VERSION
from server.call import Answer, Call, Decision, Interceptor, Pass
from server.traces import Handlers
from shim.actions import Action, ExecAction, HttpGetAction, RunAction, SleepAction, TcpSocketAction
from shim.ports import Attempt, Container, Foreseeing, Handler
from shim.records import Execution, Outcome

#: Where a collector takes traces, below its endpoint (OTLP/HTTP).
_PATH: Final = "/v1/traces"

#: Spans that wait at most, those of a request, and milliseconds between two.
_QUEUE, _BATCH, _PAUSE = 2048, 256, 1000

#: Seconds for one request, and for the last ones when the daemon ends.
_REQUEST, _CLOSE = 5.0, 1.0

#: Seconds between two lines about a collector that does not take what it is sent.
_SELDOM: Final = 600.0

_KINDS: Final[dict[type[Action], str]] = {
    ExecAction: "exec",
    HttpGetAction: "httpGet",
    TcpSocketAction: "tcpSocket",
    SleepAction: "sleep",
    RunAction: "run",
}


class _Seldom(logging.Filter):
    """Lets a line through, and then none for a while: a collector that is away stays away."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is to be logged."""
        if record.created < self._next:
            return False
        self._next = record.created + _SELDOM
        return True


class OtlpTraces:
    """Implements server.traces.Traces. ``endpoint`` is the collector's, as ``http://127.0.0.1:4318``."""

    def __init__(self, endpoint: str) -> None:
        # It would say so for every span that it drops, and every time that it tries again.
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").addFilter(_Seldom())
        url = endpoint if endpoint.endswith(_PATH) else endpoint.rstrip("/") + _PATH
        resource = Resource.create({"service.name": "hookshim", "service.version": VERSION})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=url, timeout=_REQUEST)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter, max_queue_size=_QUEUE, schedule_delay_millis=_PAUSE, max_export_batch_size=_BATCH
            )
        )
        self._tracer = self._provider.get_tracer("hookshim", VERSION)

    def interceptor(self, inner: Interceptor) -> Interceptor:
        """With a span for each call."""
        return _TracedInterceptor(inner, self._tracer)

    def handlers(self, inner: Handlers) -> Handlers:
        """With a span for each attempt."""
        return {
            kind: (_TracedForeseeing if isinstance(handler, Foreseeing) else _TracedHandler)(handler, self._tracer)
            for kind, handler in inner.items()
        }

    async def close(self) -> None:
        """Send what there is; what the collector does not take within a second is lost."""
        # A daemon thread: the end of the process waits for no collector.
        ending = threading.Thread(target=self._provider.shutdown, name="last traces", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, _CLOSE)


class _TracedInterceptor:
    def __init__(self, inner: Interceptor, tracer: Tracer) -> None:
        self._inner = inner
        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()

    @property
    def methods(self) -> frozenset[str]:
        return self._inner.methods

    async def decide(self, call: Call) -> Decision:
        service, _, method = call.method.strip("/").rpartition("/")
        carrier = {key: value for key, value in call.metadata if isinstance(value, str)}
        with self._tracer.start_as_current_span(
            f"{service}/{method}",
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            decision = await self._inner.decide(call)
            if isinstance(decision, Pass | Answer):
                span.set_attribute("hookshim.decision", type(decision).__name__.lower())
            else:
                span.set_attributes({"hookshim.decision": "refusal", "hookshim.code": decision.code})
                span.set_status(StatusCode.ERROR)
            return decision


class _TracedHandler:
    def __init__(self, inner: Handler, tracer: Tracer) -> None:
        self._inner = inner
        self._tracer = tracer

    async def deliver(self, attempt: Attempt) -> Outcome:
        with self._span(attempt) as span:
            outcome = await self._inner.deliver(attempt)
            _tell(span, outcome)
            return outcome

    async def find(self, attempt: Attempt) -> Outcome | None:
        with self._span(attempt) as span:
            outcome = await self._inner.find(attempt)
            span.set_attribute("hookshim.found", outcome is not None)
            if outcome is not None:
                _tell(span, outcome)
            return outcome

    @contextmanager
    def _span(self, attempt: Attempt) -> Iterator[Span]:
        kind = _KINDS[type(attempt.handler.action)]
        ref = attempt.container.ref
        with self._tracer.start_as_current_span(
            f"{attempt.hook} {kind}",
            kind=SpanKind.CLIENT,
            attributes={
                "hookshim.hook": str(attempt.hook),
                "hookshim.handler": kind,
                "hookshim.source": attempt.source,
                "hookshim.delivery": attempt.delivery_id,
                "hookshim.attempt": attempt.number,
                "container.id": ref.id,
                "k8s.container.name": ref.name,
                "k8s.pod.name": ref.pod,
                "k8s.pod.uid": ref.uid,
                "k8s.namespace.name": ref.namespace,
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except asyncio.CancelledError:
                # Its time is over, its container has ended, or hookshim does.
                span.set_attribute("hookshim.cancelled", value=True)
                span.set_status(StatusCode.ERROR)
                raise


class _TracedForeseeing(_TracedHandler):
    @property
    def begins(self) -> Execution | None:
        inner: object = self._inner
        return inner.begins if isinstance(inner, Foreseeing) else None

    def foresee(self, container: Container) -> None:
        inner: object = self._inner
        if isinstance(inner, Foreseeing):
            inner.foresee(container)


def _tell(span: Span, outcome: Outcome) -> None:
    if outcome.exit_status is not None:
        span.set_attribute("process.exit.code", outcome.exit_status)
    if outcome.http_status is not None:
        span.set_attribute("http.response.status_code", outcome.http_status)
    if not outcome.succeeded:
        span.set_status(StatusCode.ERROR)
