"""Options that several commands have, and what was typed of them.

A setting may be typed before the command and after it; what comes after wins.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from server import config

F = TypeVar("F", bound=Callable[..., Any])

_FIELDS: Final = config.Config.model_fields


@dataclass
class Given:
    """What was typed so far; what comes after the subcommand replaces what came before it."""

    file: Path | None = None
    options: dict[str, str] = field(default_factory=dict)

    def load(self) -> config.Loaded:
        """The settings. Raises ConfigError."""
        return config.load(self.file, os.environ, self.options)


def load(context: click.Context) -> config.Config:
    """The settings as this command has them. Raises ConfigError."""
    return context.ensure_object(Given).load().config


def options(*given: Callable[[F], F]) -> Callable[[F], F]:
    """All of these options, in this order, as one decorator."""
    return lambda command: reduce(lambda made, option: option(made), reversed(given), command)


def _remember(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        given = context.ensure_object(Given)
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


CONFIG = click.option(
    "--config",
    metavar="FILE",
    expose_value=False,
    callback=_remember,
    help=f"Settings, in TOML.  [{config.FILE_VARIABLE}; default: {config.DEFAULT_FILE}, if it exists]",
)
STATE_DIR = _option("state_dir", "DIR", "Where the journal is.", str(_FIELDS["state_dir"].default))
LISTEN = _option("listen", "SOCKET", "Where hookshim is to be reached.", str(_FIELDS["listen"].default))
CONTAINERD = _option("containerd", "SOCKET", "Where containerd is.", str(_FIELDS["containerd"].default))
HOOKS_DIR = _option("hooks_dir", "DIR", "Where the node's own rules are.", str(_FIELDS["hooks_dir"].default))
ADMIN = _option("admin", "SOCKET", "Where the daemon is asked.", str(_FIELDS["admin"].default))
FRONT = _option("front", "DOOR", "grpc or relay: which front door serves.", _FIELDS["front"].default)
DRAIN = _option(
    "drain_seconds",
    "SECONDS",
    "How long SIGTERM lets hooks and calls in flight go on.",
    f"{_FIELDS['drain_seconds'].default:g}",
)
LOG_LEVEL = _option("log.level", "LEVEL", "debug, info, warning or error.", _FIELDS["log"].default.level)
LOG_FORMAT = _option(
    "log.format",
    "FORMAT",
    "console, json, or auto: console on a terminal, else json.",
    _FIELDS["log"].default.format,
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
