"""Traces of what hookshim does, for who has a collector: spans of intercepted calls and of attempts of hooks.

A caller's own trace context goes on to containerd in any case: it is metadata. This is an extra, as OpenTelemetry's
SDK is (``pip install hookshim[otlp]``): without it, or without an endpoint, nothing of it is loaded.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Protocol

import structlog

from server.call import Interceptor
from shim.actions import Action
from shim.ports import Handler

log = structlog.get_logger(__name__)

Handlers = Mapping[type[Action], Handler]


class Traces(Protocol):
    """Puts itself around what is to be traced. Nothing of it waits for the collector."""

    def interceptor(self, inner: Interceptor) -> Interceptor:
        """The same interceptor, with a span for each call that it decides."""
        ...

    def handlers(self, inner: Handlers) -> Handlers:
        """The same handlers, with a span for each attempt."""
        ...

    async def close(self) -> None:
        """Send what there is, for a moment at most."""
        ...


class NoTraces:
    """Nothing is traced."""

    def interceptor(self, inner: Interceptor) -> Interceptor:
        """The interceptor itself."""
        return inner

    def handlers(self, inner: Handlers) -> Handlers:
        """The handlers themselves."""
        return inner

    async def close(self) -> None:
        """Nothing."""


def traces(endpoint: str) -> Traces:
    """Traces that are sent to the collector at ``endpoint``, in OTLP over HTTP; none if it is empty.

    An SDK that is not there is logged: no container waits for it.
    """
    if not endpoint:
        return NoTraces()
    try:
        otlp = importlib.import_module("server.traces.otlp")
    except ModuleNotFoundError as error:
        # The endpoint itself may hold a credential.
        log.error(
            "no traces are sent: OpenTelemetry's SDK is not installed; install hookshim[otlp], or set no endpoint",
            missing=error.name,
        )
        return NoTraces()
    made: Traces = otlp.OtlpTraces(endpoint)
    return made
