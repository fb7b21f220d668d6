"""Column types that mean the same on PostgreSQL and SQLite."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Integer, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

SQLITE_TIME = "%Y-%m-%d %H:%M:%S.%f+00:00"


class UtcTime(TypeDecorator[datetime]):
    """A point in time, always UTC: `timestamptz`, or on SQLite the text `YYYY-MM-DD HH:MM:SS.ffffff+00:00`."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(DateTime(timezone=True) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(timezone.utc).strftime(SQLITE_TIME)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if isinstance(value, str):
            return datetime.fromisoformat(value)
        moment: datetime | None = value
        return moment.astimezone(timezone.utc) if moment else None


Id = BigInteger().with_variant(Integer(), "sqlite")
Json = JSON().with_variant(Text(), "sqlite")
# Keys are compared byte by byte, so that readers see one order on every server.
Key = Text().with_variant(Text(collation="C"), "postgresql")
