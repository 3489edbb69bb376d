"""The daemon: everything wired together, from the lock on the state directory to the last record at shutdown.

The socket is there from the start and says why it cannot serve yet; it serves once the journal is reconciled.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from server import VERSION
from server.admin.reachability import Reachability
from server.admin.server import AdminServer
from server.admin.service import Daemon as AdminDaemon
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
from server.metrics import Metrics
from server.metrics.calls import CountedInterceptor
from server.metrics.loop import cpu_of_this_thread
from server.native.caller import Caller
from server.notify import Manager
from server.observe.supervisor import observed
from server.relay import RelayFront
from server.rules import HooksDirectory
from server.runtime import CriRuntime
from server.settled import settle
from server.sinks.bus import bus_sink
from server.traces import traces
from server.upkeep import clear_output, follow, not_yet, recover, retain
from shim.actions import ExecAction, HttpGetAction, RunAction, SleepAction, TcpSocketAction
from shim.engine import Engine
from shim.failpoints import Failpoints
from shim.journal import Journal
from shim.plan import Settings
from shim.records import Event
from shim.store import FILE
from shim.tools import Tools

log = structlog.get_logger(__name__)


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT. Returns the process's exit status.

    Raises StateDirectoryError, StateLockedError, JournalError, ListenError, FailpointError, RulesError: then nothing
    was begun.
    """
    # The journal holds what handlers said: nobody else's business, whatever the directory's mode is one day.
    os.umask(0o077)
    with StateLock(config.state_dir), asyncio.Runner(loop_factory=_loop_of(config)) as runner:
        runner.run(_serve(config))
    return 0


def _loop_of(config: Config) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The event loop that is made for relaying, where there is one; else the standard one, which is the reference's."""
    if config.front == "relay" and importlib.util.find_spec("uvloop") is not None:
        make: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
        return make
    return None


async def _serve(config: Config) -> None:
    failpoints = Failpoints(os.environ.get("HOOKSHIM_FAILPOINTS", ""))
    if armed := failpoints.describe():
        log.warning("failpoints are armed: this daemon will end or hang on purpose", failpoints=armed)
    stop = _stop_signals()
    manager = Manager.of(os.environ)
    rules = HooksDirectory(config.hooks_dir)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, rules.ask)
    rules.load()
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        keep_corrupt = config.on_corrupt == "refuse"
        metrics = Metrics(clock.wall)
        journal = await Journal.open(
            config.state_dir / FILE, clock.wall, keep_corrupt=keep_corrupt, observer=metrics.journal
        )
        stack.push_async_callback(journal.close)
        client, backend = Backend(config.containerd), Backend(config.containerd)
        stack.push_async_callback(client.close)
        stack.push_async_callback(backend.close)
        runtime = CriRuntime(client)
        native = NativeExec(Caller(client), config.state_dir / "exec")
        await clear_output(journal, native)
        reach = Reach(config.reach.hosts, config.reach.cidrs)
        traced = traces(config.traces.endpoint)
        stack.push_async_callback(traced.close)
        engine = Engine(
            Tools(
                runtime=runtime,
                handlers=traced.handlers(
                    {
                        ExecAction: ExecHandler(runtime, native),
                        HttpGetAction: HttpHandler(reach, runtime.ready),
                        TcpSocketAction: TcpHandler(reach),
                        SleepAction: SleepHandler(),
                        RunAction: RunHandler(),
                    }
                ),
                rules=rules,
                journal=journal,
                clock=clock,
                settings=_settings(config),
                failpoints=failpoints,
                announce=_announce,
            )
        )
        gate = Gate(not_yet(config, "starting"))
        ensure = config.kubelet_prestop == "ensure"
        interception = CountedInterceptor(
            traced.interceptor(Interception(engine, runtime, ensure_kubelet=ensure)), metrics.calls
        )
        door = RelayFront if config.front == "relay" else GrpcFront
        front = door(config.listen, backend, interception, gate, metrics.calls)
        _tell_states(metrics, gate, front, journal, rules)
        admin = AdminServer(
            AdminDaemon(
                config=config,
                engine=engine,
                runtime=runtime,
                journal=journal,
                gate=gate,
                reachability=Reachability(client, clock.wall),
                rules=lambda: len(rules.rules),
                metrics=metrics.render,
                started_at=clock.wall(),
            )
        )
        settle()
        await _listen(config, front, admin)
        await stack.enter_async_context(observed(config))
        recovery = asyncio.create_task(
            recover(config, engine, client, runtime, gate, manager, metrics), name="recovery"
        )
        background = {
            recovery,
            asyncio.create_task(retain(journal, clock, config.retention_hours), name="retention"),
            asyncio.create_task(follow(rules, engine, clock), name="rules"),
            asyncio.create_task(metrics.backend.follow(client.states()), name="backend"),
            asyncio.create_task(admin.follow(), name="admin"),
            asyncio.create_task(metrics.loop.follow(), name="event loop's metrics"),
            asyncio.create_task(manager.watch(config.listen, config.containerd), name="watchdog"),
        }
        if config.events.containerd and not config.events.kubeconfig:
            bus = bus_sink(config, Caller(client), journal.ask)
            background.add(asyncio.create_task(bus.run(), name="event bus"))
        await asyncio.wait({recovery, asyncio.create_task(stop.wait(), name="signals")}, return_when="FIRST_COMPLETED")
        if recovery.done():
            recovery.result()
        await stop.wait()
        log.info("shutting down", drain_seconds=config.drain_seconds)
        manager.stopping(config.drain_seconds)
        for task in background:
            task.cancel()
        await asyncio.wait(background)
        # What runs in a container after that goes on there, and the next daemon waits for it.
        asyncio.get_running_loop().call_later(config.drain_seconds, native.leave)
        await asyncio.gather(front.stop(config.drain_seconds), engine.drain(config.drain_seconds), admin.stop())
    log.info("stopped")


