"""`records`: the changed records of a sync, the latest or those after a cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .. import clock
from ..config.source import quoted
from ..errors import ConfigError, RecordRejected, Refused
from ..records import decode
from .command import Session, command, grid, sync_argument
from .formatting import iso, local_time, number_of
from .steer import find_sync

if TYPE_CHECKING:
    from ..store import Database
    from ..store.changes import Action, Record
    from ..store.datasets import Dataset
    from ..store.sync_row import SyncRow

_SHOWN = 80  # characters of a record
_NAMED = 10  # connections


@command("records", example="records issues --connection acme --filter deleted")
@sync_argument
@click.option("--integration", metavar="KEY", help="The sync's integration, if several have a sync of this name.")
@click.option(
    "--connection", "connection_id", metavar="ID", help="The connection of the records, if there are several."
)
@click.option("--variant", metavar="VARIANT", help="The variant of the records, if there are several.")
@click.option("--filter", "only", metavar="ACTIONS", help="added, updated, deleted, or several with commas.")
@click.option("--after", metavar="CURSOR", help="Changes after this cursor, the oldest first.")
@click.option(
    "--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="The largest number of records."
)
def records(
    session: Session,
    name: str,
    integration: str | None,
    connection_id: str | None,
    variant: str | None,
    only: str | None,
    after: str | None,
    limit: int,
) -> None:
    """Show the changed records of a sync.

    Without --after, it shows the latest changes, newest first. With --after, it shows the changes after a cursor, in
    the order of `GET /records`.

    With --json: sync, integration, connection_id, variant, model, records (id, action, first_seen_at,
    last_modified_at, deleted_at, pruned_at, cursor, record), next_cursor (with --after, null at the end).
    """
    from ..store import listing
    from ..store.changes import Cursor
    from ..store.listing import RecordSelection

    actions = _actions(only)
    with session.database() as database:
        row = find_sync(session, database, name, integration)
        dataset = _dataset(database, row, connection_id, variant)
        if after is None:
            shown, next_cursor = listing.latest(database, dataset.id, actions, limit), ""
        else:
            page = listing.page(database, dataset.id, RecordSelection(after=Cursor.read(after), actions=actions), limit)
            shown, next_cursor = page.records, str(page.next or "")
    document = {
        "sync": row.name,
        "integration": dataset.integration,
        "connection_id": dataset.connection_id,
        "variant": dataset.variant,
        "model": dataset.model,
        "records": [_document(record, dataset.id) for record in shown],
        "next_cursor": next_cursor or None,
    }
    session.answer(document, *_for_people(dataset, shown, next_cursor))


def _actions(text: str | None) -> list[Action]:
    from ..store.changes import ACTIONS

    names = ACTIONS if text is None else [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in ACTIONS:
            raise ConfigError(f"--filter has {quoted(name)}; wanted {', '.join(ACTIONS)}, separated by commas.")
    return [action for action in ACTIONS if action in names]


def _dataset(database: Database, row: SyncRow, connection_id: str | None, variant: str | None) -> Dataset:
    """The dataset of the sync that the options select. Raises Refused if there is none, or more than one."""
    from ..store import datasets

    with database.connect() as connection:
        stored = datasets.of_sync(connection, row.id)
    selected = [
        dataset
        for dataset in stored
        if connection_id in (None, dataset.connection_id) and variant in (None, dataset.variant)
    ]
    if len(selected) == 1:
        return selected[0]
    if not stored:
        raise Refused(f"{row.name} has stored nothing yet; `nango-dagster run {row.name}` executes it now.")
    names = sorted(f"{dataset.connection_id} ({dataset.variant})" for dataset in selected or stored)
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    owners = ", ".join(names[:_NAMED]) + more
    if not selected:
        raise Refused(f"{row.name} has stored no records there; it has records of {owners}.")
    raise Refused(f"{row.name} has records of {owners}; select one with --connection and --variant.")


def _document(record: Record, dataset_id: int) -> dict[str, Any]:
    return {
        "id": record.external_id,
        "action": record.action,
        "first_seen_at": iso(record.first_seen_at),
        "last_modified_at": iso(record.last_modified_at),
        "deleted_at": iso(record.deleted_at),
        "pruned_at": iso(record.pruned_at),
        "cursor": str(record.cursor(dataset_id)),
        "record": _decoded(record.text),
    }


def _decoded(text: str | None) -> Any:
    """The decoded record, or its text if it is nested too deeply."""
    try:
        return None if text is None else decode(text.encode())
    except RecordRejected:
        return text


def _for_people(dataset: Dataset, records: list[Record], next_cursor: str) -> list[Any]:
    now = clock.now()
    whose = f"{dataset.model} of {dataset.connection_id} ({dataset.variant})"
    count = f"{whose}: {number_of(dataset.live_count, 'record')}"
    if not records:
        return [f"{count}; none to show."]
    rows = [
        (local_time(record.last_modified_at, now), record.action, record.external_id, _shown(record))
        for record in records
    ]
    more = [f"More follow: --after {next_cursor}"] if next_cursor else []
    return [count, grid(["changed", "", "id", "record"], rows), *more]


def _shown(record: Record) -> str:
    """The beginning of a record in one line."""
    if record.text is None:
        return "(pruned)" if record.pruned_at else "(gone)"
    text = " ".join(record.text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
