"""Open the dataset, the mapped table and the writer of each model of an execution."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ..config import Sync
from ..errors import ConfigError
from ..fetch import first_request
from ..http import redact, secrets_of
from ..settings import Settings
from ..sources import Model, Source
from ..store import Connection, Database, datasets, parents, syncs, tables
from ..store.datasets import Dataset
from ..store.overwrite import Overwrite
from ..store.queue import Claim
from ..store.sync_row import SyncRow
from ..store.tables import MappedTable
from ..store.tally import Writer
from ..store.upsert import Upsert
from .access import ConnectionAccess, access_of
from .functions import load_function
from .lease import Lease
from .values import Wishes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The input of an execution, known before anything is read or written."""

    database: Database
    settings: Settings
    row: SyncRow
    sync: Sync
    """The config of the row, with the wishes of this execution."""
    claim: Claim
    source: Source
    wishes: Wishes
    lease: Lease

    @property
    def empties(self) -> bool:
        """Whether all records are deleted first."""
        return self.wishes.empty_cache or self.claim.empty_cache

    @property
    def resets(self) -> bool:
        """Whether the source is read from its beginning, whatever was read before."""
        return self.empties or self.wishes.reset or self.claim.reset


@dataclass(frozen=True)
class OpenModel:
    """One model, ready to be written."""

    sync: Sync
    """The sync's config, with the model's name, key and table."""
    dataset: Dataset
    table: MappedTable | None
    writer: Writer


@dataclass(frozen=True)
class Opened:
    """The access and the models of an execution; the models come last, as their errors need the access."""

    datasets: tuple[Dataset, ...] = ()
    access: ConnectionAccess | None = None
    models: tuple[OpenModel, ...] = ()

    def close(self) -> None:
        """Close the writers' temporary files and threads."""
        for model in self.models:
            model.writer.close()


def open_datasets(plan: Plan) -> Opened:
    """The dataset of each model; emptied where the plan says so."""
    stored = tuple(_dataset(plan, sync) for sync in syncs_of(plan))
    if plan.empties:
        plan.database.transact(lambda connection: _empty(connection, plan, stored))
        stored = tuple(_dataset(plan, sync) for sync in syncs_of(plan))
    if any(dataset.payloads_wanted for dataset in stored):
        plan.database.transact(lambda connection: _ask_for_all(connection, plan, stored))
        stored = tuple(
            replace(dataset, etag=None, payloads_wanted=False) if dataset.payloads_wanted else dataset
            for dataset in stored
        )
    return Opened(stored)


def open_access(plan: Plan, opened: Opened) -> Opened:
    """The connection's credentials, where the source needs them."""
    return replace(opened, access=_access(plan)) if plan.source.needs_access else opened


def open_models(plan: Plan, opened: Opened) -> Opened:
    """The mapped tables, their rows mapped again where the mapping changed, and the writers."""
    configs, check = syncs_of(plan), plan.lease.check
    without_secrets = partial(starred, plan.sync, opened.access)
    mapped = [
        _table(plan, sync, dataset, without_secrets) for sync, dataset in zip(configs, opened.datasets, strict=True)
    ]
    models = []
    for sync, dataset, table in zip(configs, opened.datasets, mapped, strict=True):
        writer = Upsert if sync.mode == "upsert" else Overwrite
        models.append(OpenModel(sync, dataset, table, writer(plan.database, sync, dataset, table, check)))
    return replace(opened, models=tuple(models))


def starred(sync: Sync, access: ConnectionAccess | None, text: str) -> str:
    """A text of foreign code, without the secrets that the config and the connection hold."""
    if access is None:
        return text
    return redact(text, [*secrets_of(first_request(sync)), *access.secrets()])


def syncs_of(plan: Plan) -> Sequence[Sync]:
    """The sync's config once for each model that the source saves."""
    models = plan.source.models
    if plan.sync.for_each is not None:
        # Its lists are compared one by one; one execution may read only a few of them.
        return [plan.sync.model_copy(update={"track_deletes": None})]
    if not models:
        return [plan.sync]
    return [_sync_of(plan, model, is_first=model is models[0]) for model in models]


def _sync_of(plan: Plan, model: Model, *, is_first: bool) -> Sync:
    plain = re.sub(r"\W", "_", model.name.lower())
    default_table = plan.sync.mapped_table if is_first else f"{tables.table_name(plan.sync, plan.row.id)}_{plain}"
    tracking = model.track_deletes
    if tracking is not None and plan.wishes.accept_deletes:
        tracking = tracking.model_copy(update={"max_fraction": 1.0})
    fields = {
        "model": model.name,
        "unique_key": model.unique_key,
        "mapped_table": model.mapped_table or default_table,
        "track_deletes": tracking,
    }
    return plan.sync.model_copy(update=fields)


