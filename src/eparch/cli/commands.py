"""The two kinds of click objects that the command line is made of: groups and commands of ours.

Owns what every command has: the shared options, an example in its help, suggestions for what is misspelt,
and that a module is imported only when one of its commands is used.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import click

FORMATS = ("table", "json", "jsonl", "yaml", "name")

GIVEN = "eparch.given"
"""Key in the context's ``meta`` for the shared options, wherever on the line they stood."""


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value is not None and option.name is not None:
        context.meta.setdefault(GIVEN, {})[option.name] = value


def shared_options(prints: bool) -> list[click.Option]:
    """Options that can stand before or after any subcommand; ``-o`` where it prints data."""
    options = [
        click.Option(["--profile"], metavar="NAME", help="Use this profile."),
        click.Option(["--api-url"], metavar="URL", help="Use the server at this URL."),
        click.Option(["--prompt/--no-prompt"], default=None, help="Whether to ask questions."),
        click.Option(["--color"], type=click.Choice(["auto", "always", "never"]), help="Colours."),
        click.Option(["--debug"], is_flag=True, default=None, help="Show tracebacks."),
    ]
    if prints:
        output = click.Option(
            ["-o", "--output"], type=click.Choice(FORMATS, case_sensitive=False), help="Format of the data."
        )
        options.insert(0, output)
    for option in options:
        option.expose_value = False
        option.callback = _remember
    return options


class Command(click.Command):
    """A command with the shared options and an example."""

    def __init__(self, *args: Any, example: str = "", prints: bool = True, **options: Any) -> None:
        super().__init__(*args, **options)
        self.example = example
        self.prints = prints
        taken = {name for param in self.params for name in param.opts}
        self.params.extend(o for o in shared_options(prints) if not taken & set(o.opts))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The example, after the options."""
        if self.example:
            with formatter.section("Example"):
                for line in self.example.splitlines():
                    formatter.write(f"  {line.strip()}\n")


class Group(click.Group):
    """A group with the shared options; ``lazy`` maps a name to the place of its command and a short help.

    ``aliases`` are other names, which are not listed.
    """

    def __init__(
        self,
        *args: Any,
        lazy: dict[str, tuple[str, str]] | None = None,
        aliases: dict[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.lazy = lazy or {}
        self.aliases = aliases or {}
        self.no_args_is_help = True
        self.params.extend(shared_options(prints=True))

    def command(self, *args: Any, **options: Any) -> Callable[..., Any]:  # type: ignore[override]
        """As click's, for a ``Command`` of ours."""
        options.setdefault("cls", Command)
        decorate: Callable[..., Any] = super().command(*args, **options)
        return decorate

    def group(self, *args: Any, **options: Any) -> Callable[..., Any]:  # type: ignore[override]
        """As click's, for a ``Group`` of ours."""
        options.setdefault("cls", Group)
        decorate: Callable[..., Any] = super().group(*args, **options)
        return decorate

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, sorted, without importing anything."""
        return sorted({*self.lazy, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now if it has to be."""
        cmd_name = self.aliases.get(cmd_name, cmd_name)
        if cmd_name in self.lazy:
            module, _, attribute = self.lazy[cmd_name][0].partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            return command
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table where there is one."""
        rows = [
            (name, self.lazy[name][1] if name in self.lazy else self.commands[name].get_short_help_str(70))
            for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but a name that is not there suggests the nearest."""
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None and not name.startswith("-"):
            raise click.NoSuchCommand(
                name,
                f"There is no command {f'{ctx.command_path} {name}'!r}.",
                possibilities=self.list_commands(ctx),
                ctx=ctx,
            )
        return super().resolve_command(ctx, args)
