"""`records`: what changed in a sync's records, last or after a cursor."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

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
@click.option("--integration", metavar="KEY", help="The sync's, where several have one of its name.")
@click.option("--connection", "connection_id", metavar="ID", help="Whose records, where there are several.")
@click.option("--variant", metavar="VARIANT", help="Of which variant, where there are several.")
@click.option("--filter", "only", metavar="ACTIONS", help="added, updated, deleted, or several with commas.")
@click.option("--after", metavar="CURSOR", help="What changed after this place, the oldest first.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="So many at most.")
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
    """Show what changed in a sync's records.

    The last changes, the newest first; with --after those that follow a cursor, in the order that `GET /records` has.

    With --json: sync, integration, connection_id, variant, model, records (id, action, first_seen_at,
    last_modified_at, deleted_at, pruned_at, cursor, record), next_cursor (with --after, null at the end).
    """
    from ..store import listing
    from ..store.changes import Cursor
    from ..store.listing import Wanted

    actions = _actions(only)
    with session.database() as database:
        row = find_sync(session, database, name, integration)
        dataset = _dataset(database, row, connection_id, variant)
        if after is None:
            found, following = listing.latest(database, dataset.id, actions, limit), ""
        else:
            page = listing.page(database, dataset.id, Wanted(after=Cursor.read(after), actions=actions), limit)
            found, following = page.records, str(page.next or "")
    document = {
        "sync": row.name,
        "integration": dataset.integration,
        "connection_id": dataset.connection_id,
        "variant": dataset.variant,
        "model": dataset.model,
        "records": [_document(one) for one in found],
        "next_cursor": following or None,
    }
    session.answer(document, *_for_people(dataset, found, following))


def _actions(text: str | None) -> list[Action]:
    from ..store.changes import ACTIONS

    given = ACTIONS if text is None else [one.strip().lower() for one in text.split(",")]
    for one in given:
        if one not in ACTIONS:
            raise ConfigError(f"--filter holds {quoted(one)}; wanted {', '.join(ACTIONS)}, separated by commas.")
    return [action for action in ACTIONS if action in given]


def _dataset(database: Database, row: SyncRow, connection_id: str | None, variant: str | None) -> Dataset:
    """The records that are meant. Raises Refused where there are none, or several."""
    from ..store import datasets

    with database.connect() as connection:
        all_ = datasets.of_sync(connection, row.id)
    found = [one for one in all_ if connection_id in (None, one.connection_id) and variant in (None, one.variant)]
    if len(found) == 1:
        return found[0]
    if not all_:
        raise Refused(f"{row.name} has stored nothing yet; `nango-dagster run {row.name}` executes it now.")
    named = [
        f"{one.connection_id} ({one.variant})"
        for one in sorted(found or all_, key=lambda one: (one.connection_id, one.variant))[:_NAMED]
    ]
    more = len(found or all_) - len(named)
    those = ", ".join(named) + (f" and {more:,} more" if more else "")
    if not found:
        raise Refused(f"{row.name} has stored nothing there; it has records of {those}.")
    raise Refused(f"{row.name} has records of {those}; say whose with --connection and --variant.")


def _document(one: Record) -> dict[str, Any]:
    return {
        "id": one.external_id,
        "action": one.action,
        "first_seen_at": iso(one.first_seen_at),
        "last_modified_at": iso(one.last_modified_at),
        "deleted_at": iso(one.deleted_at),
        "pruned_at": iso(one.pruned_at),
        "cursor": str(one.cursor),
        "record": _decoded(one.text),
    }


def _decoded(text: str | None) -> Any:
    """The record, or its text where that is too deep to be looked into."""
    try:
        return None if text is None else decode(text.encode())
    except RecordRejected:
        return text


def _for_people(dataset: Dataset, found: list[Record], following: str) -> list[Any]:
    now = datetime.now(timezone.utc)
    whose = f"{dataset.model} of {dataset.connection_id} ({dataset.variant})"
    said = f"{whose}: {number_of(dataset.live_count, 'record')}"
    if not found:
        return [f"{said}; none to show."]
    rows = [(local_time(one.last_modified_at, now), one.action, one.external_id, _shown(one)) for one in found]
    goes_on = [f"More follow: --after {following}"] if following else []
    return [said, grid(["changed", "", "id", "record"], rows), *goes_on]


def _shown(one: Record) -> str:
    """The beginning of a record, on one line."""
    if one.text is None:
        return "(pruned)" if one.pruned_at else "(gone)"
    text = " ".join(one.text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
