"""The statements of docs/reference/mapping.md about a mapped table work as written."""

from __future__ import annotations

import re

import sqlalchemy as sa

from nango_dagster.mapping import columns_of, flatten
from nango_dagster.records import decode
from nango_dagster.settings import Settings
from nango_dagster.store import Database
from tests.conftest import ROOT
from tests.executions import Source, execute, stored
from tests.fake_api import FakeApi

PAGE = (ROOT / "docs" / "reference" / "mapping.md").read_text()


def block(language: str) -> str:
    """The page's first block of a language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)
    assert found is not None
    return found[1]


def test_the_record_becomes_the_columns_and_values_that_are_shown() -> None:
    record = decode(block("json").encode())
    shown = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \|$", PAGE.partition("## Columns")[0], re.M)
    assert [(column.name, column.type.value) for column in columns_of([record])] == [line[:2] for line in shown]
    row = {name: str(value).replace(".000000", "") for name, value in flatten(record).items()}
    assert row == {name: value.capitalize() if type_ == "boolean" else value for name, type_, value in shown}


def test_the_query_finds_the_values_that_did_not_fit(db: Database, settings: Settings, api: FakeApi) -> None:
    source = Source(api, [{"id": 1, "score": 5}, {"id": 2, "score": "five"}, {"id": 3}])
    row = source.registered(db, unique_key="id", mapped_table="users")
    execute(db, settings, row)
    with db.connect() as connection:
        found = connection.execute(sa.text(block("sql").rstrip(";\n"))).all()
    assert [row.external_id for row in found] == ["2"]


def test_a_column_that_was_dropped_gets_the_type_of_the_first_value_then(
    db: Database, settings: Settings, api: FakeApi
) -> None:
    source = Source(api, [{"id": 1, "score": 5}])
    row = source.registered(db, unique_key="id", mapped_table="users")
    execute(db, settings, row)
    source.records = [{"id": 1, "score": "five"}]
    execute(db, settings, row)
    assert stored(db, row).mapped == [{"id": 1}]
    with db.begin() as connection:
        connection.execute(sa.text("ALTER TABLE users DROP COLUMN score"))
    execute(db, settings, row)
    assert stored(db, row).mapped == [{"id": 1, "score": "five"}]
