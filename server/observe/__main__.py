"""The observer's process: its settings come on stdin, whose end is the daemon's end.

The kernel is asked to end it with the daemon too (prctl(2), PR_SET_PDEATHSIG), for when it cannot read that.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from server import log
from server.config import Config
from server.observe.listener import serve
from server.observe.sinks import keep_running, sinks
from server.values import http_address

_PR_SET_PDEATHSIG: Final = 1

#: How much the daemon's calls and hooks come before this (nice(2)).
_NICENESS: Final = 10

#: How much sooner than the daemon this is killed when memory is short (proc(5), oom_score_adj).
_OOM_SCORE: Final = "900"


def main() -> None:
    """Observe until the daemon ends, or SIGTERM."""
    _step_back()
    config = Config.model_validate_json(sys.stdin.buffer.readline())
    os.umask(0o077)
    log.setup(config.log.level, config.log.format)
    structlog.contextvars.bind_contextvars(process="observer")
    asyncio.run(_observe(config))


def _step_back() -> None:
    """Never live longer than the daemon, nor at its cost."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(_NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


async def _observe(config: Config) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)

    def heard() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            ended.set()

    loop.add_reader(sys.stdin.fileno(), heard)
    work = [asyncio.create_task(keep_running(sink, config), name="sink") for sink in sinks(config)]
    if address := http_address(config.http.listen):
        work.append(asyncio.create_task(serve(config, address), name="http"))
    end = asyncio.create_task(ended.wait(), name="the daemon's end")
    await asyncio.wait({end, *work}, return_when=asyncio.FIRST_COMPLETED)
    for task in work:
        task.cancel()
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


if __name__ == "__main__":
    main()
