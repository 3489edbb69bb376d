"""The daemon: everything wired together, from the lock on the state directory to the last record at shutdown.

The socket is there from the start and says why it cannot serve yet; it serves once the journal is reconciled.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential

from server import VERSION
from server.backend import Backend
from server.clock import SystemClock
from server.config import Config
from server.front import Gate, GrpcFront
from server.handlers.exec import ExecHandler
from server.handlers.http import HttpHandler
from server.handlers.native import NativeExec
from server.handlers.reach import Reach
from server.handlers.run import RunHandler
from server.handlers.sleep import SleepHandler
from server.handlers.tcp import TcpHandler
from server.intercept import Interception
from server.lock import StateLock
from server.metrics import Counter, served
from server.native.caller import Caller
from server.rules import HooksDirectory
from server.runtime import CriRuntime
from server.watch import ExitWatch
from shim.actions import ExecAction, HttpGetAction, RunAction, SleepAction, TcpSocketAction
from shim.engine import Engine
from shim.errors import HookshimError, JournalUnavailableError, RuntimeCallError
from shim.failpoints import Failpoints
from shim.journal import Journal
from shim.plan import Settings
from shim.records import Event
from shim.store import FILE
from shim.tools import Tools

log = structlog.get_logger(__name__)

#: Seconds before each look for what the last daemon's end has cut off: the runtime takes its time to give a start up.
_LOOKS = (0.0, 2.0, 10.0, 60.0)

#: Seconds between two batches of old records, so that commits get between them; and between two rounds.
_BATCH_PAUSE, _RETENTION_PAUSE = 0.1, 600.0

#: Seconds between two looks whether the rules are others.
_RULES_PAUSE = 0.5

#: Seconds between two looks at what runs and what has ended, for the postStop hooks.
_ADOPT_PAUSE = 60.0


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT. Returns the process's exit status.

    Raises StateDirectoryError, StateLockedError, JournalError, ListenError, FailpointError, RulesError: then nothing
    was begun.
    """
    # The journal holds what handlers said: nobody else's business, whatever the directory's mode is one day.
    os.umask(0o077)
    with StateLock(config.state_dir):
        asyncio.run(_serve(config))
    return 0


async def _serve(config: Config) -> None:
    failpoints = Failpoints(os.environ.get("HOOKSHIM_FAILPOINTS", ""))
    if armed := failpoints.describe():
        log.warning("failpoints are armed: this daemon will end or hang on purpose", failpoints=armed)
    stop = _stop_signals()
    rules = HooksDirectory(config.hooks_dir)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, rules.ask)
    rules.load()
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        keep_corrupt = config.on_corrupt == "refuse"
        journal = await Journal.open(config.state_dir / FILE, clock.wall, keep_corrupt=keep_corrupt)
        stack.push_async_callback(journal.close)
        client, backend = Backend(config.containerd), Backend(config.containerd)
        stack.push_async_callback(client.close)
        stack.push_async_callback(backend.close)
        runtime = CriRuntime(client)
        native = NativeExec(Caller(client), config.state_dir / "exec")
        await _clear_output(journal, native)
        reach = Reach(config.reach.hosts, config.reach.cidrs)
        engine = Engine(
            Tools(
                runtime=runtime,
                handlers={
                    ExecAction: ExecHandler(runtime, native),
                    HttpGetAction: HttpHandler(reach, runtime.ready),
                    TcpSocketAction: TcpHandler(reach),
                    SleepAction: SleepHandler(),
                    RunAction: RunHandler(),
                },
                rules=rules,
                journal=journal,
                clock=clock,
                settings=_settings(config),
                failpoints=failpoints,
                announce=_announce,
            )
        )
        stack.enter_context(served(config.metrics_port, _counters(journal, rules)))
        gate = Gate(_not_yet(config, "starting"))
        ensure = config.kubelet_prestop == "ensure"
        front = GrpcFront(config.listen, backend, Interception(engine, runtime, ensure_kubelet=ensure), gate)
        _make_directory(config.listen.parent)
        await front.start()
        log.info("listening", version=VERSION, socket=str(config.listen), containerd=str(config.containerd))
        recovery = asyncio.create_task(_recover(config, engine, client, runtime, gate), name="recovery")
        background = {
            recovery,
            asyncio.create_task(_retain(journal, clock, config.retention_hours), name="retention"),
            asyncio.create_task(_follow(rules, engine, clock), name="rules"),
        }
        await asyncio.wait({recovery, asyncio.create_task(stop.wait(), name="signals")}, return_when="FIRST_COMPLETED")
        if recovery.done():
            recovery.result()
        await stop.wait()
        log.info("shutting down", drain_seconds=config.drain_seconds)
        for task in background:
            task.cancel()
        await asyncio.wait(background)
        # What runs in a container after that goes on there, and the next daemon waits for it.
        asyncio.get_running_loop().call_later(config.drain_seconds, native.leave)
        await asyncio.gather(front.stop(config.drain_seconds), engine.drain(config.drain_seconds))
    log.info("stopped")


