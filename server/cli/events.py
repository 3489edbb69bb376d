"""``hookshim events``: the warnings about hooks that failed, read from the journal's file, with or without a daemon."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from server import report, tables
from server.cli.choosing import CHOICE, chosen
from server.cli.options import CONFIG, JSON, STATE_DIR, load, options
from server.cli.watching import Notes
from server.following import EventChanges, Follower
from shim.query import Filter


@click.command()
@options(JSON, CHOICE)
@click.option("--follow", "-f", is_flag=True, help="Go on with those that come, until Ctrl-C. With --json: JSON Lines.")
@options(CONFIG, STATE_DIR)
@click.pass_context
def events(context: click.Context, /, *, as_json: bool, follow: bool, **choice: Any) -> None:  # noqa: ANN401  # chosen()'s
    """Show the warnings about hooks that failed.

    The newest is last. It works while the daemon runs and while it doesn't. --hook and --state are those of the
    delivery that an event is about; --since is of the event.
    """
    wanted = chosen(**choice)
    state_dir = load(context).state_dir
    notes = Notes(state_dir)
    if follow:
        with suppress(KeyboardInterrupt):
            _follow(state_dir, wanted, notes, as_json=as_json)
        return
    found = report.events(state_dir, wanted)
    notes.tell_set_aside()
    if not found:
        notes.tell(report.nothing(state_dir, "events", journal=found is not None, wanted=wanted))
    if as_json:
        click.echo(report.events_json(found or []))
    elif found:
        console = tables.console()
        console.print(tables.Lines(tables.events(console, found)), end="")


def _follow(state_dir: Path, wanted: Filter, notes: Notes, *, as_json: bool) -> None:
    changes = EventChanges(wanted)
    for told in Follower(state_dir, changes.question, notes.tell).answers():
        notes.tell_set_aside()
        if told is None:
            notes.tell(report.nothing(state_dir, "events", journal=False))
            continue
        for event in changes.news(told):
            click.echo(json.dumps(report.event_object(event)) if as_json else tables.event_line(event))
