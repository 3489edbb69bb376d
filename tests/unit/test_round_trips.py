"""How often the runtime is asked for each call that is intercepted, counted where it is asked.

A table of what each call may cost: a look-up that creeps in makes every pod of a node slower, and shows nowhere else.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf.message import Message

from server.backend import Backend
from server.call import Call, Pass
from server.clock import SystemClock
from server.handlers.exec import ExecHandler
from server.handlers.native import NativeExec
from server.handlers.sleep import SleepHandler
from server.intercept import Interception
from server.native.caller import Caller
from server.runtime import CriRuntime
from shim.actions import Action, ExecAction, SleepAction
from shim.changes import Change
from shim.engine import Engine
from shim.failpoints import Failpoints
from shim.journal import Journal, Unobserved
from shim.ports import Handler
from shim.store import FILE
from shim.tools import Tools
from tests.support.counting import WATCH, CountingRuntime
from tests.support.waiting import until
from tests.wire import cri_pb2 as cri

_CRI = "/runtime.v1.RuntimeService/"

POD, ID = "a" * 64, "f" * 64

_NO_OP = {"sleep": {"seconds": 0}}
_EXEC = {"exec": {"command": ["true"]}}


def hooks(**declared: object) -> dict[str, str]:
    """An annotation that declares these."""
    return {"hookshim.dev/lifecycle": json.dumps(declared)}


#: What each container declares, by how it is told of in the tables.
WITHOUT: dict[str, str] = {}
NO_OPS = hooks(postStart=_NO_OP, preStop=_NO_OP)
COMMANDS = hooks(postStart=_EXEC, preStop=_EXEC)

#: The calls of a command that is run natively, besides what it is run with, which is asked for once a container.
COMMAND = {"Exec": 1, "Start": 1, "Wait": 1, "DeleteProcess": 1}

_REQUESTS: dict[str, Callable[[str], Message]] = {
    "StartContainer": lambda key: cri.StartContainerRequest(container_id=key),
    "StopContainer": lambda key: cri.StopContainerRequest(container_id=key, timeout=30),
    "RemoveContainer": lambda key: cri.RemoveContainerRequest(container_id=key),
    "StopPodSandbox": lambda key: cri.StopPodSandboxRequest(pod_sandbox_id=key),
    "RemovePodSandbox": lambda key: cri.RemovePodSandboxRequest(pod_sandbox_id=key),
}


class Disk(Unobserved):
    """Every commit that the disk was waited for, by what it was about."""

    def __init__(self) -> None:
        self.commits: list[tuple[str, ...]] = []

    def committed(self, commits: Sequence[Sequence[Change]], conflicts: int, seconds: float) -> None:
        """For the journal."""
        del conflicts, seconds
        self.commits += [tuple(type(change).__name__ for change in changes) for changes in commits]


@dataclass
class Node:
    """A runtime, and what stands in front of it."""

    runtime: CountingRuntime
    interception: Interception
    door: Backend
    journal: Journal
    disk: Disk

    def lives(self, declared: dict[str, str], state: cri.ContainerState = cri.CONTAINER_RUNNING) -> None:
        """There is a container, and nobody here has heard of it."""
        self.runtime.container(ID, self.runtime.pod(POD), declared, state)

    async def call(self, name: str, key: str = ID) -> Counter[str]:
        """Make a call as a front door does, and count all that the runtime is asked by it, the call itself too."""
        return await self.send(name, _REQUESTS[name](key).SerializeToString())

    async def send(self, name: str, message: bytes) -> Counter[str]:
        """The same with a message of one's own."""
        with self.runtime.counted() as counts:
            decision = await self.interception.decide(Call(f"{_CRI}{name}", message, (), None))
            if isinstance(decision, Pass):
                await self.door.unary(f"{_CRI}{name}")(message)
        return counts


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[CountingRuntime]:
    """Served."""
    made = CountingRuntime(tmp_path / "c.sock")
    with made.served():
        yield made


