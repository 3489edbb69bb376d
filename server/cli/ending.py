"""Exit codes, and how a command ends with one of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

import click

from server.log import printable

if TYPE_CHECKING:
    from server.admin.client import AdminClient

T = TypeVar("T")

#: It could not be done, or there are problems.
FAILURE: Final = 1
#: It was asked for wrongly.
USAGE: Final = 2
#: The daemon does not answer.
NO_DAEMON: Final = 3


def fail(error: Exception, status: int) -> NoReturn:
    """Say why on stderr, and end."""
    text = "\n".join(printable(line) for line in str(error).split("\n"))
    click.echo(f"hookshim: {text}", err=True)
    sys.exit(status)


def asked(admin: Path, question: Callable[[AdminClient], T]) -> T:
    """What the daemon at ``admin`` answers. Ends the command if it does not, or refuses."""
    # Here, because gRPC takes its time to load, and most commands do without.
    from server.admin.client import AdminClient, AdminError  # noqa: PLC0415  # see above

    try:
        with AdminClient(admin) as daemon:
            return question(daemon)
    except AdminError as error:
        silent = error.unanswered or error.code == "DEADLINE_EXCEEDED"
        fail(error, NO_DAEMON if silent else FAILURE)
