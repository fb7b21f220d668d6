"""`tables` and `remove`: the stored rows of syncs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError, Refused
from .command import Session, as_body, ask, command, grid, sync_argument, with_common_options
from .formatting import no_such_sync, number_of

if TYPE_CHECKING:
    from ..runs import Execution
    from ..store import Database
    from ..store.catalog import TableInfo
    from ..store.datasets import Dataset
    from ..store.sync_row import SyncRow
    from ..store.tables import MappedTable, TypeChange


@click.group("tables", invoke_without_command=True, epilog="Example: nango-dagster tables --json")
@click.pass_context
def tables(ctx: click.Context, /, **options: Any) -> None:
    """Show the mapped tables.

    It shows the columns with type and JSON path, the number of rows, and the syncs that fill the table.

    With --json, for each table: name, rows, syncs (names), columns (name, type, path).
    """
    if ctx.invoked_subcommand is None:
        as_body(_show_tables)(**options)
    else:
        ctx.default_map = {ctx.invoked_subcommand: options}  # given before its name, they are the subcommand's too


with_common_options(tables)


def _show_tables(session: Session) -> None:
    from ..store.catalog import mapped_tables

    with session.database() as database:
        mapped = mapped_tables(database)
    parts = [part for table in mapped for part in _table_for_people(table)]
    session.answer([_table_document(table) for table in mapped], *(parts or ["no mapped tables yet"]))


def _table_document(table: TableInfo) -> dict[str, Any]:
    columns = [{"name": column.name, "type": column.type.value, "path": column.path} for column in table.columns]
    return {"name": table.name, "rows": table.rows, "syncs": list(table.syncs), "columns": columns}


def _table_for_people(table: TableInfo) -> list[Any]:
    filled_by = f", filled by {', '.join(table.syncs)}" if table.syncs else ""
    columns = [(f"  {column.name}", column.type.value, column.path) for column in table.columns]
    return [f"{table.name}: {number_of(table.rows, 'row')}{filled_by}", grid(["  column", "type", "from"], columns), ""]


@command("rebuild", example="tables rebuild pokemon")
@sync_argument
@click.option("--dry-run", "only_show", is_flag=True, help="Only show the columns that would get another type.")
@click.option("--yes", is_flag=True, help="Do not ask before a column gets another type.")
def rebuild(session: Session, name: str, only_show: bool, yes: bool) -> None:
    """Map a sync's stored records again.

    The rows are made from _nango_raw with the current config, without any request. Rows whose records have no payload
    any more stay as they are. The next execution does the same if the mapping has changed or the table is missing; this
    command does it now.

    If all values of a column fit another type better, the command asks, and then gives the column that type. The column
    is created again, so rows without a payload lose their value in it.

    With --json: sync, table, types (column, path, from, to, fitting, would_fit), rows, pruned (records whose rows
    stay), misfits (column: values that did not fit). It needs --yes if a type changes.
    """
    from ..runs import claimed

    with session.database() as database:
        row = _current(session, database, name)
        if not row.sync.auto_mapping:
            raise ConfigError(f"{name} has auto_mapping: false, so it has no table; wanted auto_mapping: true.")
        with (
            session.notes.status(f"Mapping the records of {name} again"),
            claimed(database, session.settings, row) as execution,
        ):
            changes = _type_changes(execution)
            shown = [_change_document(change) for change in changes]
            if only_show:
                session.answer({"sync": name, "types": shown}, *(_change_lines(shown) or [f"{name}: no type changes."]))
                return
            if changes and not yes:
                for line in _change_lines(shown):
                    session.notes.print(line)
                ask(session, f"Change {number_of(len(changes), 'column')}?")
            document = {"sync": name, "types": shown, **_rebuild(execution, changes)}
    summary = f"{name}: mapped {number_of(document['rows'], 'record')} into {document['table']}"
    pruned = number_of(document["pruned"], "pruned record")
    session.answer(
        document, f"{summary}; the rows of {pruned} stay unchanged." if document["pruned"] else f"{summary}."
    )


tables.add_command(rebuild)


def _current(session: Session, database: Database, name: str) -> SyncRow:
    """The sync with its present config; the stored one if it has no config file."""
    from ..store import syncs

    configured = next((sync for sync in session.configs.syncs if sync.name == name), None)
    if configured is not None:
        return syncs.register(database, [configured])[name]
    return _stored(database, name)


def _stored(database: Database, name: str) -> SyncRow:
    from ..store import syncs

    row = syncs.by_name(database, name)
    if row is None:
        raise ConfigError(no_such_sync(name, "in the database", [row.name for row in syncs.all(database)]))
    return row


def _type_changes(execution: Execution) -> list[TypeChange]:
    """The types that the records of all connections suggest."""
    from ..store import datasets, tables

    database, row = execution.database, execution.row
    table = tables.open_table(database, row.id, row.sync, allow_other_types=True)
    assert table is not None
    with database.connect() as connection:
        stored = datasets.of_sync(connection, row.id)
    return tables.type_changes(database, table, stored)


def _change_document(change: TypeChange) -> dict[str, Any]:
    return {
        "column": change.column.name,
        "path": change.column.path,
        "from": change.column.type.value,
        "to": change.type.value,
        "fitting": change.fitting,
        "would_fit": change.would_fit,
    }


def _change_lines(changes: Sequence[dict[str, Any]]) -> list[str]:
    return [
        f"{change['column']}: {change['from']} -> {change['to']}; {number_of(change['fitting'], 'value')} fit now, "
        f"{change['would_fit']:,} would."
        for change in changes
    ]


def _rebuild(execution: Execution, changes: Sequence[TypeChange]) -> dict[str, Any]:
    """Map the rows of the claimed target again; each transaction checks that the claim is still held."""
    from ..runs import load_function
    from ..store import datasets, jobs, queue, tables
    from ..store.target import Target

    database, row, claim = execution.database, execution.row, execution.claim

    def guard(connection: Any) -> None:
        queue.lock_dataset(connection, database, claim.target)
        queue.check(connection, database, claim)

    transform = load_function(row.sync.transform) if row.sync.transform else None
    table = tables.open_table(database, row.id, row.sync, transform, allow_other_types=bool(changes))
    assert table is not None
    if changes:
        _change_types(database, table, changes, guard)
        table = tables.open_table(database, row.id, row.sync, transform)
        assert table is not None
    with database.connect() as connection:
        sync_datasets = datasets.of_sync(connection, row.id)
    mine = [dataset for dataset in sync_datasets if Target.of(dataset) == claim.target]
    before = _problem_sentences(database, mine)
    count = sum(tables.rebuild(database, table, dataset, guard) for dataset in mine)
    after = _problem_sentences(database, mine)
    database.transact(lambda connection: jobs.replace_warnings(connection, claim.target, before, after))
    pruned = tables.count_pruned(database, [dataset.id for dataset in mine])
    return {"table": table.name, "rows": count, "pruned": pruned, "misfits": dict(table.misfits)}


def _problem_sentences(database: Database, datasets: Sequence[Dataset]) -> list[str]:
    """The warnings that stand on datasets as long as their rows lack values."""
    from ..store import problems

    with database.ask() as connection:
        return [text for one in datasets for text in problems.read(connection, one.id).problems.sentences()]


def _change_types(
    database: Database, table: MappedTable, changes: Sequence[TypeChange], guard: Callable[[Any], None]
) -> None:
    from ..store import tables

    def change(connection: Any) -> None:
        guard(connection)
        tables.change_types(connection, table, changes)

    database.transact(change)


@command("remove", example="remove pokemon --with-data")
@sync_argument
@click.option("--with-data", is_flag=True, help="Required: delete the stored data.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(session: Session, name: str, with_data: bool, yes: bool) -> None:
    """Delete a sync with everything that it stored.

    This includes its records, mapped rows, own table and jobs. To stop a sync and keep its rows, delete its config
    file, or set `enabled: false` in it. If the config file still exists, the next execution stores all records again.

    With --json: sync, removed, records. --json needs --yes.
    """
    from ..store import datasets, syncs

    with session.database() as database:
        row = _stored(database, name)
        with database.connect() as connection:
            count = sum(dataset.live_count for dataset in datasets.of_sync(connection, row.id))
        what = f"the sync {name} with its {number_of(count, 'record')}, its mapped rows and its jobs"
        if not with_data:
            raise Refused(f"--with-data is missing: it deletes {what}. Nothing was done.")
        if not yes:
            ask(session, f"Delete {what}?")
        syncs.delete(database, row.id)
    session.answer({"sync": name, "removed": True, "records": count}, f"Deleted {what}.")
    if any(sync.name == name for sync in session.configs.syncs):
        folder = os.path.relpath(session.settings.configs)
        session.warn(f"Its config is still in {folder}; the next execution stores everything anew.")
