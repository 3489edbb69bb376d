"""``hookshim deliveries``: what was due and what became of it, and the owner's own word on one of them.

Reading is done from the journal's file, with or without a daemon; ``retry`` and ``skip`` are the daemon's to do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from server import report, show, tables
from server.cli import ending
from server.cli.choosing import CHOICE, chosen
from server.cli.completion import delivery_ids
from server.cli.options import ADMIN, CONFIG, JSON, STATE_DIR, load, options
from server.cli.watching import Notes
from server.clock import SystemClock
from server.following import DeliveryChanges, Follower
from server.log import printable
from shim import query
from shim.query import Filter

if TYPE_CHECKING:
    from server.admin.answers import Done
    from server.admin.client import AdminClient

_ID = click.argument("delivery_id", metavar="ID", shell_complete=delivery_ids)


@click.group(invoke_without_command=True)
@options(JSON, CHOICE)
@click.option("--watch", is_flag=True, help="Go on showing what changes, until Ctrl-C. With --json: JSON Lines.")
@options(CONFIG, STATE_DIR)
@click.pass_context
def deliveries(context: click.Context, /, *, as_json: bool, watch: bool, **choice: Any) -> None:  # noqa: ANN401  # chosen()'s
    """Show each hook that was due and its outcome.

    The newest is last. It works while the daemon runs and while it doesn't.
    """
    if context.invoked_subcommand is not None:
        return
    wanted = chosen(**choice)
    state_dir = load(context).state_dir
    notes = Notes(state_dir)
    if watch:
        with suppress(KeyboardInterrupt):
            _watch(state_dir, wanted, notes, as_json=as_json)
        return
    found = report.deliveries(state_dir, wanted)
    notes.tell_set_aside()
    if not found:
        notes.tell(report.nothing(state_dir, "deliveries", journal=found is not None, wanted=wanted))
    if as_json:
        click.echo(report.deliveries_json(found or []))
    elif found:
        console = tables.console()
        console.print(tables.Lines(tables.deliveries(console, found)), end="")


@deliveries.command("show")
@options(JSON, CONFIG, STATE_DIR)
@_ID
@click.pass_context
def show_delivery(context: click.Context, delivery_id: str, *, as_json: bool) -> None:
    """Show one delivery in full: its attempts, what the handler said, and what happens next.

    The beginning of an id is enough.
    """
    state_dir = load(context).state_dir
    Notes(state_dir).tell_set_aside()
    story = report.story(state_dir, delivery_id)
    clock = SystemClock()
    now = show.Now(clock.boot_id, clock.boottime(), clock.wall())
    click.echo(show.as_json(story, now) if as_json else show.text(story, now))


@deliveries.command()
@options(JSON, CONFIG, STATE_DIR, ADMIN)
@_ID
@click.pass_context
def retry(context: click.Context, delivery_id: str, *, as_json: bool) -> None:
    """Send a delivery again, or now instead of later.

    One that waits for its next attempt is sent at once; of those that failed, a postStop, and a postStart whose
    container still runs. The daemon says why if it cannot be. The beginning of an id is enough.
    """
    _have_done(load(context).admin, lambda daemon: daemon.retry(delivery_id), as_json=as_json)


@deliveries.command()
@options(JSON, CONFIG, STATE_DIR, ADMIN)
@click.option("--reason", metavar="TEXT", required=True, help="Why; it is kept with the delivery.")
@_ID
@click.pass_context
def skip(context: click.Context, delivery_id: str, reason: str, *, as_json: bool) -> None:
    """Take a delivery that is open as not to be made.

    An attempt that runs is cancelled, and what waits for the hook goes on as if it had ended. The beginning of an
    id is enough.
    """
    _have_done(load(context).admin, lambda daemon: daemon.skip(delivery_id, reason), as_json=as_json)


def _have_done(admin: Path, what: Callable[[AdminClient], Done], *, as_json: bool) -> None:
    done = ending.asked(admin, what)
    said = {"delivery_id": done.delivery_id, "message": done.message}
    click.echo(json.dumps(said) if as_json else printable(done.message))


def _watch(state_dir: Path, wanted: Filter, notes: Notes, *, as_json: bool) -> None:
    console = tables.console()
    if console.is_terminal and not as_json:
        _watch_table(state_dir, wanted, notes)
        return
    changes = DeliveryChanges(wanted)
    for found in Follower(state_dir, changes.question, notes.tell).answers():
        notes.tell_set_aside()
        if found is None:
            notes.tell(report.nothing(state_dir, "deliveries", journal=False))
        for record in changes.news(found):
            click.echo(json.dumps(report.delivery_object(record)) if as_json else tables.delivery_line(record))


def _watch_table(state_dir: Path, wanted: Filter, notes: Notes) -> None:
    # Here, because only a person who watches needs it.
    from rich.live import Live  # noqa: PLC0415  # see above

    console = tables.console()
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        follower = Follower(state_dir, lambda store: query.deliveries(store, wanted), notes.tell)
        for found in follower.answers():
            notes.tell_set_aside()
            if found:
                live.update(tables.Lines(tables.deliveries(console, found), fit=True), refresh=True)
            else:
                empty = report.nothing(state_dir, "deliveries", journal=found is not None, wanted=wanted)
                live.update(printable(empty), refresh=True)
