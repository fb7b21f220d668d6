"""The command line `nango-dagster`: one module for each group of commands.

`command` holds what all commands share. A module that is slow to import is imported by the function that needs it, so
that `--help`, `validate` and `dry-run` start quickly.
"""

from __future__ import annotations

import difflib
from typing import Any

import click

from .command import with_common_options
from .connections import connections, variants
from .dry_run import dry_run
from .project import init, validate
from .records import records
from .rejected import rejected
from .run import run
from .script_tests import test
from .serve import api, dev
from .status import status
from .steer import cancel, checkpoint, frequency, pause, start, trigger
from .syncs import adopt, list_syncs
from .tables import remove, tables
from .webhooks import webhooks

__all__ = ["main"]


class Main(click.Group):
    """The group of all commands; it suggests a command for a mistyped name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names. Raises UsageError with the most similar name."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            similar = difflib.get_close_matches(args[0], self.commands, n=1)
            instead = f"did you mean {similar[0]}?" if similar else f"there are {', '.join(self.commands)}."
            raise click.UsageError(f"There is no command {args[0]!r}; {instead}", ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of a first use, not of the alphabet."""
        return list(self.commands)


_COMMANDS: list[click.Command] = [
    *(init, validate, dry_run, test, run, dev, api, list_syncs, adopt, status, records, rejected),
    *(connections, variants, trigger, start, pause, cancel, frequency, checkpoint),
    *(webhooks, tables, remove),
]


@click.group(
    cls=Main,
    commands=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with: nango-dagster init",
)
@click.version_option(package_name="nango-dagster", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context, /, **options: Any) -> None:
    """Keep lists of external APIs up to date in tables of your database, with Dagster.

    A sync is a file in the folder sync_configs. Settings come from the environment or a file .env. --configs and --json
    may stand before or after the command.
    """
    ctx.default_map = {str(ctx.invoked_subcommand): options}


with_common_options(main)
