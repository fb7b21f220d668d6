"""The store and the connection as a sync script sees them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import msgspec

from ..errors import ConfigError
from ..http import Reach
from ..records import encode
from ..store import checkpoints, connections, datasets, integrations, listing, script_locks
from ..store.changes import Record
from ..store.datasets import Dataset
from ..store.listing import RecordSelection
from .access import credentials_of, reach_of
from .connection_answer import connection_document
from .opening import Opened, Plan

_PAGE = 100
_ACTIONS = {"added": "ADDED", "updated": "UPDATED", "deleted": "DELETED"}


class StoreServices:
    """See `sources.Services`."""

    def __init__(self, plan: Plan, opened: Opened) -> None:
        self._plan = plan
        self._opened = opened
        self._owner = uuid.uuid4().hex
        self._has_locks = False

    @property
    def last_sync_date(self) -> datetime | None:
        """See Services.last_sync_date."""
        if self._plan.resets:
            return None
        with self._plan.database.ask() as connection:
            return checkpoints.last_sync_at(connection, self._plan.claim.schedule_id)

    @property
    def environment(self) -> Mapping[str, str]:
        """See Services.environment."""
        return self._plan.settings.env

    @property
    def reach(self) -> Reach:
        """See Services.reach."""
        return reach_of(self._plan.database, self._plan.settings)

    # --- the connection -----------------------------------------------------------------------------------------------

    def metadata(self) -> dict[str, Any] | None:
        """See Services.metadata."""
        if not self._plan.sync.partitioned:
            return None
        return self._row().metadata

    def change_metadata(self, metadata: Mapping[str, Any], *, replace: bool) -> None:
        """See Services.change_metadata."""
        row, change = self._row(), connections.set_metadata if replace else connections.update_metadata
        encode(metadata)  # raises RecordRejected for what is no JSON
        change(self._plan.database, row.integration, row.connection_id, metadata)

    def connection(self, *, force_refresh: bool = False, refresh_token: bool = False) -> dict[str, Any]:
        """See Services.connection."""
        plan, row = self._plan, self._row()
        credentials = credentials_of(
            plan.database, plan.settings, row.integration, row.connection_id, fresh=force_refresh
        )
        if credentials and self._opened.access is not None:
            self._opened.access.hide(credentials)
        stored = integrations.list_integrations(plan.database, row.integration)
        provider = (stored[0].provider if stored else None) or row.integration
        return connection_document(row, credentials, provider=provider, refresh_token=refresh_token)

    def _row(self) -> connections.ConnectionRow:
        plan = self._plan
        if not plan.sync.partitioned:
            raise ConfigError(
                f"{plan.sync.display_name}: it has no connections, and so neither metadata nor credentials; set "
                "integration."
            )
        row = connections.get(plan.database, plan.sync.integration_key, plan.claim.connection_id)
        if row is None:
            raise ConfigError(f"{plan.sync.display_name}: the connection {plan.claim.connection_id} was deleted.")
        return row

    # --- stored records -----------------------------------------------------------------------------------------------

    def records(self, model: str | None = None, ids: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """See Services.records."""
        dataset = self._dataset(model)
        for batch in [None] if ids is None else [ids[at : at + _PAGE] for at in range(0, len(ids), _PAGE)]:
            selection: RecordSelection | None = RecordSelection(ids=batch)
            while selection is not None:
                page = listing.page(self._plan.database, dataset.id, selection, _PAGE)
                yield from (_document(record, dataset.id) for record in page.records)
                selection = RecordSelection(after=page.next, ids=batch) if page.next is not None else None

    def modified_after(self, moment: datetime, keys: Sequence[str], model: str | None = None) -> set[str]:
        """See Services.modified_after."""
        dataset, modified = self._dataset(model), set()
        for at in range(0, len(keys), _PAGE):
            selection = RecordSelection(ids=keys[at : at + _PAGE], modified_after=moment)
            page = listing.page(self._plan.database, dataset.id, selection, _PAGE)
            modified |= {record.external_id for record in page.records if record.last_modified_at > moment}
        return modified

    def last_change(self, model: str | None = None) -> datetime | None:
        """See Services.last_change."""
        dataset = self._dataset(model)
        with self._plan.database.ask() as connection:
            return datasets.read(connection, dataset.id).last_modified_at

    def _dataset(self, model: str | None) -> Dataset:
        stored = self._opened.datasets
        return stored[0] if model is None else next(dataset for dataset in stored if dataset.model == model)

    # --- locks --------------------------------------------------------------------------------------------------------

    def acquire_lock(self, key: str, seconds: float) -> bool:
        """See Services.acquire_lock."""
        self._has_locks = True
        return script_locks.acquire(self._plan.database, key, self._owner, seconds)

    def release_lock(self, key: str) -> bool:
        """See Services.release_lock."""
        return script_locks.release(self._plan.database, key, self._owner)

    def release_locks(self) -> None:
        """See Services.release_locks."""
        if self._has_locks:
            script_locks.release(self._plan.database, None, self._owner)


def _document(record: Record, dataset_id: int) -> dict[str, Any]:
    """A stored record for a script; a pruned one has its id alone."""
    content = msgspec.json.decode(record.text) if record.text else {}
    fields = content if isinstance(content, dict) else {"value": content}
    times = {
        "first_seen_at": record.first_seen_at,
        "last_modified_at": record.last_modified_at,
        "deleted_at": record.deleted_at,
        "pruned_at": record.pruned_at,
    }
    metadata = {
        **{name: moment and _text(moment) for name, moment in times.items()},
        "last_action": _ACTIONS[record.action],
        "cursor": str(record.cursor(dataset_id)),
    }
    return {"id": record.external_id, **fields, "_nango_metadata": metadata}


def _text(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
