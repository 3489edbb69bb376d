"""The log: what a line holds, what cannot break one, and that it never holds up or fails the code that logs."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server.log import Sink, printable

#: Runs in a process of its own: the set-up is global.
PROLOGUE = """
import asyncio, logging, sys, warnings
import structlog
from server import log
logger = structlog.stdlib.get_logger("test")
log.setup("{level}", "{log_format}")
"""

EVIL = "a\nb\x1b[31m\r\x00\u202e\u2028\x9b\udc80"


def lines(code: str, level: str = "info", log_format: str = "json") -> list[str]:
    """What a process with this set-up and code writes to stderr; it must succeed and say nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE.format(level=level, log_format=log_format) + code],
        capture_output=True,
        check=False,
    )
    text = done.stderr.decode()
    assert done.returncode == 0, text
    assert done.stdout == b""
    return text.split("\n")[:-1]


def records(code: str, level: str = "info") -> list[dict[str, Any]]:
    """The same, of lines that are JSON objects."""
    return [json.loads(line) for line in lines(code, level)]


def read_all(fd: int) -> bytes:
    """What a non-blocking descriptor holds now."""
    found = b""
    while True:
        try:
            more = os.read(fd, 1 << 16)
        except BlockingIOError:
            return found
        if not more:
            return found
        found += more


def test_a_json_line_has_utc_time_level_logger_event_and_its_fields() -> None:
    """The head is the same in every line, in this order, then what the event brings."""
    (line,) = lines("logger.warning('stop is late', container='c', seconds=1.5)")
    record = json.loads(line)
    assert list(record) == ["timestamp", "level", "logger", "event", "container", "seconds"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record.pop("timestamp"))
    assert record == {
        "level": "warning",
        "logger": "test",
        "event": "stop is late",
        "container": "c",
        "seconds": 1.5,
    }


def test_auto_is_json_where_stderr_is_no_terminal() -> None:
    """A collector gets JSON without having asked for it."""
    (line,) = lines("logger.info('x')", log_format="auto")
    assert json.loads(line)["event"] == "x"


def test_auto_is_console_on_a_terminal_and_json_can_be_asked_for_there() -> None:
    """A person gets text; ``json`` overrules that."""
    for log_format, is_json in (("auto", False), ("json", True)):
        master, slave = pty.openpty()
        try:
            code = PROLOGUE.format(level="info", log_format=log_format) + "logger.info('hello', a=1)"
            subprocess.run([sys.executable, "-c", code], stderr=slave, check=True)
            text = os.read(master, 4096).decode()
        finally:
            os.close(slave)
            os.close(master)
        assert text.startswith("{") is is_json
        assert "hello" in text


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_a_level_leaves_out_what_is_below_it(level: str, expected: list[str]) -> None:
    """Of structlog's events and of the standard library's alike."""
    for source in ("logger", "logging.getLogger('lib')"):
        code = f"for name in ('debug', 'info', 'warning', 'error'): getattr({source}, name)('x')"
        assert [record["level"] for record in records(code, level)] == expected


def test_libraries_and_warnings_go_the_same_way() -> None:
    """grpc's, asyncio's and aiohttp's loggers and Python's warnings become lines like any other."""
    found = records(
        "for name in ('grpc', 'asyncio', 'aiohttp.client'):\n"
        "    logging.getLogger(name).info('a detail')\n"
        "    logging.getLogger(name).error('lost %s', 'it')\n"
        "warnings.warn('old', UserWarning)\n"
    )
    assert [(record["logger"], record["level"]) for record in found] == [
        ("grpc", "error"),
        ("asyncio", "error"),
        ("aiohttp.client", "error"),
        ("py.warnings", "warning"),
    ]
    assert found[0]["event"] == "lost it"
    assert "UserWarning: old" in found[3]["event"]


def test_an_exception_is_structured_and_shows_no_variables() -> None:
    """Type, message and frames as data; a frame's locals would carry handler output into the log."""
    (record,) = records(
        "def fail():\n    secret = 'pass' + 'word'\n    raise ValueError('no good')\n"
        "try:\n    fail()\nexcept ValueError:\n    logger.exception('it failed')\n"
    )
    (raised,) = record["exception"]
    assert (raised["exc_type"], raised["exc_value"]) == ("ValueError", "no good")
    assert raised["frames"][-1]["name"] == "fail"
    assert "password" not in json.dumps(record)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_text_breaks_a_line_or_reaches_the_terminal_raw(log_format: str) -> None:
    """Line ends, escape codes, bidirectional overrides, lone surrogates: in event, key, value and inside values."""
    evil = repr(EVIL)
    found = lines(
        f"logger.info({evil}, value={evil}, inside=[{{{evil}: ({evil},)}}], data={evil}.encode('utf-8', 'replace'))\n"
        f"logger.info('key', **{{{evil}: 1}})\n"
        f"logging.getLogger('lib').warning('%s', {evil})\n",
        log_format=log_format,
    )
    assert len(found) == 3
    assert all(line.isprintable() for line in found)
    assert all("\\u202e" in line and "\\u2028" in line and "\\udc80" in line for line in found)


