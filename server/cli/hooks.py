"""``hookshim hooks``: which hooks apply to a container now. The daemon is asked, since it has the rules in force."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from server import show_hooks
from server.cli import ending
from server.cli.completion import container_ids
from server.cli.options import ADMIN, CONFIG, JSON, STATE_DIR, load, options


@click.group()
def hooks() -> None:
    """Show which hooks apply, and who has declared them."""


@hooks.command("show")
@options(JSON, CONFIG, STATE_DIR, ADMIN)
@click.argument("container_id", metavar="CONTAINER", shell_complete=container_ids)
@click.pass_context
def show(context: click.Context, container_id: str, *, as_json: bool) -> None:
    """Show the hooks of a container in the order in which they run, and where each is from.

    The beginning of its id is enough. If there are none, it says why.
    """
    found = ending.asked(load(context).admin, lambda daemon: daemon.hooks(container_id))
    click.echo(json.dumps(asdict(found), indent=2) if as_json else show_hooks.text(found))
