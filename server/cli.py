"""The command ``hookshim``: what a node's owner types, and the one place that turns errors into lines and exit codes.

Exit codes: 0, 1 if it could not be done, 2 if it was asked for wrongly (``check-config``: 1). No answer on stdout
is mixed with anything else; everything else goes to stderr.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click
import structlog
from rich.console import Console

from server import VERSION, config, log, report, show
from server.rules import HooksDirectory, RulesError
from server.rules_text import describe_rule
from shim.errors import HookshimError

F = TypeVar("F", bound=Callable[..., Any])

_RUNTIME_FAILURE: Final = 1
_USAGE: Final = 2

_FIELDS: Final = config.Config.model_fields


@dataclass
class _Given:
    """What was typed so far; what comes after the subcommand replaces what came before it."""

    file: Path | None = None
    options: dict[str, str] = field(default_factory=dict)

    def load(self) -> config.Loaded:
        return config.load(self.file, os.environ, self.options)


def _remember(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        given = context.ensure_object(_Given)
        if parameter.name == "config":
            given.file = Path(value)
        else:
            given.options[_PATHS[str(parameter.name)]] = value
    return value


#: Options' names, as click has them, and the settings they set.
_PATHS: Final = {path.replace(".", "_"): path for path in config.SETTINGS}


def _option(path: str, metavar: str, text: str, default: str) -> Callable[[F], F]:
    return click.option(
        config.option(path),
        metavar=metavar,
        expose_value=False,
        callback=_remember,
        help=f"{text}  [{config.variable(path)}; default: {default}]",
    )


_CONFIG = click.option(
    "--config",
    metavar="FILE",
    expose_value=False,
    callback=_remember,
    help=f"Settings, in TOML.  [{config.FILE_VARIABLE}; default: {config.DEFAULT_FILE}, if it exists]",
)
_STATE_DIR = _option("state_dir", "DIR", "Where the journal is.", str(_FIELDS["state_dir"].default))
_LISTEN = _option("listen", "SOCKET", "Where hookshim is to be reached.", str(_FIELDS["listen"].default))
_CONTAINERD = _option("containerd", "SOCKET", "Where containerd is.", str(_FIELDS["containerd"].default))
_HOOKS_DIR = _option("hooks_dir", "DIR", "Where the node's own rules are.", str(_FIELDS["hooks_dir"].default))
_DRAIN = _option(
    "drain_seconds",
    "SECONDS",
    "How long SIGTERM lets hooks and calls in flight go on.",
    f"{_FIELDS['drain_seconds'].default:g}",
)
_LOG_LEVEL = _option("log.level", "LEVEL", "debug, info, warning or error.", _FIELDS["log"].default.level)
_LOG_FORMAT = _option(
    "log.format",
    "FORMAT",
    "console, json, or auto: console on a terminal, else json.",
    _FIELDS["log"].default.format,
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_LIMIT = click.option("--limit", metavar="N", type=click.IntRange(min=1), help="Only the newest N.  [default: all]")


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="hookshim", message="%(prog)s %(version)s")
@_options(_CONFIG, _STATE_DIR, _LISTEN, _CONTAINERD)
def cli() -> None:
    """Deliver PostStart and PreStop hooks in front of containerd, at least once.

    Point the kubelet or crictl at hookshim's socket instead of containerd's. The settings come from the command
    line, else from the environment, else from the file, else they are the defaults shown.
    """


@cli.command()
@_options(_CONFIG, _STATE_DIR, _LISTEN, _CONTAINERD, _HOOKS_DIR, _DRAIN, _LOG_LEVEL, _LOG_FORMAT)
@click.pass_context
def serve(context: click.Context) -> None:
    """Run the daemon.

    It logs to stderr and ends on SIGTERM or Ctrl-C. What is not finished by then stays in the journal, and the
    next start goes on with it.
    """
    settings = context.ensure_object(_Given).load().config
    log.setup(settings.log.level, settings.log.format)
    logger = structlog.stdlib.get_logger("server.cli")
    if os.geteuid() != 0:
        logger.warning("not running as root: containerd's socket and exec hooks usually need it")
    # Here, because the other commands need neither gRPC nor the time it takes to load.
    from server import daemon  # noqa: PLC0415  # see above

    try:
        status = daemon.run(settings)
    except (HookshimError, OSError):
        raise
    except Exception:
        logger.critical("hookshim ends: this is a bug in it", exc_info=True)
        context.exit(_RUNTIME_FAILURE)
    context.exit(status)


@cli.group(invoke_without_command=True)
@_options(_JSON, _LIMIT, _CONFIG, _STATE_DIR)
@click.pass_context
def deliveries(context: click.Context, limit: int | None, *, as_json: bool) -> None:
    """Show each hook that was due and its outcome.

    The newest is last. It works while the daemon runs and while it doesn't.
    """
    if context.invoked_subcommand is not None:
        return
    state_dir = context.ensure_object(_Given).load().config.state_dir
    found = report.deliveries(state_dir)
    for note in report.damaged(state_dir):
        click.echo(note, err=True)
    records = (found or [])[-(limit or 0) :]
    if not found:
        click.echo(report.nothing(state_dir, "deliveries", journal=found is not None), err=True)
    if as_json:
        click.echo(report.deliveries_json(records))
    elif records:
        report.print_deliveries(_console(), records)


@deliveries.command("show")
@_options(_JSON, _CONFIG, _STATE_DIR)
@click.argument("delivery_id", metavar="ID")
@click.pass_context
def show_delivery(context: click.Context, delivery_id: str, *, as_json: bool) -> None:
    """Show one delivery in full: its attempts, what the handler said, and what happens next.

    The beginning of an id is enough.
    """
    state_dir = context.ensure_object(_Given).load().config.state_dir
    for note in report.damaged(state_dir):
        click.echo(note, err=True)
    found, attempts = report.delivery(state_dir, delivery_id)
    click.echo(show.as_json(found, attempts) if as_json else show.text(found, attempts))


@cli.command()
@_options(_JSON, _LIMIT, _CONFIG, _STATE_DIR)
@click.pass_context
def events(context: click.Context, limit: int | None, *, as_json: bool) -> None:
    """Show the warnings about hooks that failed.

    The newest is last. It works while the daemon runs and while it doesn't.
    """
    state_dir = context.ensure_object(_Given).load().config.state_dir
    found = report.events(state_dir)
    for note in report.damaged(state_dir):
        click.echo(note, err=True)
    records = (found or [])[-(limit or 0) :]
    if not found:
        click.echo(report.nothing(state_dir, "events", journal=found is not None), err=True)
    if as_json:
        click.echo(report.events_json(records))
    elif records:
        report.print_events(_console(), records)


@cli.command("check-config")
@_options(_CONFIG, _STATE_DIR, _LISTEN, _CONTAINERD, _HOOKS_DIR, _DRAIN, _LOG_LEVEL, _LOG_FORMAT)
@click.pass_context
def check_config(context: click.Context) -> None:
    """Check the settings and the node's rules, and show them.

    What is printed is TOML that can be used as the file: each setting with where it is from, and each rule as a
    comment.
    """
    try:
        loaded = context.ensure_object(_Given).load()
        hooks = HooksDirectory(loaded.config.hooks_dir)
        hooks.load()
    except (config.ConfigError, RulesError) as error:
        _fail(error, _RUNTIME_FAILURE)
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


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def version(*, as_json: bool) -> None:
    """Show hookshim's version and Python's."""
    python = platform.python_version()
    click.echo(
        json.dumps({"hookshim": VERSION, "python": python}) if as_json else f"hookshim {VERSION} (Python {python})"
    )


def main() -> None:
    """Run the command line and exit."""
    try:
        cli(prog_name="hookshim")
    except (config.ConfigError, RulesError) as error:
        _fail(error, _USAGE)
    except (HookshimError, OSError) as error:
        _fail(error, _RUNTIME_FAILURE)


def _fail(error: Exception, status: int) -> NoReturn:
    text = "\n".join(log.printable(line) for line in str(error).split("\n"))
    click.echo(f"hookshim: {text}", err=True)
    sys.exit(status)


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


if __name__ == "__main__":
    main()
