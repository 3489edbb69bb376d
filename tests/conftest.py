"""What tests ask for: a private containerd in one or every version, hookshim in front of it, a receiver, a name.

One containerd of a version serves a whole run; each test finds it running and without pods.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, settings

from tests.support.containerd import PrivateContainerd, check_name
from tests.support.cri import unique
from tests.support.hookshimd import Hookshim
from tests.support.network import node_address
from tests.support.receiver import Receiver

# How long an example takes says how busy the machine is; a run that hangs is ended by pytest-timeout.
settings.register_profile("hookshim", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hookshim")

#: The version of the machine's own packages (Debian 12), which is in every run.
BASE = "1.6"

#: What `hack/test --all` adds, to be named when it is not there.
_OTHERS = ("1.7", "2.x")


class Containerds:
    """The versions of this run, each started when a test first asks for it."""

    def __init__(self, config: pytest.Config) -> None:
        pairs = [given.split("=", 1) for given in config.getoption("--containerd")]
        self.unpacked: dict[str, Path | None] = {BASE: None, **{name: Path(where) for name, where in pairs}}
        self.not_run = dict(given.split("=", 1) for given in config.getoption("--containerd-not-run"))
        for name in _OTHERS:
            if name not in self.unpacked:
                self.not_run.setdefault(name, "not asked for (hack/test --all does)")
        #: What was started: name -> the version that it says it is.
        self.versions: dict[str, str] = {}
        self._shared: dict[str, PrivateContainerd] = {}

    def new(self, name: str) -> PrivateContainerd:
        """One for the caller alone, who ends it."""
        made = PrivateContainerd.start(self.unpacked[name])
        try:
            check_name(name, made.version)
        except ValueError:
            made.end()
            raise
        self.versions[name] = made.version
        return made

    def shared(self, name: str) -> PrivateContainerd:
        """The run's one."""
        if name not in self._shared:
            self._shared[name] = self.new(name)
        return self._shared[name]

    def end(self) -> None:
        """End all, also if ending one fails."""
        failures = []
        for instance in self._shared.values():
            try:
                instance.end()
            except Exception as error:  # noqa: BLE001 - the others are to be ended too; all are raised below
                failures.append(error)
        if failures:
            raise ExceptionGroup("containerds did not end well", failures)


_CONTAINERDS = pytest.StashKey[Containerds]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options by which hack/test names the newer containerds."""
    group = parser.getgroup("hookshim")
    group.addoption(
        "--containerd",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="also test this version (as 1.7), unpacked in DIR (DIR/usr/bin/containerd)",
    )
    group.addoption(
        "--containerd-not-run",
        action="append",
        default=[],
        metavar="NAME=REASON",
        help="say in the summary that this version was not tested and why",
    )
    group.addoption(
        "--failed-before",
        action="append",
        default=[],
        metavar="CHECK",
        help="say in the summary that this check (as lint) failed before the tests",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Read the versions once."""
    config.stash[_CONTAINERDS] = Containerds(config)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker of pytest-xdist: hand over which versions ran here."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["containerd"] = session.config.stash[_CONTAINERDS].versions


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """In the process that the workers report to: take that over."""
    if error is None:
        node.config.stash[_CONTAINERDS].versions.update(node.workeroutput["containerd"])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have the tests that want any version run on each."""
    names = list(metafunc.config.stash[_CONTAINERDS].unpacked)
    for fixture in ("any_containerd", "own_containerd"):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, names, indirect=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which containerds the tests ran on, and which not and why."""
    containerds = config.stash[_CONTAINERDS]
    terminalreporter.section("containerd")
    for name in containerds.unpacked:
        version = containerds.versions.get(name)
        terminalreporter.line(f"{name}: ran, {version}" if version else f"{name}: not run: no test here needs it")
    for name, reason in containerds.not_run.items():
        terminalreporter.line(f"{name}: not run: {reason}")
    for check in config.getoption("--failed-before"):
        terminalreporter.line(f"FAILED before the tests: {check} (see above)", red=True)


@pytest.fixture(scope="session")
def containerds(pytestconfig: pytest.Config) -> Iterator[Containerds]:
    """The versions of this run; ended with it."""
    made = pytestconfig.stash[_CONTAINERDS]
    yield made
    made.end()


@pytest.fixture
def containerd(containerds: Containerds) -> Iterator[PrivateContainerd]:
    """Containerd 1.6, without pods."""
    instance = containerds.shared(BASE)
    yield instance
    instance.clear()


@pytest.fixture
def any_containerd(containerds: Containerds, request: pytest.FixtureRequest) -> Iterator[PrivateContainerd]:
    """Each version in turn, without pods."""
    instance = containerds.shared(request.param)
    yield instance
    instance.clear()


@pytest.fixture
def new_containerd(containerds: Containerds) -> Iterator[Callable[[str], PrivateContainerd]]:
    """Makes containerds of a version for this test alone."""
    made: list[PrivateContainerd] = []

    def make(name: str = BASE) -> PrivateContainerd:
        made.append(containerds.new(name))
        return made[-1]

    yield make
    for instance in made:
        instance.end()


@pytest.fixture
def own_containerd(
    new_containerd: Callable[[str], PrivateContainerd], request: pytest.FixtureRequest
) -> PrivateContainerd:
    """Each version in turn, for this test alone: it may be broken and ended."""
    return new_containerd(request.param)


class MakeHookshim(Protocol):
    """The type of the ``hookshim`` fixture."""

    def __call__(
        self,
        containerd: PrivateContainerd,
        *,
        env: dict[str, str] | None = None,
        options: Sequence[str] = (),
        start: bool = True,
    ) -> Hookshim:
        """Hookshim in front of that containerd with a state directory of its own; serving, unless told not to."""
        ...


@pytest.fixture
def hookshim() -> Iterator[MakeHookshim]:
    """Makes daemons for this test; killed with it. Their logs are shown if it fails."""
    made: list[Hookshim] = []

    def make(
        containerd: PrivateContainerd,
        *,
        env: dict[str, str] | None = None,
        options: Sequence[str] = (),
        start: bool = True,
    ) -> Hookshim:
        # not pytest's tmp_path: a unix socket's path has at most 107 bytes
        made.append(Hookshim(Path(tempfile.mkdtemp(prefix="hookshim-d-")), containerd.socket, env, options))
        if start:
            made[-1].start()
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()
        if daemon.log.exists():
            print(daemon.log.read_text(errors="replace"))  # noqa: T201 - pytest shows it with a failure
        shutil.rmtree(daemon.directory)


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """An address of the node that hooks may reach; loopback is none."""
    with node_address() as address:
        yield address


@pytest.fixture
def receiver(address: str) -> Iterator[Receiver]:
    """An HTTP server for hooks to call."""
    with Receiver(address) as made:
        yield made


@pytest.fixture
def pod_name(request: pytest.FixtureRequest) -> str:
    """A pod's name that no other test has, and that says whose it is."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.originalname.removeprefix("test_").lower())
    return unique(words[:40].strip("-"))
