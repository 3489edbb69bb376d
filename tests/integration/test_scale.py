"""A node's worth of pods: what holds for one container's hooks holds for hundreds, at once and after a restart.

In front of a fake runtime (``tests.support.bench.node``): a real one takes minutes to make so many. What a restart
makes of a few containers is shown with a real one, too.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import MakeHookshim
from tests.support.bench.history import known, left, write
from tests.support.bench.node import Given, node
from tests.support.containerd import PrivateContainerd
from tests.support.cri import CRIClient
from tests.support.fronts import FRONTS, front_env
from tests.support.hookshimd import Hookshim
from tests.support.journal import ask
from tests.support.later import later
from tests.support.receiver import Receiver
from tests.support.stage import KEY, Stage, http_hook
from tests.support.waiting import until
from tests.wire import cri_pb2 as cri

#: The pods of the node, and how many of them are started, and how many stopped, in the same moment.
PODS, AT_ONCE = 500, 100

#: The journal of a node that has run for a day: deliveries that have ended, and operations that are open.
ENDED, OPEN = 100_000, 1_000

MakeNode = Callable[..., tuple[Hookshim, CRIClient]]


@pytest.fixture
def make_node() -> Iterator[MakeNode]:
    """Makes a fake runtime with these containers and a daemon in front of it, not started; and a client of the fake."""
    with ExitStack() as stack:

        def make(containers: Sequence[Given], env: dict[str, str] | None = None) -> tuple[Hookshim, CRIClient]:
            socket, _ = stack.enter_context(node(containers))
            directory = Path(tempfile.mkdtemp(prefix="hookshim-d-"))
            stack.callback(shutil.rmtree, directory)
            daemon = Hookshim(directory, socket, env)
            stack.callback(daemon.close)
            return daemon, stack.enter_context(CRIClient(socket))

        yield make


def states(client: CRIClient) -> dict[str, str]:
    """The state of every container, as the runtime itself says it."""
    return {container.id: cri.ContainerState.Name(container.state) for container in client.list()}


@pytest.mark.parametrize("front", FRONTS)
def test_500_pods_of_which_100_start_and_100_stop_at_once(make_node: MakeNode, receiver: Receiver, front: str) -> None:
    """Each of the 200 hooks arrives once, every call is answered, and of the other pods nobody hears anything."""
    starting = [f"a{number:063x}" for number in range(AT_ONCE)]
    others = [f"b{number:063x}" for number in range(PODS - AT_ONCE)]
    stopping = others[:AT_ONCE]

    def given(container: str, state: str) -> Given:
        hooks = {hook: http_hook(receiver, f"/{hook}?{container}") for hook in ("postStart", "preStop")}
        ran = state == "CONTAINER_RUNNING"
        return Given(container, f"{container[1:]}f", state, ran, {KEY: json.dumps(hooks)})

    containers = [given(one, "CONTAINER_CREATED") for one in starting]
    containers += [given(one, "CONTAINER_RUNNING") for one in others]
    daemon, runtime = make_node(containers, front_env(front))
    daemon.start()
    calls = [later(daemon.cri.start, one) for one in starting]
    calls += [later(daemon.cri.stop, one, 30) for one in stopping]
    for call in calls:
        call.result(60)
    wanted = Counter(f"/postStart?{one}" for one in starting) + Counter(f"/preStop?{one}" for one in stopping)
    assert Counter(request.path for request in receiver.requests) == wanted
    ended = dict.fromkeys(stopping, "CONTAINER_EXITED")
    assert states(runtime) == dict.fromkeys([*starting, *others], "CONTAINER_RUNNING") | ended
    until(
        lambda: ask(daemon, "SELECT count(*) FROM operation WHERE state <> 'done'") == [(0,)], "all of it is recorded"
    )
    assert Counter((one["hook"], one["state"], one["attempts"]) for one in daemon.deliveries()) == {
        ("postStart", "delivered", 1): AT_ONCE,
        ("preStop", "delivered", 1): AT_ONCE,
    }


def test_a_long_journal_is_recovered_row_by_row(make_node: MakeNode, receiver: Receiver) -> None:
    """Each of 1,000 open operations beside 100,000 hooks that have ended becomes what its kind becomes.

    What is to be sent arrives once, what is not never does, and a container is stopped if that was accepted.
    """
    opened = left(OPEN)
    daemon, runtime = make_node(
        [Given(one.container, one.pod, state, started) for one, state, started in known(opened)]
    )
    write(daemon.state_dir, ENDED, opened, lambda one: json.dumps(http_hook(receiver, f"/{one.id}")))
    before = ask(daemon, _PAST)
    daemon.start()

    def found() -> dict[str, tuple[str, str]]:
        rows = ask(daemon, _OPEN)
        return {operation: (hook, state) for operation, hook, state in rows}

    wanted = {one.id: (one.kind.becomes, one.kind.ends) for one in opened}
    until(lambda: found() == wanted, "every row has become what its kind becomes", 60)
    paths = Counter(request.path for request in receiver.requests)
    assert paths == Counter(f"/{one.id}" for one in opened if one.kind.sent)
    now = states(runtime)
    for one, state, _ in known(opened):
        stopped = one.kind.operation == "stop" and not one.kind.reboot
        assert now[one.container] == ("CONTAINER_EXITED" if stopped else state), one
    assert ask(daemon, _PAST) == before == [(ENDED, ENDED)]


_OPEN = """
SELECT operation.id, coalesce(delivery.state, ''), operation.state
FROM operation LEFT JOIN delivery ON delivery.operation_id = operation.id WHERE operation.id LIKE 'c%'
"""

_PAST = """
SELECT (SELECT count(*) FROM delivery WHERE id LIKE 'st%' AND finished_at IS NOT NULL),
       (SELECT count(*) FROM attempt WHERE delivery_id LIKE 'st%' AND ended_at IS NOT NULL)
