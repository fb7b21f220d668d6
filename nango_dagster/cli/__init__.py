"""The command line `nango-dagster`: one module for each group of commands.

What a command has in common with the others is in `command`; what is slow to import is imported by the function
that needs it, so that `--help`, `validate` and `dry-run` answer at once.
"""

from __future__ import annotations

import difflib

import click

from .connections import connections, variants
from .dry_run import dry_run
from .project import init, validate
from .records import records
from .run import run
from .serve import api, dev
from .status import status
from .steer import cancel, frequency, pause, start, trigger
from .syncs import list_syncs
from .tables import remove, tables
from .webhooks import webhooks

__all__ = ["main"]


class Main(click.Group):
    """A group that knows what a mistyped command was meant to be."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.commands, n=1)
            instead = f"did you mean {near[0]}?" if near else f"there are {', '.join(self.commands)}."
            raise click.UsageError(f"There is no command {args[0]!r}; {instead}", ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which one comes to need them."""
        return list(self.commands)


_COMMANDS: list[click.Command] = [
    *(init, validate, dry_run, run, dev, api, list_syncs, status, records),
    *(connections, variants, trigger, start, pause, cancel, frequency),
    *(webhooks, tables, remove),
]


@click.group(
    cls=Main,
    commands=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with: nango-dagster init",
)
@click.version_option(package_name="nango-dagster", message="%(prog)s %(version)s")
def main() -> None:
    """Lists in external APIs, kept up to date in tables of your database, with Dagster.

    A sync is a file in the folder sync_configs. Settings come from the environment or a file .env.
    """
