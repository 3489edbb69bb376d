"""The bench's fake node has the containers that it is given, and starts and stops them as a runtime would."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from shim.store import FILE, Store
from tests.support.bench.history import KINDS, known, left, write
from tests.support.bench.node import Given, node
from tests.support.cri import CRIClient, CRIError
from tests.wire import cri_pb2 as cri

GIVEN = [
    Given("c1", "p1", "CONTAINER_CREATED", started=False, annotations={"a": "b"}),
    Given("c2", "p1", "CONTAINER_RUNNING", started=True),
    Given("c3", "p2", "CONTAINER_EXITED", started=True),
    Given("c4", "p3", "CONTAINER_EXITED", started=False),
]


@pytest.fixture
def client() -> Iterator[CRIClient]:
    """A client of a node that has these."""
    with node(GIVEN) as (socket, _), CRIClient(socket) as made:
        yield made


def listed(client: CRIClient, **which: object) -> list[str]:
    """The ids of the containers that a filter lets through."""
    request = cri.ListContainersRequest(filter=cri.ContainerFilter(**which))  # type: ignore[arg-type]
    return [one.id for one in client.ask("ListContainers", request, cri.ListContainersResponse).containers]


def test_the_containers_are_those_that_were_given(client: CRIClient) -> None:
    """By id, by pod and by state, with their annotations, and whether they have ever run."""
    assert listed(client) == ["c1", "c2", "c3", "c4"]
    assert (listed(client, id="c2"), listed(client, id="c9")) == (["c2"], [])
    assert listed(client, pod_sandbox_id="p1") == ["c1", "c2"]
    running = cri.ContainerStateValue(state=cri.CONTAINER_RUNNING)
    assert listed(client, state=running) == ["c2"]
    assert dict(client.status("c1").annotations) == {"a": "b"}
    assert [client.status(one.id).started_at > 0 for one in GIVEN] == [False, True, True, False]
    assert client.pod_status("p1").id == "p1"


def test_a_container_is_started_and_stopped(client: CRIClient) -> None:
    """One that runs ends once; one that does not is left as it is."""
    client.start("c1")
    client.stop("c1", 30)
    assert client.state("c1") == "CONTAINER_EXITED"
    ended = client.status("c1").finished_at
    client.stop("c1", 30)
    assert client.status("c1").finished_at == ended


@pytest.mark.parametrize("method", ["ContainerStatus", "StartContainer", "PodSandboxStatus"])
def test_what_it_does_not_have_is_not_found(client: CRIClient, method: str) -> None:
    """With the code that a runtime has for that."""
    request = cri.PodSandboxStatusRequest(pod_sandbox_id="x").SerializeToString()
    assert client.call(method, request).code is grpc.StatusCode.NOT_FOUND
    with pytest.raises(CRIError, match="NOT_FOUND"):
        client.status("x")


def test_a_written_journal_is_one_that_a_daemon_could_have_written(tmp_path: Path) -> None:
    """It passes every check that SQLite has, and holds the ended deliveries and what was left open, of every kind."""
    opened = left(2 * len(KINDS))
    write(tmp_path, 100, opened, lambda _: '{"sleep":{"seconds":0}}')
    with closing(sqlite3.connect(tmp_path / FILE)) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert file.execute("PRAGMA foreign_key_check").fetchall() == []
    with closing(Store.open(tmp_path / FILE)) as store:
        assert [one.id for one in store.open_operations()] == [one.id for one in opened]
        states = Counter((one.kind.operation, one.kind.delivery) for one in opened if one.kind.delivery)
        found = store.deliveries_of_open_operations()
        kinds = {one.id: one.kind.operation for one in opened}
        assert Counter((kinds[one.operation_id], str(one.state)) for one in found) == states
        assert sum(1 for one in store.deliveries() if one.id not in kinds) == 100
    there = {one.container for one, _, _ in known(opened)}
    assert {one.container for one in opened if one.kind.stands == "gone"}.isdisjoint(there)
