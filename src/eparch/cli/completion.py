"""``eparch completion``: scripts that complete commands and options in a shell."""

from __future__ import annotations

import click

from eparch.cli.commands import Command
from eparch.cli.output import write

VARIABLE = "_EPARCH_COMPLETE"


@click.command(
    "completion",
    cls=Command,
    prints=False,
    example="""eparch completion bash >> ~/.bashrc
    eparch completion fish > ~/.config/fish/completions/eparch.fish""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    write(found(context.find_root().command, {}, "eparch", VARIABLE).source())