async def _listen(config: Config, front: GrpcFront | RelayFront, admin: AdminServer) -> None:
    """Open the front door, which there has to be, and the admin socket, which there need not be."""
    _make_directory(config.listen.parent)
    await front.start()
    log.info("listening", version=VERSION, socket=str(config.listen), containerd=str(config.containerd))
    await admin.start()


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


def _tell_states(
    metrics: Metrics, gate: Gate, front: GrpcFront | RelayFront, journal: Journal, rules: HooksDirectory
) -> None:
    """Have the metrics read what these know of themselves."""
    states = metrics.states
    states.gauge("hookshim_serving", "Whether calls are let in (1) or not yet (0).", lambda: gate.reason is None)
    states.counter(
        "hookshim_journals_set_aside_total",
        "Journals that were found damaged and set aside since the start.",
        lambda: journal.set_aside,
    )
    states.gauge("hookshim_rules", "The node's rules in force.", lambda: len(rules.rules))
    states.counter(
        "hookshim_rule_reloads_total", "Changes of the node's rules that were taken over.", lambda: rules.reloads
    )
    states.counter(
        "hookshim_rule_reload_failures_total", "Changes of the node's rules that were refused.", lambda: rules.failures
    )
    states.gauge(
        "hookshim_rules_last_reload_successful",
        "Whether the node's rules in force are those of its files (1), or older ones since those are refused (0).",
        lambda: not rules.last_error,
    )
    states.counter(
        "hookshim_event_loop_cpu_seconds_total",
        "CPU time of the thread that the event loop runs in; a rate near 1 is all that there is.",
        cpu_of_this_thread(),
    )
    metrics.calls.watch(lambda: front.in_flight)


def _announce(event: Event) -> None:
    log.warning(
        event.reason,
        message=event.message,
        delivery=event.delivery_id,
        pod=event.container.pod,
        namespace=event.container.namespace,
        uid=event.container.uid,
        container=event.container.id,
        container_name=event.container.name,
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
