"""Completion in the shell: click's own scripts, and ids that stand in the journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from server.cli.options import Given
from server.log import printable
from server.reading import ask
from shim import query
from shim.errors import HookshimError
from shim.store import FILE, Store

#: Ids that are offered at most: more than anybody reads.
_OFFERED: Final = 50

_Ids = Callable[[Store, str, int], list[tuple[str, str]]]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print the script that completes hookshim's commands, options and ids.

    \b
    bash: eval "$(hookshim completion bash)"
    zsh:  eval "$(hookshim completion zsh)"
    fish: hookshim completion fish | source
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    # Not the shell's own way: bash's runs a bash to look at its version.
    script = ShellComplete.source(kind(context.find_root().command, {}, "hookshim", "_HOOKSHIM_COMPLETE"))
    click.echo(script)


def delivery_ids(context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Ids of deliveries, the newest first."""
    return _offer(context, query.delivery_ids, typed)


def container_ids(context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Ids of containers that the journal knows."""
    return _offer(context, query.container_ids, typed)


def _offer(context: click.Context, ids: _Ids, typed: str) -> list[CompletionItem]:
    try:
        path = context.ensure_object(Given).load().config.state_dir / FILE
        found = ask(path, lambda store: ids(store, typed, _OFFERED)) or []
    except (HookshimError, OSError):
        # A key was pressed, and nothing asked: what is wrong is said by the command.
        return []
    return [CompletionItem(key, help=printable(about)) for key, about in found]
