"""`rejected`: the records of a sync that could not be stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .. import clock
from ..errors import ConfigError
from .command import Session, command, grid, sync_argument
from .formatting import iso, local_time, number_of
from .steer import find_sync

if TYPE_CHECKING:
    from ..store import Database
    from ..store.datasets import Dataset
    from ..store.rejected import RejectedRecord
    from ..store.sync_row import SyncRow

_SHOWN = 80  # characters of a record


@command("rejected", example="rejected issues --retry")
@sync_argument
@click.option("--integration", metavar="KEY", help="The sync's integration, if several have a sync of this name.")
@click.option("--connection", "connection_id", metavar="ID", help="Only the records of this connection.")
@click.option("--retry", is_flag=True, help="Store them once more, unchanged.")
def rejected(session: Session, name: str, integration: str | None, connection_id: str | None, retry: bool) -> None:
    """Show the records of a sync that could not be stored.

    The latest records come first, with the reason. A record leaves the list when an execution stores it, or reads the
    whole list without it. At most 1,000 records of each connection are kept. --retry stores them again, for example
    after a correction of unique_key.

    With --json, for each: connection_id, variant, id, place, reason, first_seen_at, last_seen_at, record (its text;
    null if it is too large). With --retry: sync, stored, rejected.
    """
    from ..store import datasets
    from ..store import rejected as store

    with session.database() as database:
        row = find_sync(session, database, name, integration)
        with database.ask() as connection:
            stored = {
                dataset.id: dataset
                for dataset in datasets.of_sync(connection, row.id)
                if connection_id in (None, dataset.connection_id)
            }
        if retry:
            _retry(session, database, row, stored)
            return
        records = store.of_datasets(database, list(stored))
    now = clock.now()
    documents = [_document(stored[record.dataset_id], record) for record in records]
    rows = [
        (one["connection_id"], one["place"], local_time(record.last_seen_at, now), record.reason, _short(record))
        for one, record in zip(documents, records, strict=True)
    ]
    head = ["connection", "place", "last seen", "reason", "record"]
    session.answer(documents, *([grid(head, rows)] if rows else [f"{name}: no rejected records."]))


def _retry(session: Session, database: Database, row: SyncRow, stored: dict[int, Dataset]) -> None:
    from ..runs import claimed
    from ..runs.retrying import retry
    from ..store import rejected as store

    if row.sync.mode == "overwrite":
        raise ConfigError(
            f"{row.name} has no unique_key, so that only the whole list replaces its rows; run it instead: "
            f"nango-dagster run {row.name}"
        )
    done = kept = 0
    for dataset in stored.values():
        records = store.of_datasets(database, [dataset.id])
        kept += len(records)
        if not any(record.text is not None for record in records):
            continue
        claim = claimed(database, session.settings, row, connection_id=dataset.connection_id, variant=dataset.variant)
        with claim as execution:
            done += retry(execution, dataset, records)
    document = {"sync": row.name, "stored": done, "rejected": kept - done}
    left = kept - done
    rest = f"{left:,} {'is' if left == 1 else 'are'} still rejected."
    session.answer(document, f"{row.name}: stored {number_of(done, 'record')}; {rest}")


def _document(dataset: Dataset, record: RejectedRecord) -> dict[str, Any]:
    return {
        "connection_id": dataset.connection_id,
        "variant": dataset.variant,
        "id": record.external_id,
        "place": record.place,
        "reason": record.reason,
        "first_seen_at": iso(record.first_seen_at),
        "last_seen_at": iso(record.last_seen_at),
        "record": None if record.text is None else record.text.decode("utf-8", "backslashreplace"),
    }


def _short(record: RejectedRecord) -> str:
    text = (record.text or b"").decode("utf-8", "backslashreplace")
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