def test_a_traceback_on_the_console_cannot_pass_for_log_lines() -> None:
    """Its lines stand behind a bar, also those that an exception's message invents."""
    first, *rest = lines(
        "try:\n    raise ValueError('x\\n2026-01-01T00:00:00Z [info] all is well \\x1b[2J')\n"
        "except ValueError:\n    logger.exception('it failed')\n",
        log_format="console",
    )
    assert "it failed" in first
    assert rest
    assert all(line.startswith("  | ") and line.isprintable() for line in rest)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_what_cannot_be_rendered_becomes_a_line_that_says_so(log_format: str) -> None:
    """A value that raises when shown, and a wrong format string, do not reach the code that logs."""
    found = lines(
        "class Bad:\n    def __repr__(self): raise RuntimeError('no')\n"
        "logger.info('x', value=Bad())\n"
        "logging.getLogger('lib').warning('%d', 'x')\n"
        "logger.info('after')\n",
        log_format=log_format,
    )
    assert len(found) == 3
    assert "could not be written: RuntimeError" in found[0]
    assert "could not be written: TypeError" in found[1]
    assert "after" in found[2]


def test_setting_up_twice_writes_each_line_once() -> None:
    """The later set-up replaces the earlier one."""
    assert len(lines("log.setup('info', 'json')\nlogger.info('x')")) == 1


def test_a_closed_stderr_costs_the_lines_and_nothing_else() -> None:
    """A daemon that was started without stderr runs on, and writes to no descriptor that isn't its own."""
    code = "import os\nos.close(2)\n" + PROLOGUE.format(level="info", log_format="json")
    code += "logger.info('x')\nfd = os.open('/dev/null', os.O_WRONLY)\nassert fd == 2\nlogger.info('x')\nprint('on')\n"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"on\n"


def test_a_reader_that_left_is_not_an_error() -> None:
    """EPIPE drops the line; the process gets no signal and no exception."""
    reader, writer = os.pipe()
    sink = Sink(writer)
    os.close(reader)
    assert not sink.write("x")
    sink.close()
    os.close(writer)


@pytest.mark.parametrize("kind", ["pipe", "terminal", "socket"])
def test_a_reader_that_sleeps_does_not_hold_up_the_writer(kind: str) -> None:
    """Lines are dropped when it is full, and go on when it reads again; no line is ever joined to another."""
    if kind == "pipe":
        reader, writer = os.pipe()
    elif kind == "terminal":
        reader, writer = pty.openpty()
    else:
        reader, writer = (end.detach() for end in socket.socketpair())
    sink = Sink(writer, patience=0.01)
    line = "x" * 1500
    written = 0
    while sink.write(line):
        written += 1
    assert not sink.write(line)
    assert os.get_blocking(writer), "whoever shares this descriptor must not find it changed"
    os.set_blocking(reader, False)
    found = read_all(reader)
    while not sink.write("after"):
        found += read_all(reader)
    found += read_all(reader)
    complete = [part for part in found.decode().replace("\r\n", "\n").split("\n") if part == line]
    assert len(complete) == written
    assert found.decode().replace("\r\n", "\n").endswith("\nafter\n")
    sink.close()
    os.close(reader)
    os.close(writer)


def test_dropped_lines_are_counted_in_the_log() -> None:
    """When the reader comes back it learns how many it has missed."""
    reader, writer = os.pipe()
    code = PROLOGUE.format(level="info", log_format="json")
    code += "for n in range(500): logger.info('x' * 1000)\nprint('full', flush=True)\ninput()\nlogger.info('after')\n"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writer
    ) as process:
        os.close(writer)
        assert process.stdout is not None
        assert process.stdout.readline() == b"full\n"
        os.set_blocking(reader, False)
        before = read_all(reader)
        process.communicate(b"\n")
    found = (before + read_all(reader)).decode().split("\n")
    os.close(reader)
    whole = [text for text in found if text.endswith("}")]
    events = [json.loads(text)["event"] for text in whole]
    kept = events.count("x" * 1000)
    assert 0 < kept < 500
    assert events[-1] == "after"
    notices = [event.removesuffix(" log lines were dropped") for event in events if "dropped" in event]
    assert sum(map(int, notices)) == 500 - kept


def test_a_log_file_is_appended_to(tmp_path: Path) -> None:
    """A file as stderr is written where the descriptor stands, also when others write to it."""
    file = tmp_path / "log"
    with file.open("wb", buffering=0) as output:
        output.write(b"before\n")
        sink = Sink(output.fileno())
        assert sink.write("one")
        output.write(b"between\n")
        assert sink.write("two")
        sink.close()
    assert file.read_text() == "before\none\nbetween\ntwo\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢字 a\\b", "plain é 漢字 a\\b"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31m\x9b\x7f\x00", "\\x1b[31m\\x9b\\x7f\\x00"),
        ("\u202e\u2028\ufeff\udc80", "\\u202e\\u2028\\ufeff\\udc80"),
        ("", ""),
    ],
)
def test_printable_escapes_what_cannot_be_seen_and_nothing_else(text: str, shown: str) -> None:
    """Other scripts stay readable; controls and invisible characters are shown as escapes."""
    assert printable(text) == shown