# --- the dataset ------------------------------------------------------------------------------------------------------


def _dataset(plan: Plan, sync: Sync) -> Dataset:
    """The records of one model for this connection and variant; those under the model's old name are renamed."""
    claim, database = plan.claim, plan.database
    names = (sync.integration_key, claim.connection_id, claim.variant, sync.model)
    with database.ask() as connection:
        stored = datasets.of_one(connection, claim.target)
    for dataset in stored:
        if (dataset.integration, dataset.model) == (sync.integration_key, sync.model):
            return dataset
    if len(stored) == 1 and len(plan.source.models) <= 1:
        _refuse_of_others(plan, datasets.find(database, *names))
        database.transact(lambda connection: _rename(connection, plan, sync, stored[0]))
    dataset = datasets.find_or_make(database, plan.row.id, *names)
    _refuse_of_others(plan, dataset)
    return dataset


def _refuse_of_others(plan: Plan, dataset: Dataset | None) -> None:
    """Two syncs that wrote the same records would delete each other's."""
    if dataset is None or dataset.sync_id == plan.row.id:
        return
    other = syncs.get(plan.database, dataset.sync_id)
    name = other.name if other is not None else f"with the id {dataset.sync_id}"
    raise ConfigError(
        f"{plan.sync.display_name}: the model {dataset.model} of {dataset.integration} is stored by the sync {name}; "
        f"give one of them another model. If that is this sync's old name: nango-dagster remove {name}, and its "
        "records are read again."
    )


def _rename(connection: Connection, plan: Plan, sync: Sync, dataset: Dataset) -> None:
    plan.lease.check(connection)
    tables.rename_rows(connection, plan.database, dataset, sync.integration_key, sync.model)
    datasets.rename(connection, dataset, sync.integration_key, sync.model)


def _empty(connection: Connection, plan: Plan, stored: Sequence[Dataset]) -> None:
    """Mark every record as deleted, so that this execution adds those again that it reads."""
    plan.lease.check(connection)
    for dataset in stored:
        tables.forget_dataset(connection, plan.database, dataset)
        datasets.mark_emptied(connection, plan.database, dataset)


def _ask_for_all(connection: Connection, plan: Plan, stored: Sequence[Dataset]) -> None:
    """Before any record is looked up: what is pruned from now on may not come back with this execution."""
    plan.lease.check(connection)
    for dataset in stored:
        datasets.ask_for_all(connection, dataset.id)
        parents.start_over(connection, dataset.id)


# --- the credentials --------------------------------------------------------------------------------------------------


def _access(plan: Plan) -> ConnectionAccess:
    return access_of(plan.database, plan.settings, plan.row, plan.claim, cancelled=plan.lease.is_stopped)


def needs_all(dataset: Dataset, sync: Sync) -> bool:
    """Whether the whole list has to be read, not only what changed since the last success.

    That is so where the dataset was emptied and not filled since, or where its records have another key: records that
    are not read under the new key are deleted at the end.
    """
    has_other_key = dataset.has_mixed_keys or dataset.unique_key != sync.key_name
    return dataset.is_emptied or (dataset.live_count > 0 and has_other_key)


# --- the mapped table -------------------------------------------------------------------------------------------------


def _table(plan: Plan, sync: Sync, dataset: Dataset, without_secrets: Callable[[str], str]) -> MappedTable | None:
    """Open the mapped table, and map its rows again where the mapping has changed; None without auto_mapping."""
    database = plan.database
    transform = load_function(sync.transform) if sync.transform else None
    table = tables.open_table(database, plan.row.id, sync, transform, without_secrets)
    if table is None:
        if dataset.mapped_table is not None:
            database.transact(lambda connection: _unmap(connection, plan, dataset, dataset.mapped_table or ""))
        return None
    with database.ask() as connection:
        current = datasets.read(connection, dataset.id)
    if not table.is_current(current):
        count = tables.rebuild(database, table, current, plan.lease.check_or_stop)
        if count:
            log.info("%s: mapped %s records again into %s.", sync.display_name, f"{count:,}", table.name)
    return table


def _unmap(connection: Connection, plan: Plan, dataset: Dataset, table: str) -> None:
    """Keep the rows of a table that is not mapped any more; they count as out of date."""
    plan.lease.check(connection)
    datasets.mark_mapped(connection, dataset.id, table, None)
