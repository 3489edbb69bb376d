"""``hookshim doctor``: the node is looked at, and each thing found is a line."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from server.cli import ending
from server.cli.options import ADMIN, CONFIG, CONTAINERD, HOOKS_DIR, JSON, LISTEN, STATE_DIR, Given, options
from server.log import printable

if TYPE_CHECKING:
    from server.doctor import Finding

#: Characters of the longest verdict and of the longest check's name.
_VERDICT: Final = 7
_CHECK: Final = 18

_COLOURS: Final = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command()
@options(JSON, CONFIG, STATE_DIR, LISTEN, CONTAINERD, ADMIN, HOOKS_DIR)
@click.option(
    "--root",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="/",
    help="Where the node's /proc and /etc are, as seen from a container.  [default: /]",
)
@click.pass_context
def doctor(context: click.Context, root: Path, *, as_json: bool) -> None:
    """Look at the node: what keeps hooks from being delivered, and what to do.

    A line for each check: ok, warning or problem. It changes nothing, needs no daemon, and is to be run as root.
    Exit code 1 if there is a problem, else 0.
    """
    # Here, because the other commands need neither gRPC nor YAML.
    from server.doctor import Host, Verdict, examine  # noqa: PLC0415  # see above

    found = examine(context.ensure_object(Given).load, Host(root))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        _print(found)
    if any(finding.verdict is Verdict.PROBLEM for finding in found):
        context.exit(ending.FAILURE)


def _print(found: Sequence[Finding]) -> None:
    width = shutil.get_terminal_size().columns
    hang = " " * (_VERDICT + 2 + _CHECK + 2)
    for finding in found:
        verdict = click.style(f"{finding.verdict:<{_VERDICT}}", fg=_COLOURS[finding.verdict])
        text = printable(f"{finding.text}; {finding.advice}" if finding.advice else finding.text)
        lines = textwrap.wrap(text, max(20, width - len(hang)), break_on_hyphens=False) or [""]
        click.echo(f"{verdict}  {finding.check:<{_CHECK}}  {lines[0]}")
        for line in lines[1:]:
            click.echo(hang + line)
