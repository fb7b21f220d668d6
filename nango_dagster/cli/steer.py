"""The commands `trigger`, `start`, `pause`, `cancel`, `frequency` and `checkpoint`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError, Refused
from .command import Session, command, sync_argument

if TYPE_CHECKING:
    from ..control.report import Report
    from ..control.selection import Selection
    from ..store import Database
    from ..store.sync_row import SyncRow


def _selection_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments that select a sync, a connection and a variant."""
    for option in (
        click.option(
            "--integration", metavar="KEY", help="The sync's integration, if several have a sync of this name."
        ),
        click.option("--variant", metavar="VARIANT", help="Only this variant."),
        click.option("--connection", "connection_id", metavar="ID", help="Only this connection."),
        sync_argument,
    ):
        function = option(function)
    return function


def _many_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select some of many connections."""
    match = "Only connections whose names match: * is any text, ? one character."
    for option in (
        click.option("--match", metavar="PATTERN", help=match),
        click.option("--failed", is_flag=True, help="Only connections whose last execution failed."),
    ):
        function = option(function)
    return function


@command("trigger", example="trigger issues --match 'acme-*' --failed")
@_selection_options
@_many_options
@click.option("--reset", is_flag=True, help="Ignore the state of earlier executions and start at the first record.")
@click.option("--empty-cache", is_flag=True, help="With --reset: delete the stored records first.")
def trigger(session: Session, reset: bool, empty_cache: bool, **names: Any) -> None:
    """Request an execution now.

    Applies to all connections of the sync, or to the selected ones, also while they are paused. A running execution
    continues; with --reset it is cancelled and starts again. The dispatcher of `nango-dagster dev`, or of your Dagster
    daemon, starts the execution within seconds. `nango-dagster run` executes at once in its own process.

    With --json: sync, integration, connection_id, variant, triggered (how many), reset, empty_cache; with --match or
    --failed also match and failed.
    """
    from ..control import syncs

    _steer(session, lambda selection: syncs.trigger(selection, reset=reset, empty_cache=empty_cache), _Names(**names))


@command("start", example="start issues")
@_selection_options
@_many_options
def start(session: Session, **names: Any) -> None:
    """Resume the schedule of a sync.

    Applies to all its connections, or to the selected ones. A paused connection also runs at once.

    With --json: sync, integration, connection_id, variant, started (how many there are), were_paused.
    """
    from ..control import syncs

    _steer(session, syncs.start, _Names(**names))


@command("pause", example="pause issues --connection acme")
@_selection_options
@_many_options
def pause(session: Session, **names: Any) -> None:
    """Pause the schedule of a sync.

    Applies to all its connections, or to the selected ones. A running execution continues to its end. A requested
    execution that has not started is dropped.

    With --json: sync, integration, connection_id, variant, paused (how many there are), executing.
    """
    from ..control import syncs

    _steer(session, syncs.pause, _Names(**names), must_run=False)


@command("cancel", example="cancel issues --connection acme")
@_selection_options
@_many_options
def cancel(session: Session, **names: Any) -> None:
    """Cancel the running executions of a sync.

    An execution ends before its next page, and the pages before are kept. A requested execution that has not started
    is dropped. The schedule continues.

    With --json: sync, integration, connection_id, variant, cancelled (how many were running).
    """
    from ..control import syncs

    _steer(session, syncs.cancel, _Names(**names), must_run=False)


@command("frequency", example='frequency issues --connection acme "every 5 minutes"')
@_selection_options
@click.argument("every", metavar="EVERY", required=False)
@click.option("--default", is_flag=True, help="Return to the sync's own schedule.")
def frequency(session: Session, every: str | None, default: bool, **names: Any) -> None:
    """Set a frequency for connections.

    EVERY is "every 5 minutes", "every hour", "every day" or the like. The slots count from the time at which the
    connection got the sync.

    With --json: sync, integration, connection_id, variant, changed (how many), frequency, next_run_at.
    """
    from ..control import syncs

    if (every is None) is not default:
        raise Refused('wanted either a frequency such as "every 5 minutes" or --default. Nothing was done.')
    _steer(session, lambda selection: syncs.set_frequency(selection, every), _Names(**names))


@command("checkpoint", example="checkpoint issues --connection acme")
@_selection_options
@click.option("--set", "text", metavar="JSON", help="Replace the checkpoint by this flat JSON object.")
@click.option("--clear", is_flag=True, help="Delete the checkpoint: the next execution reads from the start.")
def checkpoint(session: Session, text: str | None, clear: bool, **names: Any) -> None:
    """Show or change the position up to which a sync has read.

    The checkpoint of an incremental sync is its cursor. The checkpoint of a resumable sync is the request of the next
    page. The checkpoint of a script is the value that the script saved. It is stored with the records before it.
    Setting or clearing it ends a deletion window of several executions. An incremental sync begins at a time with
    --set '{"cursor": "2026-01-31T10:00:00Z"}'.

    With --json: sync, integration, connection_id, variant, checkpoints (of each: connection_id, variant, checkpoint);
    after a change changed (how many) and checkpoint.
    """
    from ..control import checkpoints

    if text is not None and clear:
        raise Refused("wanted either --set or --clear. Nothing was done.")
    new = None if text is None else checkpoints.of_text(text)
    if text is None and not clear:
        _steer(session, checkpoints.show, _Names(**names), must_run=False)
    else:
        _steer(session, lambda selection: checkpoints.replace(selection, new), _Names(**names), must_run=False)


@dataclass(frozen=True)
class _Names:
    """The values of `_selection_options` and `_many_options`."""

    name: str
    integration: str | None
    connection_id: str | None
    variant: str | None
    match: str | None = None
    failed: bool = False


def _steer(session: Session, operation: Callable[[Selection], Report], names: _Names, *, must_run: bool = True) -> None:
    from ..control.selection import Narrowing, select

    with session.database() as database:
        row = find_sync(session, database, names.name, names.integration, must_run=must_run)
        narrowing = Narrowing(names.match, names.failed)
        report = operation(select(database, row, names.connection_id, names.variant, narrowing))
    session.answer(report.document, *report.sentences)


def find_sync(
    session: Session, database: Database, name: str, integration: str | None = None, *, must_run: bool = False
) -> SyncRow:
    """Return the sync of this name, after its config was registered.

    Raises ConfigError with the existing names, and with `must_run` also for a config that cannot be used; Refused with
    `must_run` for a sync whose config is gone.
    """
    from ..control import selection
    from ..store import syncs

    register(session, database, name)
    problems = [problem for problem in session.problems if Path(problem.file or "").stem == name]
    if problems and must_run:
        raise ConfigError.of(*problems)
    row = selection.find_sync(syncs.all(database), name, integration)
    configured = {(sync.integration_key, sync.name) for sync in session.configs.syncs}
    if must_run and row.origin == "file" and (row.integration, row.name) not in configured:
        folder = os.path.relpath(session.settings.configs)
        raise Refused(f"no config in {folder} has {name} any more, so nothing runs it. Nothing was done.")
    return row


def register(session: Session, database: Database, *names: str) -> None:
    """Register the configured syncs in the store; of those that are not enabled, only the named ones."""
    from ..store import syncs

    enabled = [sync for sync in session.configs.syncs if sync.enabled or sync.name in names]
    syncs.register(database, enabled, on_refused=session.warn)
