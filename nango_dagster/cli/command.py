"""The common parts of all commands: options, settings, output, and errors."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click
import msgspec

from ..config import Configs, Sync, read_dir
from ..errors import ConfigError, NangoError, Problem, RecordRejected, Refused
from ..node.configs import read_configs
from ..records import encode
from ..settings import Settings
from .formatting import no_such_sync

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ..store import Database

PIPE_WIDTH = 160  # columns of a table that is not printed on a terminal
RED = re.compile(r"(failed|dead|needs reauthorisation)(,| \d|$)")
"""States that need attention, also with a time or more words after them; rich respects NO_COLOR and pipes."""

_configs_option = click.Option(
    ["--configs"],
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder with the sync configs. Default: NANGO_SYNC_CONFIGS, or ./sync_configs.",
)
_json_option = click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document, for machines.")


class Failed(click.ClickException):
    """Ends the process with status 1 and a sentence on stderr."""

    def show(self, file: Any = None) -> None:
        """Print the sentence without a prefix."""
        if self.message:
            click.echo(printable(self.message), err=True)


@dataclass(frozen=True)
class Session:
    """One call of a command: its settings, its configs and its output."""

    settings: Settings
    as_json: bool

    @cached_property
    def configs(self) -> Configs:
        """The valid syncs of the folder and of the Nango project, and the errors of the others."""
        return read_configs(self.settings)

    def describe_scripts(self) -> None:
        """Bring the manifest of the Nango project up to date, before `configs` is read."""
        read_configs(self.settings, refresh=True)

    @property
    def problems(self) -> list[Problem]:
        """All problems of the configs."""
        return [problem for error in self.configs.errors for problem in error.problems]

    def sync(self, name: str) -> Sync:
        """The configured sync of this name; problems of other syncs do not matter.

        Raises ConfigError with the problems of its file, or with the names of the configured syncs.
        """
        named = [sync for sync in self.configs.syncs if name in (sync.name, f"{sync.integration_key}/{sync.name}")]
        if len(named) > 1:
            several = ", ".join(f"{sync.integration_key}/{sync.name}" for sync in named)
            raise ConfigError(f"{len(named)} syncs have the name {name}; name one of them: {several}.")
        if named:
            return named[0]
        own = [problem for problem in self.problems if Path(problem.file or "").stem == name]
        if own or not self.configs.syncs:
            raise ConfigError.of(*(own or self.problems))
        others = " Some files there are not valid; see `nango-dagster validate`." if self.problems else ""
        names = [sync.name for sync in self.configs.syncs]
        raise ConfigError(no_such_sync(name, f"in {os.path.relpath(self.settings.configs)}", names) + others)

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """The store with its tables migrated; closed afterwards."""
        from ..store import open_database

        database = open_database(self.settings)
        try:
            yield database
        finally:
            database.close()

    def answer(self, document: Any, *for_people: RenderableType) -> None:
        """Print the result: the document with `--json`, else the lines and tables for people."""
        if self.as_json:
            click.echo(as_json(document))
            return
        for part in for_people:
            if isinstance(part, str):
                click.echo(printable(part))  # the terminal wraps long lines itself
            else:
                self.console.print(part)

    @cached_property
    def console(self) -> Console:
        """Standard output; printed text is never read as markup."""
        return _console(sys.stdout)

    @cached_property
    def notes(self) -> Console:
        """Standard error, for progress and notes."""
        return _console(sys.stderr)

    def warn(self, sentence: str) -> None:
        """Print a sentence on stderr; the command goes on."""
        click.echo(printable(sentence), err=True)

    def warn_of_configs(self) -> None:
        """Print the problems of the configs that are not valid."""
        for problem in self.problems:
            self.warn(str(problem))


def command(name: str, *, example: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a click command of a function that takes a Session first; its options are click's decorators."""

    def decorate(function: Callable[..., None]) -> click.Command:
        made: click.Command = click.command(name, epilog=f"Example: nango-dagster {example}")(as_body(function))
        return with_common_options(made)

    return decorate