def _make_directory(directory: Path) -> None:
    """Make the socket's directory if it isn't there: /run is empty after a boot."""
    if not directory.exists():
        directory.mkdir(0o755, parents=True)
        directory.chmod(0o755)


def _settings(config: Config) -> Settings:
    return Settings(
        default_grace=math.ceil(config.default_grace_seconds),
        zero_timeout_runs=config.zero_timeout == "run",
        retention=config.retention_hours * 3600,
        post_stop=config.post_stop_hours * 3600,
        ensure_kubelet=config.kubelet_prestop == "ensure",
    )


async def _recover(config: Config, engine: Engine, client: Backend, runtime: CriRuntime, gate: Gate) -> None:
    """Reconcile, however long containerd takes to answer, let the callers in, and clear up."""

    def report(reason: str) -> None:
        gate.reason = _not_yet(config, reason)

    def again(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning("recovery is not done; trying again", attempt=state.attempt_number, reason=str(error))
        if isinstance(error, JournalUnavailableError):
            # What was open is not known, but no container may wait for a disk to be stopped.
            gate.reason = None
        elif gate.reason is not None:
            report(str(error))

    async for attempt in AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, RuntimeCallError | JournalUnavailableError)),
        wait=wait_exponential(0.1, max=10),
        after=again,
    ):
        with attempt:
            if gate.reason is not None:
                await client.wait_until_reachable(report=report)
            resumed = await engine.recover()
    gate.reason = None
    log.info("serving", resumed_containers=resumed)
    # Only now: an ended container with open work is recovery's.
    async with asyncio.TaskGroup() as group:
        group.create_task(_clear_up(runtime), name="clear up")
        group.create_task(ExitWatch(client, runtime, engine).run(), name="watch")


def _counters(journal: Journal, rules: HooksDirectory) -> dict[str, Counter]:
    return {
        "hookshim_journals_set_aside": Counter(
            "Journals that were found damaged and set aside since the start.", lambda: journal.set_aside
        ),
        "hookshim_rule_reloads": Counter("Changes of the node's rules that were taken over.", lambda: rules.reloads),
        "hookshim_rule_reload_failures": Counter(
            "Changes of the node's rules that were refused.", lambda: rules.failures
        ),
    }


async def _clear_output(journal: Journal, native: NativeExec) -> None:
    """Remove what hooks have written that nobody waits for any more."""
    try:
        work = await journal.open_work()
    except JournalUnavailableError:
        return
    open_deliveries = (delivery for _, deliveries in work for delivery in deliveries if delivery.state.open)
    native.clear([(delivery.id, delivery.attempts) for delivery in open_deliveries])


async def _follow(rules: HooksDirectory, engine: Engine, clock: SystemClock) -> None:
    """Take changed rules over; what runs already gets the postStop hooks that they declare.

    Now and then it is looked at in any case: an event that was lost, or a state that came late, delays a postStop by
    that much and no more.
    """
    async with asyncio.TaskGroup() as group:
        group.create_task(rules.watch(), name="watch the rules")
        generation, looked = rules.generation, clock.boottime()
        while True:
            await asyncio.sleep(_RULES_PAUSE)
            if generation != rules.generation or clock.boottime() - looked > _ADOPT_PAUSE:
                now = rules.generation
                try:
                    await engine.adopt()
                    generation, looked = now, clock.boottime()
                except HookshimError as error:
                    log.warning("the postStop hooks of running containers cannot be looked for", reason=str(error))


async def _retain(journal: Journal, clock: SystemClock, hours: float) -> None:
    """Delete what ended more than ``hours`` ago, a little at a time."""
    while True:
        pause = _RETENTION_PAUSE
        try:
            if await journal.expire(clock.wall() - hours * 3600):
                pause = _BATCH_PAUSE
        except JournalUnavailableError as error:
            log.warning("old records cannot be deleted now", error=str(error))
        await asyncio.sleep(pause)


async def _clear_up(runtime: CriRuntime) -> None:
    """Delete the tasks of starts that the last daemon's end cut off, also of containers that have no record."""
    for pause in _LOOKS:
        await asyncio.sleep(pause)
        try:
            await runtime.clear_leftovers()
        except RuntimeCallError as error:
            log.warning("cannot look for what cut-off starts left behind", error=str(error))


def _not_yet(config: Config, reason: str) -> str:
    return f"hookshim at {config.listen} does not serve yet: {reason}"


def _announce(event: Event) -> None:
    log.warning(
        event.reason,
        message=event.message,
        delivery=event.delivery_id,
        pod=event.container.pod,
        namespace=event.container.namespace,
        uid=event.container.uid,
        container=event.container.name,
        container_id=event.container.id,
        field_path=event.field_path,
    )


def _stop_signals() -> asyncio.Event:
    """Set at the first SIGTERM or SIGINT; the second one ends the process at once, as unhandled."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def first() -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, first)
    return stop
