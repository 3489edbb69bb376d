"""What the observer's tests share: a journal of a morning, an observer of it on a port and one on a socket."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from shim.records import Delivery
from tests.observe import journals
from tests.observe.bed import Observer, observer


@dataclass(frozen=True, slots=True)
class Node:
    """A state directory that no daemon uses, and the deliveries in its journal, by name."""

    directory: Path
    found: dict[str, Delivery]


@pytest.fixture(scope="module")
def short() -> Iterator[Path]:
    """A directory whose name leaves room for a socket's, which pytest's own do not."""
    made = Path(tempfile.mkdtemp(prefix="hookshim-o-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def node(short: Path) -> Node:
    """A journal of a morning with an attack in it."""
    with closing(journals.Writer(short / "node")) as writer:
        now = time.time()
        found = journals.morning(writer, now)
        found["hostile"] = journals.hostile(writer, now)
    return Node(short / "node", found)


@pytest.fixture(scope="module")
def on_port(node: Node) -> Iterator[Observer]:
    """An observer of it on loopback."""
    with observer(node.directory) as made:
        yield made


@pytest.fixture(scope="module")
def on_socket(node: Node) -> Iterator[Observer]:
    """An observer of it on a unix socket."""
    with observer(node.directory, str(node.directory / "http.sock")) as made:
        yield made
