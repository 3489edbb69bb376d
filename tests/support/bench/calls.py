"""Calls and deliveries by the thousand, from h2load: what one costs, and how many go through."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.bench.fake import LISTED, SHORT
from tests.support.bench.figures import Of, Row, Target
from tests.support.bench.journal import delivered
from tests.support.bench.load import Callers, LoadError, Request, load
from tests.support.bench.progress import Progress
from tests.support.bench.stand import Stand, Way
from tests.support.bench.turns import Taken, measure
from tests.support.cri import CRIError
from tests.wire import cri_pb2 as cri

_SERVICE = "/runtime.v1.RuntimeService/"

#: The targets of Version: with one caller at most 0.35 of direct's median is added; with 16, at least 0.7 of direct's
#: calls go through.
_ONE, _SIXTEEN = Target(Of.RATIO, 1.35), Target(Of.RATIO, 0.7, at_least=True)

#: How many containers are in the lists.
_LISTS = (1, 200, 1000)

#: How many callers want deliveries at the same time.
DELIVERING = 100

#: What one caller is told in.
_MICROSECONDS = "µs"


@dataclass(frozen=True, slots=True)
class Amount:
    """Rounds, and calls a round: with one caller, with 16 (a multiple of them), and of deliveries."""

    rounds: int
    one: int
    sixteen: int
    deliveries: int

    def of_list(self, containers: int) -> Amount:
        """For a list of so many containers: fewer calls, so that about as much time goes by."""
        share = 1 + containers // 50
        return Amount(self.rounds, max(self.one // share, 20), max(self.sixteen // share // 16 * 16, 32), 0)


def version(where: Stand, amount: Amount, progress: Progress) -> list[Row]:
    """Version, which is nearly nothing to a runtime; the targets are for this one."""
    return _rates(where, ("Version", "Version", b""), amount, progress, (_ONE, _SIXTEEN))


def status(where: Stand, container: str, amount: Amount, progress: Progress) -> list[Row]:
    """ContainerStatus of a container."""
    message = cri.ContainerStatusRequest(container_id=container).SerializeToString()
    return _rates(where, ("ContainerStatus", "ContainerStatus", message), amount, progress)


def lists(fake: Stand, amount: Amount, progress: Progress) -> list[Row]:
    """ListContainers of the fake runtime, by how many it lists."""
    rows = []
    for count in _LISTS:
        which = cri.ContainerFilter(label_selector={LISTED: str(count)})
        message = cri.ListContainersRequest(filter=which).SerializeToString()
        called = f"ListContainers of {count:,} (fake)", "ListContainers", message
        rows += _rates(fake, called, amount.of_list(count), progress)
    return rows


def deliveries(fake: Stand, journal: str, amount: Amount, progress: Progress) -> list[Row]:
    """Every call stops another container of the fake runtime, whose PreStop does nothing: engine and journal are left.

    ``journal`` says where it is.
    """
    message = cri.StopContainerRequest(container_id=SHORT, timeout=30).SerializeToString()
    request = Request(f"{_SERVICE}StopContainer", message, 0)
    count = amount.deliveries

    def sample(way: Way) -> dict[str, Taken]:
        if way.daemon is None:
            return {}
        known, before = delivered(way.daemon.state_dir), way.cpu
        done = load(way.socket, request, Callers(DELIVERING), count, cold=True)
        used = way.cpu - before
        if (found := delivered(way.daemon.state_dir) - known) != count:
            raise LoadError(f"{found} deliveries are recorded instead of {count}")
        return {"": Taken(done.rate, used, count)}

    row = Row(f"deliveries (fake), {DELIVERING} callers, {journal}", "/s")
    return measure({"": row}, fake, sample, amount.rounds, progress)


def _rates(
    where: Stand,
    called: tuple[str, str, bytes],
    amount: Amount,
    progress: Progress,
    targets: tuple[Target | None, Target | None] = (None, None),
) -> list[Row]:
    """One caller's median; and how many calls go through with 16, each with a connection or all on one."""
    title, method, message = called
    request = Request(f"{_SERVICE}{method}", message, _length(where.ways[0], method, message))
    rows = []
    for what, unit, target, callers, count in (
        ("1 caller", _MICROSECONDS, targets[0], Callers(1), amount.one),
        ("16 callers", "calls/s", targets[1], Callers(16), amount.sixteen),
        ("16 at once on 1 connection", "calls/s", targets[1], Callers(1, 16), amount.sixteen),
    ):

        def sample(way: Way, unit: str = unit, callers: Callers = callers, count: int = count) -> dict[str, Taken]:
            before = way.cpu
            done = load(way.socket, request, callers, count)
            used = way.cpu - before if way.daemon or way.pid else None
            return {"": Taken(done.median * 1e6 if unit == _MICROSECONDS else done.rate, used, count)}

        rows += measure({"": Row(f"{title}, {what}", unit, target)}, where, sample, amount.rounds, progress)
    return rows


def _length(way: Way, method: str, message: bytes) -> int:
    """How many bytes the backend answers with. Raises CRIError."""
    reply = way.cri.call(method, message)
    if reply.code.name != "OK":
        raise CRIError(method, reply)
    return len(reply.response)
