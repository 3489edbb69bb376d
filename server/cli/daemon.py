"""The daemon, and what it would run with: ``serve``, ``check-config``, ``version``."""

from __future__ import annotations

import json
import os
import platform

import click
import structlog

from server import VERSION, config, log
from server.cli import ending
from server.cli.options import (
    ADMIN,
    CONFIG,
    CONTAINERD,
    DRAIN,
    FRONT,
    HOOKS_DIR,
    JSON,
    LISTEN,
    LOG_FORMAT,
    LOG_LEVEL,
    STATE_DIR,
    Given,
    load,
    options,
)
from server.rules import HooksDirectory, RulesError
from server.rules_text import describe_rule
from shim.errors import HookshimError

#: Those of gRPC's experiments that are on by default, and cost.
_EXPERIMENTS = "-event_engine_client,-event_engine_listener,-event_engine_for_all_other_endpoints"

_SETTINGS = options(CONFIG, STATE_DIR, LISTEN, CONTAINERD, ADMIN, HOOKS_DIR, FRONT, DRAIN, LOG_LEVEL, LOG_FORMAT)


@click.command()
@_SETTINGS
@click.pass_context
def serve(context: click.Context) -> None:
    """Run the daemon.

    It logs to stderr and ends on SIGTERM or Ctrl-C. What is not finished by then stays in the journal, and the
    next start goes on with it.
    """
    settings = load(context)
    log.setup(settings.log.level, settings.log.format)
    logger = structlog.stdlib.get_logger("server.cli")
    if os.geteuid() != 0:
        logger.warning("not running as root: containerd's socket and exec hooks usually need it")
    # gRPC need not be told of processes that are started: they run other programs. It logs lines of its own over it.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    # gRPC's older way of waiting for sockets takes a third less of the CPU for each call, and no threads of its own.
    os.environ.setdefault("GRPC_EXPERIMENTS", _EXPERIMENTS)
    # Here, because the other commands need neither gRPC nor the time it takes to load.
    from server import daemon  # noqa: PLC0415  # see above

    try:
        status = daemon.run(settings)
    except (HookshimError, OSError):
        raise
    except Exception:
        logger.critical("hookshim ends: this is a bug in it", exc_info=True)
        context.exit(ending.FAILURE)
    context.exit(status)


@click.command("check-config")
@_SETTINGS
@click.pass_context
def check_config(context: click.Context) -> None:
    """Check the settings and the node's rules, and show them.

    What is printed is TOML that can be used as the file: each setting with where it is from, and each rule as a
    comment.
    """
    try:
        loaded = context.ensure_object(Given).load()
        hooks = HooksDirectory(loaded.config.hooks_dir)
        hooks.load()
    except (config.ConfigError, RulesError) as error:
        ending.fail(error, ending.FAILURE)
    table = ""
    for path, value, source in loaded.settings():
        *tables, name = path.split(".")
        if "".join(tables) != table:
            table = "".join(tables)
            click.echo(f"\n[{table}]")
        click.echo(f"{name} = {json.dumps(value, ensure_ascii=False)}  # {log.printable(source)}")
    if hooks.rules:
        click.echo(f"\n# The rules in {log.printable(str(hooks.path))}, in their order:")
    for rule in hooks.rules:
        click.echo(f"# {describe_rule(rule)}")


@click.command()
@JSON
def version(*, as_json: bool) -> None:
    """Show hookshim's version and Python's."""
    python = platform.python_version()
    click.echo(
        json.dumps({"hookshim": VERSION, "python": python}) if as_json else f"hookshim {VERSION} (Python {python})"
    )