@asynccontextmanager
async def standing(runtime: CountingRuntime, tmp_path: Path, failpoints: str = "") -> AsyncIterator[Node]:
    """Everything between a front door and the runtime, without what the daemon does by itself beside it."""
    client, door = Backend(runtime.socket), Backend(runtime.socket)
    disk = Disk()
    journal = await Journal.open(tmp_path / FILE, SystemClock().wall, observer=disk)
    asked = CriRuntime(client)
    handlers: dict[type[Action], Handler] = {
        ExecAction: ExecHandler(asked, NativeExec(Caller(client), tmp_path / "exec")),
        SleepAction: SleepHandler(),
    }
    tools = Tools(asked, handlers, journal, SystemClock(), failpoints=Failpoints(failpoints))
    engine = Engine(tools)
    yield Node(runtime, Interception(engine, asked), door, journal, disk)
    await engine.drain(10.0)
    await journal.close()
    await client.close()
    await door.close()


@pytest.fixture
async def node(runtime: CountingRuntime, tmp_path: Path) -> AsyncIterator[Node]:
    """One where nothing is held."""
    async with standing(runtime, tmp_path) as made:
        yield made


async def life(node: Node, declared: dict[str, str]) -> dict[str, Counter[str]]:
    """A container's calls in a kubelet's order, with whole ids: what each of them has cost."""
    node.runtime.pod(POD)
    config = cri.ContainerConfig(metadata=cri.ContainerMetadata(name="c"), annotations=declared)
    create = cri.CreateContainerRequest(pod_sandbox_id=POD, config=config).SerializeToString()
    costs = {"CreateContainer": await node.send("CreateContainer", create)}
    [made] = node.runtime.containers
    costs |= {name: await node.call(name, made) for name in ("StartContainer", "StopContainer", "RemoveContainer")}
    return costs | {name: await node.call(name, POD) for name in ("StopPodSandbox", "RemovePodSandbox")}


async def test_the_life_of_a_container_without_hooks_costs_two_questions(node: Node) -> None:
    """Its pod when it is created, itself when it is started: from then on it is known to have none.

    A pod's containers are listed when it ends, since another one may have come.
    """
    assert await life(node, WITHOUT) == {
        "CreateContainer": {"PodSandboxStatus": 1, "CreateContainer": 1},
        "StartContainer": {"ListContainers": 1, "StartContainer": 1},
        "StopContainer": {"StopContainer": 1},
        "RemoveContainer": {"RemoveContainer": 1},
        "StopPodSandbox": {"ListContainers": 1, "StopPodSandbox": 1},
        "RemovePodSandbox": {"ListContainers": 1, "RemovePodSandbox": 1},
    }


async def test_hooks_are_looked_up_with_one_question_a_call(node: Node) -> None:
    """Its state is asked for each time, and nothing else: a hook that does nothing adds no question of its own."""
    assert await life(node, NO_OPS) == {
        "CreateContainer": {"PodSandboxStatus": 1, "CreateContainer": 1},
        "StartContainer": {"ListContainers": 1, "StartContainer": 1},
        "StopContainer": {"ListContainers": 1, "StopContainer": 1},
        "RemoveContainer": {"ListContainers": 1, "RemoveContainer": 1},
        "StopPodSandbox": {"ListContainers": 1, "StopPodSandbox": 1},
        "RemovePodSandbox": {"ListContainers": 1, "RemovePodSandbox": 1},
    }


async def test_a_command_costs_its_own_four_calls(node: Node) -> None:
    """What it is run with is asked for once a container, not once a hook; the container's end may be watched."""
    costs = await life(node, COMMANDS)
    for name in ("StartContainer", "StopContainer"):
        costs[name].pop(WATCH, None)
    assert costs["StartContainer"] == {"ListContainers": 1, "StartContainer": 1, "Get": 1, **COMMAND}
    assert costs["StopContainer"] == {"ListContainers": 1, "StopContainer": 1, **COMMAND}


async def test_a_command_costs_four_commits(node: Node) -> None:
    """That it is owed, that it may run from now on, that it has ended, what it came to: no caller waits for more."""
    node.lives(COMMANDS, cri.CONTAINER_CREATED)
    await node.call("StartContainer")
    started, node.disk.commits = node.disk.commits, []
    await node.call("StopContainer")
    assert started == [
        ("InsertOperation", "InsertDelivery"),
        ("UpdateOperation", "UpdateDelivery", "BeginAttempt"),
        ("NoteExecution",),
        ("UpdateDelivery", "EndAttempt", "UpdateOperation"),
    ]
    assert node.disk.commits == [
        ("InsertOperation", "InsertDelivery", "BeginAttempt"),
        ("NoteExecution",),
        ("UpdateDelivery", "EndAttempt", "UpdateOperation", "UpdateOperation"),
        ("UpdateOperation",),
    ]


