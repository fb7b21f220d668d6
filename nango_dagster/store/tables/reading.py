"""The rows of a mapped table, with the same values from both databases."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from ... import mapping
from ...config import Sync
from ..database import Database
from ..system_columns import quote
from .columns import registered
from .names import table_name

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Names = tuple[str, str]
"""A connection and variant."""

_SYSTEM_TYPES = {
    "_nango_sync_id": mapping.Type.NUMBER,
    "_nango_emitted_at": mapping.Type.TIMESTAMP,
    "_nango_deleted_at": mapping.Type.TIMESTAMP,
}


def exists(database: Database, sync_id: int, sync: Sync) -> bool:
    """Whether the sync's mapped table exists."""
    with database.connect() as connection:
        return registered(connection, table_name(sync, sync_id)) is not None


def rows(
    database: Database, sync_id: int, sync: Sync, only: Sequence[Names] | None = None, size: int = 1000
) -> Iterator[dict[str, Any]]:
    """The live rows of a sync's mapped table, of these connections and variants or of all, one dict each.

    Both databases give the same values: int, float (Decimal where that is not exact), bool, str, datetime in UTC.
    """
    with database.connect() as connection:
        types = _types(connection, table_name(sync, sync_id))
        query = _select(database, sync_id, sync, only)
        result = connection.execution_options(yield_per=size).execute(query)
        names = list(result.keys())
        values = [_VALUES[types.get(name, mapping.Type.STRING)] for name in names]
        for row in result:
            yield {
                name: None if item is None else value(item)
                for name, value, item in zip(names, values, row, strict=True)
            }


def data_frame(database: Database, sync_id: int, sync: Sync, only: Sequence[Names] | None = None) -> DataFrame:
    """The live rows as a pandas DataFrame; a column has the type that holds its values exactly, if there is one."""
    import pandas

    with database.connect() as connection:
        types = _types(connection, table_name(sync, sync_id))
        result = connection.execute(_select(database, sync_id, sync, only))
        names = list(result.keys())
        columns = list(zip(*result.all(), strict=True)) or [()] * len(names)
    return pandas.DataFrame(
        {name: _series(column, types.get(name)) for name, column in zip(names, columns, strict=True)}
    )


def _types(connection: Connection, name: str) -> dict[str, mapping.Type]:
    return {**_SYSTEM_TYPES, **{column.name: column.type for column in registered(connection, name) or ()}}


def _select(database: Database, sync_id: int, sync: Sync, only: Sequence[Names] | None) -> Any:
    name = quote(table_name(sync, sync_id)).replace(":", "\\:")
    query = f"SELECT * FROM {name} WHERE _nango_sync_id = :sync AND _nango_deleted_at IS NULL"
    values: dict[str, Any] = {"sync": sync_id}
    if only is not None:
        pairs = database.rows.json_items(":pairs")
        query += f" AND (_nango_connection_id, _nango_variant) IN (SELECT value ->> 0, value ->> 1 FROM {pairs})"
        values["pairs"] = json.dumps([list(pair) for pair in only])
    return text(f"{query} ORDER BY _nango_connection_id, _nango_variant, _nango_unique_key").bindparams(**values)


def _number(value: Any) -> Any:
    """The int or float that equals a number, where there is one."""
    if isinstance(value, Decimal):
        if value == value.to_integral_value():
            return int(value)
        return float(value) if Decimal(repr(float(value))) == value else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _timestamp(value: Any) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value.astimezone(timezone.utc)


_VALUES: dict[mapping.Type, Callable[[Any], Any]] = {
    mapping.Type.BOOLEAN: bool,
    mapping.Type.NUMBER: _number,
    mapping.Type.STRING: lambda value: value,
    mapping.Type.TIMESTAMP: _timestamp,
}


def _series(column: Sequence[Any], type_: mapping.Type | None) -> Series[Any]:
    import pandas

    value = _VALUES[type_ or mapping.Type.STRING]
    values = [None if item is None else value(item) for item in column]
    has_nulls = None in values
    if type_ is mapping.Type.BOOLEAN:
        return pandas.Series(values, dtype="boolean" if has_nulls else bool)
    if type_ is mapping.Type.NUMBER:
        return pandas.Series(values, dtype=_number_type(values, has_nulls))
    if type_ is mapping.Type.TIMESTAMP:
        moments = pandas.Series(values, dtype=object)
        try:
            return pandas.to_datetime(moments, utc=True)
        except ValueError:  # a year that pandas' own type does not reach
            return moments
    return pandas.Series(values, dtype=object)


def _number_type(values: Sequence[Any], has_nulls: bool) -> Any:
    if not all(value is None or isinstance(value, int) for value in values):
        return float
    if any(value is not None and abs(value) >= 2**63 for value in values):
        return object
    return "Int64" if has_nulls else "int64"
