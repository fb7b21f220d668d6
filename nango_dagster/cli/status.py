"""`status`: how the syncs are doing, and with a name, each connection of one."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from .. import clock
from ..errors import ConfigError
from . import status_tables
from .command import Session, command, complete_sync
from .formatting import no_such_sync
from .sync_states import State
from .syncs import Known, known

if TYPE_CHECKING:
    from ..store import Database
    from ..store.status import Status
    from ..store.sync_row import SyncRow


@command("status", example="status")
@click.argument("name", metavar="[SYNC]", required=False, shell_complete=complete_sync)
@click.option("--connection", "connection_id", metavar="ID", help="Only this connection, of one sync or of all.")
@click.option("--variant", metavar="VARIANT", help="Only this variant.")
@click.option("--integration", metavar="KEY", help="Only syncs of this integration.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", default=50, show_default=True, help="Connections in the table."
)
def status(
    session: Session,
    name: str | None,
    connection_id: str | None,
    variant: str | None,
    integration: str | None,
    limit: int,
) -> None:
    """Show how each sync is doing.

    Its state, its last job, when it runs next or why it does not, and what went wrong. States: scheduled, running,
    paused, stopped (in Dagster), disabled, "not loaded yet" (no process has read its file), no connections, on demand
    (an asset of your own), "not configured" and "of another project". One that is due waits for a run that takes it:
    `nango-dagster dev`, or the daemon of your Dagster. On a terminal of fewer than 100 columns the tables are shorter.

    A sync of an integration is shown in numbers of its connections, of which each variant counts as one. With SYNC or
    --connection there is a line for each of them, those that failed first.

    With --json, for each sync: name, integration, state, next_run_at (past when it is due), no_next_run (why), error
    (of the last job), last_job (id, run_id, status, started_at, ended_at, attempt, stop_reason, warnings, added,
    updated, deleted, unchanged, rejected, fetched, pages, requests, retries); of an integration's also connections
    (total, succeeded, failed, never_run, running, paused, due, needs_reauthorisation, lost, records). With SYNC one of
    these, and in it statuses, all of them: connection_id, variant, state (RUNNING, PAUSED, STOPPED, ERROR or SUCCESS),
    due, needs_reauthorisation, frequency, next_run_at, no_next_run, records, lost_runs, checkpoint, error, last_job.
    """
    session.warn_of_configs()
    with session.database() as database:
        states = _states(session, database, name, integration, connection_id, variant)
    in_detail = any(wanted is not None for wanted in (name, connection_id, variant))
    documents = [state.document(in_detail=in_detail) for state in states]
    now = clock.now()
    tables = status_tables.Tables(now, is_narrow=session.console.width < status_tables.WIDE)
    shown = tables.in_detail(states, limit, named=name is not None) if in_detail else tables.overview(states)
    session.answer(documents[0] if name is not None else documents, *shown)


def _states(
    session: Session,
    database: Database,
    name: str | None,
    integration: str | None,
    connection_id: str | None,
    variant: str | None,
) -> list[State]:
    """How the syncs are doing that are meant, as their configs say them now."""
    from ..store import queue
    from ..store import status as stored

    queue.reap(database)
    every = [entry for entry in known(session, database) if integration in (None, entry.sync.integration_key)]
    selected = [entry for entry in every if name in (None, entry.sync.name)]
    if name is not None and len(selected) != 1:
        raise ConfigError(_no_one(session, name, every, selected))
    rows = [replace(entry.row, sync=entry.sync) for entry in selected if entry.row is not None]
    of_sync: dict[int, list[Status]] = defaultdict(list)
    for status in stored.read(database, rows, connection_id, variant):
        of_sync[status.row.id].append(status)
    if (connection_id, variant) != (None, None):
        if not of_sync:
            raise _nobody(database, rows, connection_id, variant)
        selected = [entry for entry in selected if entry.id in of_sync]
    return [State.of(entry, of_sync.get(entry.id or 0, [])) for entry in selected]


def _no_one(session: Session, name: str, every: Sequence[Known], selected: Sequence[Known]) -> str:
    if selected:
        integrations = ", ".join(sorted(entry.sync.integration_key for entry in selected))
        return f"several integrations have a sync {name}: {integrations}; name one with --integration."
    folder = os.path.relpath(session.settings.configs)
    return no_such_sync(name, f"in {folder} or the database", [entry.sync.name for entry in every])


def _nobody(database: Database, rows: Sequence[SyncRow], connection_id: str | None, variant: str | None) -> ConfigError:
    """The error for a connection or variant that no sync has; it lists the existing ones."""
    from ..control.selection import select

    if len(rows) == 1:
        try:
            select(database, rows[0], connection_id, variant)
        except ConfigError as error:
            return error
    what = f"variant {variant!r}" if connection_id is None else f"connection {connection_id!r}"
    return ConfigError(f"no sync runs for a {what}; `nango-dagster connections list` and `variants list` have all.")