@pytest.mark.parametrize(
    ("name", "declared", "cost"),
    [
        ("StopContainer", WITHOUT, {"ListContainers": 1, "PodSandboxStatus": 1}),
        ("StopContainer", NO_OPS, {"ListContainers": 1, "PodSandboxStatus": 1}),
        ("RemoveContainer", WITHOUT, {"ListContainers": 1, "PodSandboxStatus": 1}),
        ("RemoveContainer", NO_OPS, {"ListContainers": 1, "PodSandboxStatus": 1, "StopContainer": 1}),
        ("StopPodSandbox", WITHOUT, {"ListContainers": 2, "PodSandboxStatus": 1}),
        ("StopPodSandbox", NO_OPS, {"ListContainers": 2, "PodSandboxStatus": 1, "StopContainer": 1}),
        ("RemovePodSandbox", WITHOUT, {"ListContainers": 2, "PodSandboxStatus": 1}),
        ("RemovePodSandbox", NO_OPS, {"ListContainers": 2, "PodSandboxStatus": 1, "StopContainer": 1}),
    ],
)
async def test_what_was_there_before_hookshim_costs_its_pod_besides(
    node: Node, name: str, declared: dict[str, str], cost: dict[str, int]
) -> None:
    """A daemon that was just started knows no pod. A pod's containers are listed once more when theirs have ended."""
    node.lives(declared)
    key = POD if name.endswith("Sandbox") else ID
    assert await node.call(name, key) == Counter(cost) + Counter([name])


@pytest.mark.parametrize("key", [ID, ID[:6]], ids=["whole", "short"])
async def test_what_is_known_is_not_asked_for_again(node: Node, key: str) -> None:
    """The pod, by its whole id, which the runtime's own answer has; a short id is never known, so it is looked up."""
    node.lives(NO_OPS)
    await node.call("StopContainer", key)
    assert await node.call("StopContainer", key) == {"ListContainers": 1, "StopContainer": 1}
    assert await node.call("RemoveContainer", key) == {"ListContainers": 1, "RemoveContainer": 1}


async def test_a_short_id_finds_the_container_that_has_no_hooks(node: Node) -> None:
    """It is looked up each time: which container it is the beginning of may change."""
    node.lives(WITHOUT)
    await node.call("StopContainer", ID[:6])
    assert await node.call("StopContainer", ID[:6]) == {"ListContainers": 1, "StopContainer": 1}
    assert await node.call("StopContainer", ID) == {"StopContainer": 1}


async def test_the_state_is_asked_for_each_time(node: Node) -> None:
    """A container that was not running when it was last looked at has its PreStop once it does."""
    node.lives(NO_OPS, cri.CONTAINER_CREATED)
    await node.call("StopContainer")
    assert await node.journal.deliveries_of(ID) == []
    node.lives(NO_OPS)
    assert await node.call("StopContainer") == {"ListContainers": 1, "StopContainer": 1}
    assert [(one.hook, one.state) for one in await node.journal.deliveries_of(ID)] == [("preStop", "delivered")]


async def test_a_command_is_prepared_but_not_started_before_its_attempt_is_on_disk(
    runtime: CountingRuntime, tmp_path: Path
) -> None:
    """What is looked up and made meanwhile runs nothing; the disk may take as long as it likes."""
    held = tmp_path / "held"
    async with standing(runtime, tmp_path, f"start.committed=hold({held})") as node:
        node.lives(COMMANDS, cri.CONTAINER_CREATED)
        with runtime.counted() as counts:
            starting = asyncio.create_task(node.call("StartContainer"))
            await asyncio.to_thread(until, lambda: held.exists() and "Exec" in runtime.calls, "the command is made")
        assert counts == {"ListContainers": 1, "PodSandboxStatus": 1, "StartContainer": 1, "Get": 1, "Exec": 1}
        held.unlink()
        assert (await starting)["Start"] == 1