def group(name: str, text: str, *, example: str) -> click.Group:
    """A group of commands; common options before a command's name apply to that command."""

    @click.pass_context
    def callback(ctx: click.Context, /, **options: Any) -> None:
        ctx.default_map = {str(ctx.invoked_subcommand): options}

    epilog = f"Example: nango-dagster {example}"
    made = click.Group(name, callback=callback, help=inspect.cleandoc(text), epilog=epilog)
    with_common_options(made)
    return made


def with_common_options(made: click.Command) -> click.Command:
    """Add the common options after the command's own."""
    made.params += [_configs_option, _json_option]
    return made


def as_body(function: Callable[..., None]) -> Callable[..., None]:
    """A function that opens the Session, and turns a NangoError into a sentence and status 1."""

    @functools.wraps(function)
    def body(*, configs: Path | None, as_json: bool, **arguments: Any) -> None:
        try:
            settings = Settings.from_env()
            if configs is not None:
                settings = replace(settings, configs=configs.absolute())
            _log_to_stderr(settings.log_level)
            function(Session(settings, as_json), **arguments)
        except NangoError as error:
            fail(str(error), {"error": str(error)} if as_json else None)

    return body


def complete_sync(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The names of configured syncs that begin with a text, for the shell's completion."""
    try:
        folder = ctx.params.get("configs") or Settings.from_env().configs
        return sorted(sync.name for sync in read_dir(folder).syncs if sync.name.startswith(incomplete))
    except NangoError:  # a completion has nowhere to print an error
        return []


sync_argument = click.argument("name", metavar="SYNC", shell_complete=complete_sync)


def fail(sentence: str, document: Any = None) -> NoReturn:
    """End with status 1: the sentence on stderr and, with `--json`, a document on stdout."""
    if document is not None:
        click.echo(as_json(document))
    raise Failed(sentence)


def ask(session: Session, question: str) -> None:
    """Ask for confirmation. Raises NangoError if it is refused, or if nobody can be asked."""
    if session.as_json:
        raise Refused("--yes is missing: with --json nobody can be asked. Nothing was done.")
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        agreed = False
    if not agreed:
        raise NangoError("Nothing was done.")


def as_json(document: Any) -> str:
    """A document as JSON text with exact numbers."""
    try:
        return msgspec.json.format(encode(document), indent=2).decode()
    except RecordRejected:  # lone surrogates, integers of more than 64 bits: the standard library writes them
        return json.dumps(document, indent=2, default=str)


def printable(text: str) -> str:
    """Text with control characters escaped, so that an API's text cannot control the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def grid(headings: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> RenderableType:
    """A table for people; the columns named in `right` hold numbers. States that need attention are red."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, heading in enumerate(headings):
        # Names, which people copy, and numbers are not wrapped; other columns shrink on a narrow terminal.
        justify: Literal["left", "right"] = "right" if heading in right else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=number == 0 or heading in right)
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(value: object) -> RenderableType:
    if isinstance(value, str) and RED.match(value):
        from rich.text import Text

        return Text(printable(value), style="red")
    return "" if value is None else f"{value:,}" if isinstance(value, int) else printable(str(value))


def _console(stream: Any) -> Console:
    from rich.console import Console

    wide = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(file=stream, width=wide, markup=False, highlight=False, emoji=False)


class _ToStderr(logging.Handler):
    """Writes to the current stderr, which a progress bar replaces while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


def _log_to_stderr(level: str) -> None:
    """Log our own messages at this level, and those of other packages from "warning" on.

    At "info", the default, a command prints its result itself, so our messages start at "warning", too.
    """
    handler = _ToStderr("WARNING" if level == "INFO" else level)
    logging.basicConfig(format="%(levelname)s: %(message)s", handlers=[handler], level="WARNING", force=True)
    logging.getLogger("nango_dagster").setLevel(level)