"""


def test_containers_that_ended_or_went_meanwhile_are_told_from_those_that_run(
    hookshim: MakeHookshim, containerd: PrivateContainerd, pod_name: str, tmp_path: Path, receiver: Receiver
) -> None:
    """Six stops are cut off in their hooks; two of the containers end and two are removed before the next start.

    The two that run get their hooks again and are stopped; of the others, the hooks are recorded as missed.
    """
    stage = Stage(hookshim(containerd), pod_name, tmp_path, receiver)
    names = ["runs-1", "runs-2", "ends-1", "ends-2", "goes-1", "goes-2"]
    held = [receiver.hang(f"/{name}") for name in names]
    made = {name: stage.container({"preStop": http_hook(receiver, f"/{name}")}, name=name) for name in names}
    for container in made.values():
        stage.cri.start(container)
    stops = [later(stage.cri.stop, one, 60) for one in made.values()]
    for name in names:
        receiver.wait_for(f"/{name}")
    stage.daemon.kill()
    for stop in stops:
        assert stop.exception(30) is not None
    for name in ("ends-1", "ends-2", "goes-1", "goes-2"):
        containerd.cri.stop(made[name], 0)
    for name in ("goes-1", "goes-2"):
        containerd.cri.remove(made[name])
    for release in held:
        release.set()
    stage.daemon.start()
    until(lambda: ask(stage.daemon, "SELECT count(*) FROM operation WHERE state <> 'done'") == [(0,)], "all is settled")
    outcomes = {one["container"]: (one["state"], one["attempts"]) for one in stage.daemon.deliveries()}
    missed = dict.fromkeys(names[2:], ("missed", 1))
    assert outcomes == {"runs-1": ("delivered", 2), "runs-2": ("delivered", 2)} | missed
    assert [len(receiver.seen(f"/{name}")) for name in names] == [2, 2, 1, 1, 1, 1]
    assert {containerd.cri.state(made[name]) for name in names[:4]} == {"CONTAINER_EXITED"}
