"""What every command has: the common options, the settings, where it prints, and how it ends."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import logging
import os
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
from ..records import encode
from ..settings import Settings
from .formatting import no_such_sync

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ..store import Database

PIPE_WIDTH = 160  # columns of a table that is not read on a terminal

_configs_option = click.Option(
    ["--configs"],
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder with the sync configs; NANGO_SYNC_CONFIGS, or ./sync_configs.",
)
_json_option = click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document, for machines.")


class Failed(click.ClickException):
    """Ends the process with status 1 and says why on stderr, plainly."""

    def show(self, file: Any = None) -> None:
        """Print the sentence."""
        if self.message:
            click.echo(printable(self.message), err=True)


@dataclass(frozen=True)
class Session:
    """One call of a command: the settings, the configs, and where its answer goes."""

    settings: Settings
    as_json: bool

    @cached_property
    def configs(self) -> Configs:
        """The syncs of the folder, and what is wrong with the others."""
        return read_dir(self.settings.configs)

    @property
    def problems(self) -> list[Problem]:
        """All that is wrong with the configs."""
        return [problem for error in self.configs.errors for problem in error.problems]

    def sync(self, name: str) -> Sync:
        """The configured sync of this name, whatever is wrong with others.

        Raises ConfigError with what is wrong with it, or with the names there are.
        """
        found = next((sync for sync in self.configs.syncs if sync.name == name), None)
        if found is not None:
            return found
        own = [problem for problem in self.problems if Path(problem.file or "").stem == name]
        if own or not self.settings.configs.is_dir():
            raise ConfigError.of(*(own or self.problems))
        others = " `nango-dagster validate` says what is wrong with some files there." if self.problems else ""
        names = [sync.name for sync in self.configs.syncs]
        raise ConfigError(no_such_sync(name, f"in {os.path.relpath(self.settings.configs)}", names) + others)

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """The store, its tables up to date; closed afterwards."""
        from ..store import open_database

        database = open_database(self.settings)
        try:
            yield database
        finally:
            database.close()

    def answer(self, document: Any, *for_people: RenderableType) -> None:
        """Print what the command found: the document with `--json`, else the lines and tables for people."""
        if self.as_json:
            click.echo(as_json(document))
            return
        for part in for_people:
            if isinstance(part, str):
                click.echo(printable(part))  # a terminal wraps a line better than we could
            else:
                self.console.print(part)

    @cached_property
    def console(self) -> Console:
        """Standard output; nothing that is printed is taken for markup."""
        return _console(sys.stdout)

    @cached_property
    def notes(self) -> Console:
        """Standard error, for what is no answer."""
        return _console(sys.stderr)

    def warn(self, sentence: str) -> None:
        """Say something on stderr that does not end the command."""
        click.echo(printable(sentence), err=True)

    def warn_of_configs(self) -> None:
        """Say what is wrong with the configs that cannot be shown."""
        for problem in self.problems:
            self.warn(str(problem))


def command(name: str, *, example: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a click command of a function that takes a Session first; its options are click's decorators."""

    def decorate(function: Callable[..., None]) -> click.Command:
        made: click.Command = click.command(name, epilog=f"Example: nango-dagster {example}")(as_body(function))
        return with_common_options(made)

    return decorate


def group(name: str, text: str, *, example: str) -> click.Group:
    """A group of commands; the common options, where they are given before a command's name, are that command's."""

    @click.pass_context
    def callback(ctx: click.Context, /, **options: Any) -> None:
        ctx.default_map = {str(ctx.invoked_subcommand): options}

    epilog = f"Example: nango-dagster {example}"
    made = click.Group(name, callback=callback, help=inspect.cleandoc(text), epilog=epilog)
    with_common_options(made)
    return made


def with_common_options(made: click.Command) -> click.Command:
    """The command with the options that all have, after its own."""
    made.params += [_configs_option, _json_option]
    return made


def as_body(function: Callable[..., None]) -> Callable[..., None]:
    """A function that opens the Session, and turns our errors into a sentence and status 1."""

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


def fail(sentence: str, document: Any = None) -> NoReturn:
    """End with status 1: the sentence on stderr and, with `--json`, a document on stdout."""
    if document is not None:
        click.echo(as_json(document))
    raise Failed(sentence)


def ask(session: Session, question: str) -> None:
    """Go on only if somebody agrees. Raises NangoError when nobody does, or can."""
    if session.as_json:
        raise Refused("--yes is missing: with --json nobody can be asked. Nothing was done.")
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        agreed = False
    if not agreed:
        raise NangoError("Nothing was done.")


def as_json(document: Any) -> str:
    """A document as text for machines, its numbers exact."""
    try:
        return msgspec.json.format(encode(document), indent=2).decode()
    except RecordRejected:  # lone surrogates, integers of more than 64 bits: the standard library writes them
        return json.dumps(document, indent=2, default=str)


def printable(text: str) -> str:
    """Text as it may stand on a terminal: whatever an API sent cannot steer it."""
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def grid(headings: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> RenderableType:
    """A table for people; the columns named in `right` hold numbers."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, heading in enumerate(headings):
        # Names, which people copy, and numbers stay whole; the rest gives way where the terminal is narrow.
        justify: Literal["left", "right"] = "right" if heading in right else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=number == 0 or heading in right)
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _cell(value: object) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else printable(str(value))


def _console(stream: Any) -> Console:
    from rich.console import Console

    wide = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(file=stream, width=wide, markup=False, highlight=False, emoji=False)


class _ToStderr(logging.Handler):
    """Writes to whatever stderr is at that moment: a progress bar puts itself in between."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


def _log_to_stderr(level: str) -> None:
    """Our own log at the level that was asked for; of everybody else's, what is worth a warning.

    At "info", the default, a command says itself what it did, and the log would say it again.
    """
    handler = _ToStderr("WARNING" if level == "INFO" else level)
    logging.basicConfig(format="%(levelname)s: %(message)s", handlers=[handler], level="WARNING", force=True)
    logging.getLogger("nango_dagster").setLevel(level)
