"""A script without a store: its records stay in memory, for a dry run and for tests."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ..checkpoint import Checkpoint, check_flat
from ..config import Sync
from ..errors import ConfigError, NangoError, RecordRejected
from ..http import Reach
from ..models import RecordModel
from ..records import decode, key_reader
from ..sources import Ending, Numbers, Source, SourceContext
from .fixtures import Results
from .records import METADATA


@dataclass(frozen=True)
class TrialInput:
    """The values that a trial gives to the script in place of the store."""

    metadata: Mapping[str, Any] | None = None
    connection: Mapping[str, Any] = field(default_factory=dict, repr=False)
    checkpoint: Checkpoint | None = None
    last_sync_date: datetime | None = None
    variant: str = "base"
    connection_id: str = "test"
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass
class TrialResult:
    """The effects of a script, and its end."""

    saved: dict[str, list[Any]] = field(default_factory=dict)
    """The records by model, in the order of their saving."""
    updated: dict[str, list[Any]] = field(default_factory=dict)
    deleted: dict[str, list[str]] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    rejected: list[str] = field(default_factory=list)
    """A sentence for each record that cannot be saved, or does not fit its model."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """The connection's metadata afterwards."""
    numbers: Numbers = field(default_factory=Numbers)
    ending: Ending | None = None
    error: NangoError | None = None

    @property
    def results(self) -> Results:
        """The parts that a recorded file has."""
        return Results(self.saved, self.updated, self.deleted, self.checkpoint)


def try_script(sync: Sync, source: Source, context: SourceContext, trial_input: TrialInput) -> TrialResult:
    """Run a script to its end, or to its error, and store nothing."""
    services = MemoryServices(sync, trial_input)
    sink = MemorySink(sync, services)
    context = dataclasses.replace(
        context,
        services=services,
        checkpoint=trial_input.checkpoint,
        variant=trial_input.variant,
        connection_id=trial_input.connection_id,
        started_at=datetime.now(timezone.utc),
    )
    result = sink.result
    result.checkpoint = trial_input.checkpoint
    try:
        result.ending = source.read(context, sink)
    except NangoError as error:
        result.error = error
    result.metadata = dict(services.metadata() or {})
    return result


class MemorySink:
    """Keeps what a script saves."""

    def __init__(self, sync: Sync, services: MemoryServices) -> None:
        self.result = TrialResult()
        self._sync = sync
        self._services = services
        self._windows: set[str] = set()
        self._read_keys = key_reader(sync.key_fields)

    def save(self, records: Sequence[bytes], model: str | None = None, where: str | None = None) -> None:
        """See Sink.save."""
        name = model or self._sync.model
        for record in self._good(records, name):
            self.result.saved.setdefault(name, []).append(record)
            self._services.keep(name, record)

    def update(self, records: Sequence[bytes], model: str | None = None) -> int:
        """See Sink.update; every key counts as known."""
        name = model or self._sync.model
        self.result.updated.setdefault(name, []).extend(self._good(records, name, is_partial=True))
        return 0

    def delete(self, keys: Sequence[str], model: str | None = None) -> int:
        """See Sink.delete; every key counts as stored."""
        self.result.deleted.setdefault(model or self._sync.model, []).extend(keys)
        return len(keys)

    def reject(self, where: str, reason: str, model: str | None = None) -> None:
        """See Sink.reject."""
        self.result.rejected.append(f"{model or self._sync.model}: record {where}: {reason}")

    def commit(self) -> None:
        """See Sink.commit."""

    def check(self) -> None:
        """See Sink.check."""

    def save_checkpoint(self, checkpoint: Checkpoint | None) -> None:
        """See Sink.save_checkpoint."""
        if checkpoint is not None:
            check_flat(checkpoint)
        self.result.checkpoint = checkpoint

    def open_window(self, model: str | None = None) -> bool:
        """See Sink.open_window."""
        name = model or self._sync.model
        was_open = name in self._windows
        self._windows.add(name)
        return was_open

    def close_window(self, model: str | None = None) -> list[str]:
        """See Sink.close_window; nothing is stored, so nothing is deleted."""
        name = model or self._sync.model
        if name not in self._windows:
            raise ConfigError(f"{self._sync.display_name}: no deletion window is open for the model {name}.")
        self._windows.discard(name)
        return []

    def drop_window(self, model: str | None = None) -> None:
        """See Sink.drop_window."""
        self._windows.discard(model or self._sync.model)

    def rejections(self) -> int:
        """See Sink.rejections."""
        return len(self.result.rejected)

    def count(self, numbers: Numbers) -> None:
        """See Sink.count."""
        self.result.numbers = numbers

    def _good(self, records: Sequence[bytes], model: str, *, is_partial: bool = False) -> Iterator[Any]:
        """The decoded records with a key; those that do not fit the model are told of, and kept."""
        schema = self._sync.models.get(model)
        for position, (key, record) in enumerate(zip(self._read_keys(records), records, strict=True)):
            if isinstance(key, RecordRejected):
                self.reject(str(position), str(key), model)
                continue
            reason = None if schema is None or is_partial else RecordModel(model, schema).misfit(record)
            if reason is not None:
                self.result.rejected.append(f"{model}: the record {key} does not fit the model: {reason}")
            yield _plain(decode(record))


class MemoryServices:
    """The connection and the stored records of a trial."""

    reach: Reach = "anywhere"

    def __init__(self, sync: Sync, trial_input: TrialInput) -> None:
        self.last_sync_date = trial_input.last_sync_date
        self.environment = trial_input.environment
        self._sync = sync
        self._input = trial_input
        self._metadata = dict(trial_input.metadata or {})
        self._stored: dict[str, dict[str, Any]] = defaultdict(dict)
        self._locks: set[str] = set()

    def keep(self, model: str, record: Mapping[str, Any]) -> None:
        """Keep a saved record, so that the script can read it again."""
        self._stored[model][str(record.get("id"))] = dict(record)

    def metadata(self) -> dict[str, Any] | None:
        """See Services.metadata."""
        return dict(self._metadata)

    def change_metadata(self, metadata: Mapping[str, Any], *, replace: bool) -> None:
        """See Services.change_metadata."""
        self._metadata = {**({} if replace else self._metadata), **metadata}

    def connection(self, *, force_refresh: bool = False, refresh_token: bool = False) -> dict[str, Any]:
        """See Services.connection."""
        names = {"connection_id": self._input.connection_id, "provider_config_key": self._sync.integration_key}
        return {
            **names,
            "credentials": {},
            "connection_config": {},
            **self._input.connection,
            "metadata": self._metadata,
        }

    def records(self, model: str | None = None, ids: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """See Services.records."""
        stored = self._stored[model or self._sync.model]
        for key, record in stored.items():
            if ids is None or key in ids:
                yield {**record, METADATA: {"last_action": "ADDED"}}

    def modified_after(self, moment: datetime, keys: Sequence[str], model: str | None = None) -> set[str]:
        """See Services.modified_after."""
        return set()

    def last_change(self, model: str | None = None) -> datetime | None:
        """See Services.last_change."""
        return None

    def acquire_lock(self, key: str, seconds: float) -> bool:
        """See Services.acquire_lock."""
        self._locks.add(key)
        return True

    def release_lock(self, key: str) -> bool:
        """See Services.release_lock."""
        is_held = key in self._locks
        self._locks.discard(key)
        return is_held

    def release_locks(self) -> None:
        """See Services.release_locks."""
        self._locks.clear()


def _plain(value: Any) -> Any:
    """Decoded JSON with floats in place of exact numbers, as `json.loads` reads it."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return float(value) if type(value).__name__ == "Decimal" else value
