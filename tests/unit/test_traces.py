"""Traces are an extra: without an endpoint, or without OpenTelemetry's SDK, nothing is traced and nothing fails."""

from __future__ import annotations

import sys

import pytest
from structlog.testing import capture_logs

from server.handlers.sleep import SleepHandler
from server.traces import Handlers, NoTraces, traces
from shim.actions import SleepAction


async def test_without_an_endpoint_nothing_is_put_around_anything() -> None:
    """The handlers are those that were given, and the SDK is not even looked for."""
    handlers: Handlers = {SleepAction: SleepHandler()}
    with capture_logs() as said:
        none = traces("")
        assert none.handlers(handlers) is handlers
        await none.close()
    assert said == []


def test_an_sdk_that_is_not_there_is_told_and_keeps_nothing_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says what to do."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "server.traces.otlp", raising=False)
    with capture_logs() as said:
        assert isinstance(traces("http://user:s3cret@127.0.0.1:4318"), NoTraces)
    [line] = said
    assert line["log_level"] == "error"
    assert "install hookshim[otlp]" in line["event"]
    assert "s3cret" not in str(line)
