"""The command line as a whole, and the one place that turns errors into lines and exit codes."""

from __future__ import annotations

import importlib
import sys

import click

from server import VERSION, config
from server.cli import ending
from server.cli.options import ADMIN, CONFIG, CONTAINERD, LISTEN, STATE_DIR, options
from server.rules import RulesError
from shim.errors import HookshimError

#: The commands, and the modules that have them.
_COMMANDS = {
    "serve": "daemon",
    "check-config": "daemon",
    "version": "daemon",
    "deliveries": "deliveries",
    "events": "events",
    "hooks": "hooks",
    "doctor": "doctor",
    "completion": "completion",
}


class _Program(click.Group):
    """Loads a command's module when the command is used: what draws tables is no part of a daemon's memory."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """For click."""
        del ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """For click."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"server.cli.{_COMMANDS[cmd_name]}")
        found: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return found


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="hookshim", message="%(prog)s %(version)s")
@options(CONFIG, STATE_DIR, LISTEN, CONTAINERD, ADMIN)
def cli() -> None:
    """Deliver PostStart and PreStop hooks in front of containerd, at least once.

    Point the kubelet or crictl at hookshim's socket instead of containerd's. The settings come from the command
    line, else from the environment, else from the file, else they are the defaults shown.

    Exit codes: 0 done; 1 it could not be done, or there are problems; 2 asked for wrongly; 3 the daemon does not
    answer, and it has to be asked.
    """


def main() -> None:
    """Run the command line and exit."""
    for word in sys.argv[1:]:
        # Python stands what is not UTF-8 for by characters that no other text may have.
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            ending.fail(ValueError(f"the argument {word!r} is not UTF-8"), ending.USAGE)
    try:
        cli(prog_name="hookshim")
    except (config.ConfigError, RulesError) as error:
        ending.fail(error, ending.USAGE)
    except (HookshimError, OSError) as error:
        ending.fail(error, ending.FAILURE)
