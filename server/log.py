"""The daemon's log: what happened, for people on a terminal and for collectors elsewhere.

It is a module of its own because a log must never be what hurts: it raises nothing into the code that logs, does not
hold the event loop while whoever reads stderr sleeps, and lets no text from an annotation forge a line or reach a
terminal's escape codes. grpc, asyncio, aiohttp and Python's warnings go the same way.

One event is one line of JSON (``timestamp`` in UTC, ``level``, ``logger``, ``event``, then its own fields), or, on a
terminal, one line of text; a traceback there follows on lines that begin with ``  |``.

What is said while a container is worked on has ``container`` (its whole id), ``container_name``, ``pod`` and
``namespace``; what is said while a hook is delivered has ``hook``, ``delivery`` and ``attempt`` besides
(``shim.naming``). No line at any level has what a handler said, a header's value, a message of CRI's, or the user
information of a URL.

The levels say who has to do something:

- ``critical``: data is lost or out of reach; somebody has to look now (a damaged journal).
- ``error``: hookshim cannot do what it promises, until somebody mends it (a disk that takes nothing, bad rules), or has
  met a bug; it goes on as well as it can.
- ``warning``: a hook was not delivered, or something outside did not do what it should (containerd away, a kill that
  failed); nobody has to do anything if it stays rare.
- ``info``: what hookshim itself has begun and ended: a line for each change of its state, none for a call.
- ``debug``: what helps to find out why; may be a line for each call. What libraries call ``info`` is shown here only.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import stat
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from shim import strictjson

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]

#: Seconds that one line may wait for a reader that is not reading; the lines after it wait for none.
PATIENCE: Final = 0.1

#: Libraries whose own "info" is a node owner's "debug".
_LIBRARIES: Final = ("aiohttp", "asyncio", "grpc")

#: How deep into a value the console looks for text to escape; deeper is shown as Python writes it.
_DEPTH: Final = 8


def printable(text: str) -> str:
    r"""Return the text with everything that is no visible character escaped, as Python writes it (``\x1b``).

    Line ends, terminal control codes, and the characters that reorder or hide text are all escaped.
    """
    return text if text.isprintable() else strictjson.printable(text, sys.maxsize - 1)


def setup(level: LogLevel = "info", log_format: LogFormat = "auto", fd: int = 2) -> None:
    """Send structlog and the standard library's logging to ``fd``; calling it again replaces what was set.

    ``auto`` is ``console`` if ``fd`` is a terminal, else ``json``. Colours are used on a terminal unless
    ``NO_COLOR`` is set (no-color.org).
    """
    terminal = os.isatty(fd)
    console = log_format == "console" or (log_format == "auto" and terminal)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *(_console(colours=terminal and not os.environ.get("NO_COLOR")) if console else _json()),
        ],
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    threshold = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, LineHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(LineHandler(Sink(fd), formatter))
    root.setLevel(threshold)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else max(threshold, logging.WARNING))
    logging.captureWarnings(capture=True)


class Sink:
    """Writes lines to a file descriptor without waiting for its reader longer than a moment.

    A pipe or terminal is opened anew for itself, so that being non-blocking is not shared with other processes.
    """

    def __init__(self, fd: int, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._stalled = False
        self._torn = False
        self._fd, self._send = _open(fd)

    def write(self, line: str) -> bool:
        """Write one line; False if it was dropped (reader stalled or gone, disk full). Never raises OSError."""
        if self._fd < 0:
            return False
        data = (("\n" if self._torn else "") + line + "\n").encode("utf-8", "backslashreplace")
        whole = len(data)
        give_up = time.monotonic() + (0 if self._stalled else self._patience)
        while data:
            try:
                data = data[self._send(data) :]
            except BlockingIOError:
                left = give_up - time.monotonic()
                if left <= 0 or not self._writable(left):
                    self._stalled = True
                    break
            except OSError:
                break
        else:
            self._stalled = self._torn = False
            return True
        self._torn = self._torn or len(data) < whole
        return data == b"\n"

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _writable(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))


class LineHandler(logging.Handler):
    """Formats records and hands them to a sink; a record that cannot be formatted becomes a line that says so."""

    def __init__(self, sink: Sink, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._sink = sink
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record. Raises nothing."""
        try:
            if self._dropped and self._sink.write(self._notice(f"{self._dropped} log lines were dropped")):
                self._dropped = 0
            if not self._sink.write(self._render(record)):
                self._dropped += 1
        except Exception:  # noqa: BLE001  # whatever it is, it must not reach the code that logs
            self._dropped += 1

    def close(self) -> None:
        """Give the descriptor back."""
        self._sink.close()
        super().close()

    def _render(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:  # noqa: BLE001  # a value's __repr__ may raise anything
            return self._notice(f"a log line could not be written: {type(error).__name__}", record.name)

    def _notice(self, text: str, name: str = __name__) -> str:
        return self.format(logging.LogRecord(name, logging.WARNING, "", 0, text, None, None))


def _open(fd: int) -> tuple[int, Callable[[bytes], int]]:
    """A descriptor of our own for ``fd`` (-1 if it is closed) and how to write to it without waiting."""
    try:
        mode = os.fstat(fd).st_mode
        own = os.dup(fd)
    except OSError:
        return -1, len
    if stat.S_ISSOCK(mode):
        return own, partial(_send, own)
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        try:
            anew = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            pass
        else:
            os.close(own)
            own = anew
    return own, partial(os.write, own)


def _send(fd: int, data: bytes) -> int:
    borrowed = socket.socket(fileno=fd)
    try:
        return borrowed.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    finally:
        borrowed.detach()


def _json() -> list[Processor]:
    # Without locals: they would carry handler output and request headers into the log.
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [
        structlog.processors.ExceptionRenderer(tracebacks),
        _head_first,
        structlog.processors.JSONRenderer(),
    ]


def _console(*, colours: bool) -> list[Processor]:
    return [
        structlog.processors.format_exc_info,
        _escape,
        structlog.dev.ConsoleRenderer(
            colors=colours,
            pad_event_to=0,
            exception_formatter=structlog.dev.plain_traceback,
        ),
    ]


def _head_first(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    head = {key: event.pop(key) for key in ("timestamp", "level", "logger", "event") if key in event}
    return {**head, **event}


def _escape(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    trace = event.pop("exception", None)
    escaped: EventDict = {printable(str(key)): _escaped(value, _DEPTH) for key, value in event.items()}
    if trace:
        # The bar keeps a line of an exception's message from passing for a log line.
        escaped["exception"] = "\n".join("  | " + printable(line) for line in str(trace).split("\n"))
    return escaped


def _escaped(value: object, depth: int) -> object:
    if isinstance(value, str):
        return printable(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth and isinstance(value, dict):
        return {_escaped(key, depth - 1): _escaped(inner, depth - 1) for key, inner in value.items()}
    if depth and isinstance(value, list | tuple):
        return [_escaped(inner, depth - 1) for inner in value]
    return printable(repr(value))
