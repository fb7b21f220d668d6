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
@click.option("--connection", "connection_id", metavar="ID", help="Only this connection.")
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
    """Show the state and the last job of each sync.

    It shows the state, the last job, the next run or the reason why there is none, and the last error. The states are
    scheduled, running, paused, stopped (in Dagster), disabled, "not loaded yet" (no process has read its file), no
    connections, on demand (an asset of your own), "not configured" and "of another project". A due sync waits for
    `nango-dagster dev`, or for the daemon of your Dagster. The tables are shorter on a terminal of fewer than 100
    columns.

    A sync of an integration is one line with the numbers of its connections; each variant counts as a connection. With
    SYNC or --connection, each connection has a line, and failed connections come first.

    With --json, for each sync: name, integration, state, next_run_at (in the past if it is due), no_next_run (the
    reason), error (of the last job), last_job (id, run_id, status, started_at, ended_at, attempt, stop_reason,
    warnings, added, updated, deleted, unchanged, rejected, fetched, pages, requests, retries). A sync of an integration
    also has connections (total, succeeded, failed, never_run, running, paused, due, needs_reauthorisation, lost,
    records). With SYNC: one such object with statuses, for each connection: connection_id, variant, state (RUNNING,
    PAUSED, STOPPED, ERROR or SUCCESS), due, needs_reauthorisation, frequency, next_run_at, no_next_run, records,
    lost_runs, checkpoint, error, last_job.
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
