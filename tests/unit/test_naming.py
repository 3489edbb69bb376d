"""Whom a log line is about: what is said in a method that is given a container, and in its tasks, says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
import structlog
from structlog.testing import LogCapture

from shim import naming
from shim.actions import LifecycleHandler, SleepAction
from shim.ports import Attempt, Container, Pod
from shim.records import ContainerState, Hook
from tests.unit.records import REF

NAMES = {"container": "c1", "container_name": "main", "pod": "web", "namespace": "default"}


def container(container_id: str = "c1") -> Container:
    """A container of this id."""
    ref = replace(REF, id=container_id)
    pod = Pod(ref.sandbox_id, ref.pod, ref.namespace, ref.uid, {}, (), host_network=False)
    return Container(ref, ContainerState.RUNNING, {}, pod)


@pytest.fixture
def said() -> Iterator[LogCapture]:
    """What is said, with everything that is bound."""
    before = structlog.get_config()
    capture = LogCapture()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture])
    yield capture
    structlog.configure(**before)


class Worker:
    """Speaks."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    async def say(self, event: str) -> None:
        """Say one thing, a moment later."""
        await asyncio.sleep(0)
        structlog.get_logger().info(event)

    @naming.about
    async def work(self, container: Container, event: str, *, later: bool = False) -> str:
        """Say it here, or in a task."""
        if later:
            self.tasks.append(asyncio.create_task(self.say(event)))
        else:
            await self.say(event)
        return container.ref.id

    @naming.about
    def begin(self, container: Container, event: str) -> str:
        """Have a task say it."""
        self.tasks.append(asyncio.create_task(self.say(event)))
        return container.ref.id


async def test_a_method_and_the_tasks_that_it_makes_speak_of_its_container(said: LogCapture) -> None:
    """Plain or async, also after it has returned; it returns what it does, and binds nothing of its caller."""
    worker = Worker()
    assert await worker.work(container(), "here") == "c1"
    assert await worker.work(container(), "in a task", later=True) == "c1"
    assert worker.begin(container(), "begun") == "c1"
    await worker.say("afterwards")
    await asyncio.gather(*worker.tasks)
    bound = {entry["event"]: {key: entry[key] for key in NAMES if key in entry} for entry in said.entries}
    assert bound == {"here": NAMES, "in a task": NAMES, "begun": NAMES, "afterwards": {}}


async def test_containers_at_work_at_once_are_never_mixed_up(said: LogCapture) -> None:
    """Each line has its own, whoever runs in between."""
    worker = Worker()
    await asyncio.gather(*(worker.work(container(f"c{number}"), f"of c{number}") for number in range(5)))
    assert {(entry["event"], entry["container"]) for entry in said.entries} == {
        (f"of c{number}", f"c{number}") for number in range(5)
    }


async def test_an_attempt_is_named_by_its_hook_its_delivery_and_its_number(said: LogCapture) -> None:
    """With its container, in the block and in what comes of it."""
    attempt = Attempt("d1", 3, Hook.PRE_STOP, LifecycleHandler(SleepAction(1)), container(), None)
    with naming.attempting(attempt):
        task = asyncio.create_task(Worker().say("in the attempt"))
    await task
    [entry] = said.entries
    assert entry == NAMES | {
        "hook": "preStop",
        "delivery": "d1",
        "attempt": 3,
        "event": "in the attempt",
        "log_level": "info",
    }
