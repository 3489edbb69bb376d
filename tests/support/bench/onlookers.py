"""Who looks at a node while it works: a scraper of the metrics and a browser with the status page open.

A call is measured with nobody looking and with both, one right after the other, through a hookshim of its own that
serves them. The scraper asks ten times a second, where Prometheus asks four times a minute.
"""

from __future__ import annotations

import http.client
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.bench.calls import Amount
from tests.support.bench.fake import VERSION
from tests.support.bench.figures import JUDGED, Check, Row, Spread, Verdict
from tests.support.bench.load import Callers, LoadError, Request, load
from tests.support.bench.progress import Progress
from tests.support.bench.stand import FRONTS, Stand, Way
from tests.support.bench.turns import Taken, measure
from tests.support.hookshimd import Hookshim
from tests.support.waiting import PATIENCE, until

#: Seconds between two scrapes.
_EVERY = 0.1

_QUIET, _SEEN = "quiet", "seen"

_REQUEST = Request("/runtime.v1.RuntimeService/Version", b"", len(VERSION))


class _Local(http.client.HTTPConnection):
    """HTTP at a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        """Connect to it."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

    def leave(self) -> None:
        """Be gone, whoever waits for an answer."""
        with suppress(OSError):
            if self.sock is not None:
                self.sock.shutdown(socket.SHUT_RDWR)


class Onlookers:
    """A scraper and a browser at this socket, and how often each was told something."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ended = threading.Event()
        self.scrapes = 0
        self.told = 0

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look until the end of the block, which begins when both have seen something. Raises LoadError."""
        browser = _Local(self._path)
        threads = [threading.Thread(target=self._scrape), threading.Thread(target=self._browse, args=[browser])]
        for thread in threads:
            thread.start()
        try:
            until(lambda: self.scrapes and self.told, "the metrics and the status page are served")
            yield
        except TimeoutError as error:
            raise LoadError(str(error)) from None
        finally:
            self._ended.set()
            browser.leave()
            for thread in threads:
                thread.join(PATIENCE)

    def _scrape(self) -> None:
        while not self._ended.wait(_EVERY):
            if b"hookshim_build_info" in self._get("/metrics"):
                self.scrapes += 1

    def _browse(self, connection: _Local) -> None:
        self._get("/")
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/events")
            for line in connection.getresponse():
                self.told += line.startswith(b"data:")
        connection.close()

    def _get(self, path: str) -> bytes:
        connection = _Local(self._path)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", path)
            return connection.getresponse().read()
        connection.close()
        return b""


def version(backend: Path, journals: Path, amount: Amount, progress: Progress) -> tuple[list[Row], Check]:
    """Version of the fake runtime at ``backend``, one caller: its mean, in which a call that is held up shows."""
    rows = {
        _QUIET: Row("Version (fake), 1 caller, mean; nobody looks", "µs"),
        _SEEN: Row("Version (fake), 1 caller, mean; metrics scraped 10/s, status page open", "µs"),
    }

    def sample(way: Way) -> dict[str, Taken]:
        assert way.daemon is not None  # all of them are
        taken = {_QUIET: _mean(way, amount.one)}
        with Onlookers(way.daemon.directory / "http.sock").looking():
            taken[_SEEN] = _mean(way, amount.one)
        return taken

    with _served(backend, journals) as where:
        measured = measure(rows, where, sample, amount.rounds, progress)
    return measured, _check(*measured)


def _mean(way: Way, calls: int) -> Taken:
    before = way.cpu
    done = load(way.socket, _REQUEST, Callers(1), calls)
    return Taken(1e6 / done.rate, way.cpu - before, calls)


def _check(quiet: Row, seen: Row) -> Check:
    """Whether the median with onlookers lies among the rounds without them."""
    title, promised = "Version while metrics are scraped and the status page is open", "within the noise of Version"
    without, with_them = quiet.spread(JUDGED), seen.spread(JUDGED)
    if without is None or with_them is None:
        return Check(title, "not measured", promised, Verdict.UNKNOWN)
    verdict = Verdict.MET if with_them.median <= without.most else Verdict.NOT_MET
    return Check(title, f"{with_them.median:.0f} µs; {_text(without)} without", promised, verdict)


def _text(spread: Spread) -> str:
    return f"{spread.least:.0f}…{spread.most:.0f} µs"


@contextmanager
def _served(backend: Path, journals: Path) -> Iterator[Stand]:
    """Both front doors, each in a hookshim that serves metrics and status page."""
    with tempfile.TemporaryDirectory(prefix="hookshim-b-", dir=journals) as made:
        where = Stand("fake runtime")
        try:
            for front in FRONTS:
                directory = Path(made, front)
                directory.mkdir()
                env = {"HOOKSHIM_FRONT": front, "HOOKSHIM_HTTP_LISTEN": str(directory / "http.sock")}
                daemon = Hookshim(directory, backend, env)
                where.ways.append(Way(front, daemon.socket, daemon.cri, daemon))
                daemon.start()
            yield where
        finally:
            where.close()
