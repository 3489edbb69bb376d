"""What is made once for all tests here, also if several processes run them: Debian's files, and the package."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.conftest import BASE, Containerds
from tests.deploy import debian
from tests.support.cri import CRIClient


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of this run that all of its processes have."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def package(shared: Path) -> Path:
    """The Debian package of the checkout."""
    made = debian.once(shared / "package", lambda place: print(debian.run(debian.ROOT / "hack/package-deb", place)))  # noqa: T201 - pytest shows it with a failure
    [package] = made.glob("*.deb")
    return package


@pytest.fixture(scope="session")
def files(shared: Path) -> Iterator[Path]:
    """A fresh Debian's, to be read; the last process that needs them removes them, since pytest would keep them."""
    with (shared / "debian.users").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        made = debian.base(shared / "debian")
        yield made
        with suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(made)


@pytest.fixture(scope="module")
def boot(
    files: Path, tmp_path_factory: pytest.TempPathFactory, containerds: Containerds
) -> Iterator[Callable[[], debian.System]]:
    """Boots a fresh Debian in front of this run's containerd 1.6, which has no pods when it is ended."""
    containerd = containerds.shared(BASE)
    with ExitStack() as stack:
        stack.callback(containerd.clear)

        def make() -> debian.System:
            return stack.enter_context(debian.System(files, tmp_path_factory.mktemp("system"), containerd.socket))

        yield make


def client(system: debian.System) -> CRIClient:
    """A client of the hookshim that runs in the system."""
    return CRIClient(system / "run/hookshim/hookshim.sock")
