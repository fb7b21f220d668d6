"""The rules of the sync guide's "JSON-to-SQL schema mapping", and what becomes of records that strain them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nango_dagster.mapping import (
    MAX_COLUMNS,
    MAX_DEPTH,
    MAX_ROW_BYTES,
    TO_POSTGRESQL,
    TO_SQLITE,
    Column,
    Declared,
    Layout,
    Plan,
    Type,
    column_name,
    columns_of,
    flatten,
    infer,
    path_steps,
    path_text,
)
from nango_dagster.paths import ways
from nango_dagster.records import decode
from nango_dagster.timestamps import parse_timestamp
from tests.strategies import json_values

NULL = "\\N"


def layout(*, postgresql: bool = False, fold: bool = False, **plan: Any) -> Layout:
    """A layout of an empty table; the plan's columns are given as {name: (path, type)}."""
    columns = plan.pop("columns", {})
    declared = tuple(Declared(name, ways(path), Type(type_)) for name, (path, type_) in columns.items())
    return Layout(
        TO_POSTGRESQL if postgresql else TO_SQLITE,
        Plan(declared, **plan),
        nothing=NULL if postgresql else None,
        fold=str.lower if fold else str,
        max_row_bytes=MAX_ROW_BYTES if postgresql else None,
    )


def batch(table: Layout, *records: Any) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows of one batch, without what is null, after the table has got the columns they need."""
    flat = table.flatten(decode(json.dumps(record).encode()) for record in records)
    table.add(table.new_columns(flat))
    made = table.rows(flat)
    names = [column.name for column in table.columns]
    rows = [dict(zip(names, values, strict=True)) for values in made.values]
    return [{name: value for name, value in row.items() if value is not table.nothing} for row in rows], made.misfits


def types(table: Layout) -> dict[str, str]:
    return {column.name: column.type.value for column in table.columns}


# --- the sync guide ------------------------------------------------------------------------------------------------


def test_the_guides_first_example() -> None:
    table = layout()
    record = {"field": True, "parent": {"nested": "string_value"}, "nullField": None, "list": [1, 2]}
    rows, misfits = batch(table, record)
    assert types(table) == {"field": "boolean", "parent_nested": "string", "list_0": "number", "list_1": "number"}
    assert rows == [{"field": True, "parent_nested": "string_value", "list_0": 1, "list_1": 2}]
    assert not misfits


def test_the_guides_second_example() -> None:
    table = layout()
    rows, misfits = batch(
        table,
        {"name": "obj1", "num_users": 23},
        {"name": "obj2", "num_users": 182},
        {"name": "obj3", "num_users": "nango is great"},
    )
    assert types(table) == {"name": "string", "num_users": "number"}
    assert rows == [{"name": "obj1", "num_users": 23}, {"name": "obj2", "num_users": 182}, {"name": "obj3"}]
    assert misfits == {"num_users": 1}


def test_a_field_seen_later_becomes_a_new_column_and_one_not_seen_again_stays() -> None:
    table = layout()
    assert batch(table, {"a": 1})[0] == [{"a": 1}]
    assert batch(table, {"b": "x"})[0] == [{"b": "x"}]
    assert types(table) == {"a": "number", "b": "string"}


# --- names ---------------------------------------------------------------------------------------------------------


def test_there_is_an_underscore_at_every_level() -> None:
    record = {"a": {"b": {"c": 1}}, "list": [{"id": 7, "tags": ["x", {"y": True}]}], "m": [[1, [2]]]}
    assert flatten(record) == {
        "a_b_c": 1,
        "list_0_id": 7,
        "list_0_tags_0": "x",
        "list_0_tags_1_y": True,
        "m_0_0": 1,
        "m_0_1_0": 2,
    }


def test_nothing_comes_of_null_and_of_what_is_empty() -> None:
    assert flatten({"a": None, "b": {}, "c": [], "d": [None, {}], "e": "", "f": 0, "g": False}) == {
        "e": "",
        "f": 0,
        "g": False,
    }


@pytest.mark.parametrize(("record", "row"), [(7, 7), ("x", "x"), (True, True), (Decimal("1.5"), 1.5)])
def test_a_record_that_is_no_object_goes_to_the_column_value(record: Any, row: Any) -> None:
    assert flatten(record) == {"value": row}
    assert flatten([1, {"a": 2}]) == {"value_0": 1, "value_1_a": 2}
    assert flatten(None) == {}


@pytest.mark.parametrize(
    "name",
    ["Größe", "a b", 'say "hi"', "100%", "%s", "a:b", ":id", "x'; DROP TABLE users; --", "?", "$1", "select", "a\nb"],
)
def test_names_stay_as_they_are(name: str) -> None:
    assert flatten({name: 1}) == {name: 1}


@pytest.mark.parametrize(
    "name", ["", "_nango_sync_id", "_NANGO_x", "xmin", "ctid", "a\x00b", "\ud800", "k" * 64, "é" * 32, "日" * 22]
)
def test_names_that_no_column_may_have_get_a_hash(name: str) -> None:
    (found,) = flatten({name: 1})
    assert found != name
    assert len(found.encode()) <= 63
    assert found == next(iter(flatten({name: 1})))  # and always the same
    clean = "".join(letter for letter in name if letter not in "\x00\ud800")[:18]
    assert found.startswith(clean)


def test_names_of_63_bytes_need_no_hash() -> None:
    assert list(flatten({"k" * 63: 1, "é" * 31: 2})) == ["k" * 63, "é" * 31]


def test_long_names_that_begin_alike_are_told_apart() -> None:
    row = flatten({"k" * 70 + "a": 1, "k" * 70 + "b": 2})
    assert sorted(row.values()) == [1, 2]


@pytest.mark.parametrize("record", [{"a_b": 1, "a": {"b": 2}}, {"a": {"b": 2}, "a_b": 1}, {"l_0": 1, "l": [2]}])
def test_names_that_collide_are_told_apart_and_the_first_keeps_its_own(record: dict[str, Any]) -> None:
    (plain, hashed), values = zip(*flatten(record).items(), strict=True)
    assert plain in ("a_b", "l_0")
    assert hashed.startswith(f"{plain}_")
    assert sorted(values) == [1, 2]


def test_a_field_that_is_called_like_a_hashed_name_is_told_apart_too() -> None:
    hashed = column_name(("a", "b"), {"a_b": None}, str)
    row = flatten({"a_b": 1, hashed: 2, "a": {"b": 3}})
    assert len(row) == 3
    assert sorted(row.values()) == [1, 2, 3]


def test_names_that_differ_by_case_are_told_apart_where_the_database_does_not() -> None:
    record = {"Id": 1, "ID": 2, "id": 3}
    assert batch(layout(), record)[0] == [record]
    (row,) = batch(layout(fold=True), record)[0]
    assert len({name.lower() for name in row}) == 3
    assert list(row.values()) == [1, 2, 3]


def test_a_name_never_changes() -> None:
    table = layout()
    batch(table, {"a": {"b": 2}})
    (hashed,) = [column for column in table.new_columns(table.flatten([{"a_b": 1}]))]
    again = layout()
    again.add([*table.columns, hashed])
    assert batch(again, {"a_b": 1, "a": {"b": 2}})[0] == [{"a_b": 2, hashed.name: 1}]


steps = st.lists(st.text() | st.integers(0, 99), min_size=1, max_size=4).map(tuple)


@given(steps)
@settings(deadline=None, max_examples=300)
def test_a_path_is_text_that_any_database_keeps_and_leads_back_to_its_steps(path: tuple[str | int, ...]) -> None:
    text = path_text(path)
    assert path_steps(text) == path
    assert "\x00" not in text
    text.encode()


@pytest.mark.parametrize("key", ["\ud800", "a\x00b", "\\u0041", 'q"\ud800', "a\\", "[0]", "[mapping]x", "a.b", ""])
def test_a_strange_key_leads_back_to_itself(key: str) -> None:
    assert path_steps(path_text((key, 0, key))) == (key, 0, key)
    table = layout()
    rows, misfits = batch(table, {key: 1})
    again = layout()
    again.add(table.columns)
    assert batch(again, {key: 1}) == (rows, misfits)
    assert again.columns == table.columns


# --- types ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([True, "x"], "boolean"),
        ([1], "number"),
        ([1.5, True], "number"),
        ([0], "number"),
        (["x"], "string"),
        ([""], "string"),
        (["1"], "string"),
        (["00123", 1], "string"),
        (["+15551234567"], "string"),
        (["true"], "string"),
        (["2024-01-15"], "timestamp"),
        (["2024-01-15T10:30:00Z", 5, "2024-01-16"], "timestamp"),
        (["2024-01-15", "soon"], "string"),
        (["soon", "2024-01-15"], "string"),
    ],
)
def test_the_first_value_decides_and_strings_only_together(values: list[Any], type_: str) -> None:
    assert infer([Decimal(repr(value)) if isinstance(value, float) else value for value in values]).value == type_
    table = layout()
    batch(table, {"f": None}, *({"f": value} for value in values))
    assert types(table) == {"f": type_}


UTC = timezone.utc
TIMESTAMPS = {
    "2024-01-15": datetime(2024, 1, 15, tzinfo=UTC),
    "2024-01-15 10:30": datetime(2024, 1, 15, 10, 30, tzinfo=UTC),
    "2024-01-15T10:30": datetime(2024, 1, 15, 10, 30, tzinfo=UTC),
    "2024-01-15T10:30Z": datetime(2024, 1, 15, 10, 30, tzinfo=UTC),
    "2024-01-15T10:30:45": datetime(2024, 1, 15, 10, 30, 45, tzinfo=UTC),
    "2024-01-15T10:30:45Z": datetime(2024, 1, 15, 10, 30, 45, tzinfo=UTC),
    "2024-01-15 10:30:45.1": datetime(2024, 1, 15, 10, 30, 45, 100_000, tzinfo=UTC),
    "2024-01-15T10:30:45.123Z": datetime(2024, 1, 15, 10, 30, 45, 123_000, tzinfo=UTC),
    "2024-01-15T10:30:45.123456+00:00": datetime(2024, 1, 15, 10, 30, 45, 123_456, tzinfo=UTC),
    "2024-01-15T10:30:45.1234567Z": datetime(2024, 1, 15, 10, 30, 45, 123_456, tzinfo=UTC),
    "2024-01-15T10:30:45+02:00": datetime(2024, 1, 15, 8, 30, 45, tzinfo=UTC),
    "2024-01-15T10:30-0530": datetime(2024, 1, 15, 16, 0, tzinfo=UTC),
    "2024-01-15 10:30:45-0530": datetime(2024, 1, 15, 16, 0, 45, tzinfo=UTC),
    "2024-12-31T23:30:00-01:00": datetime(2025, 1, 1, 0, 30, tzinfo=UTC),
    "2024-02-29": datetime(2024, 2, 29, tzinfo=UTC),
    "0001-01-01T00:00:00Z": datetime(1, 1, 1, tzinfo=UTC),
    "9999-12-31T23:59:59.999999Z": datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
}
NO_TIMESTAMPS = [
    "",
    "2024",
    "2024-01",
    "2024-1-5",
    "20240115",
    "2024-01-15T",
    "2024-01-15T10",
    "2024-01-15T10:30:",
    "2024-01-15T10:30:45.",
    "2024-01-15T10:30:45,5",
    "2024-01-15T103000,5Z",
    "2024-01-15T10:30:45+2",
    "2024-01-15T10:30:45+02:99",
    "2024-01-15T10:30:45+24:00",
    "2024-01-15T10:30:45 Z",
    "2024-01-15T10:30:45z",
    "2024-01-15t10:30:45Z",
    " 2024-01-15",
    "2024-01-15\n",
    "2024-13-01",
    "2024-01-32",
    "2023-02-29",
    "2024-01-15T24:00:00Z",
    "2024-01-15T10:60:00Z",
    "2024-01-15T10:30:60Z",
    "2024-W03-1T10:30:00Z",
    "0000-01-01",
    "10000-01-01",
    "0001-01-01T00:00:00+02:00",
    "9999-12-31T23:59:59-01:00",
    "٢٠٢٤-٠١-١٥",
    "01/15/2024",
    "Mon, 15 Jan 2024 10:30:45 GMT",
    "yesterday",
    "1705314645",
]


@pytest.mark.parametrize("text", TIMESTAMPS)
def test_a_timestamp_is_read_in_every_documented_spelling(text: str) -> None:
    assert parse_timestamp(text) == TIMESTAMPS[text]
    assert flatten({"at": text}) == {"at": TIMESTAMPS[text].isoformat(" ", "microseconds")}


@pytest.mark.parametrize("text", NO_TIMESTAMPS)
def test_any_other_text_is_no_timestamp(text: str) -> None:
    assert parse_timestamp(text) is None
    assert flatten({"at": text}) == {"at": text}


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (True, 1),
        (True, "true"),
        (1, True),
        (1, "1"),
        ("x", 1),
        ("x", False),
        ("2024-01-15", "soon"),
        ("2024-01-15", 20240115),
    ],
)
def test_a_value_of_another_type_is_left_out_and_counted(first: Any, later: Any) -> None:
    table = layout()
    batch(table, {"f": first, "id": 1})
    assert batch(table, {"f": later, "id": 2}, {"f": None, "id": 3}) == ([{"id": 2}, {"id": 3}], {"f": 1})


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
def test_text_that_no_database_holds_is_left_out_and_counted(text: str) -> None:
    for postgresql in (True, False):
        assert batch(layout(postgresql=postgresql), {"f": "x"}, {"f": text}) == ([{"f": "x"}, {}], {"f": 1})


@pytest.mark.parametrize(
    ("number", "postgresql", "sqlite"),
    [
        ("0", "0", 0),
        ("1.10", "1.10", 1.1),
        ("-0.1", "-0.1", -0.1),
        ("9223372036854775807", "9223372036854775807", 2**63 - 1),
        ("9223372036854775808", "9223372036854775808", 2.0**63),
        ("9223372036854775809", "9223372036854775809", None),
        ("1234567890123456789012345678901234567890", "1234567890123456789012345678901234567890", None),
        ("100000000000000000000", "100000000000000000000", 1e20),
        ("123456789.123456789123", "123456789.123456789123", None),
        ("1e400", "1E+400", None),
        ("1e-400", "1E-400", None),
        ("1e999", "1E+999", None),
        ("1e1000", None, None),
        ("1" * 1000, "1" * 1000, None),
        ("1" * 1001, None, None),
        ("1" * 5000, None, None),
    ],
)
def test_a_number_is_stored_exactly_or_not_at_all(number: str, postgresql: str | None, sqlite: Any) -> None:
    for wanted, table in ((postgresql, layout(postgresql=True)), (sqlite, layout())):
        table.add([Column("n", Type.NUMBER, "n")])
        flat = table.flatten([decode(f'{{"n": {number}}}'.encode())])
        made = table.rows(flat)
        assert made.values == [[table.nothing if wanted is None else wanted]]
        assert made.misfits == ({"n": 1} if wanted is None else {})


# --- metadata and custom mapping ------------------------------------------------------------------------------------


def test_metadata_is_in_every_row_and_wins_over_a_field_of_its_name() -> None:
    metadata = {"company_id": 123, "plan": {"name": "pro", "rate": 0.1}, "since": "2024-01-15", "none": None}
    table = layout(metadata=metadata)
    rows, misfits = batch(table, {"id": 1, "company_id": "theirs"}, {"id": 2, "company_id": {"a": 1}})
    ours = {"company_id": 123, "plan": '{"name": "pro", "rate": 0.1}', "since": "2024-01-15"}
    assert rows == [{"id": 1, **ours}, {"id": 2, **ours}]
    assert not misfits
    assert types(table)["since"] == "string"


def test_metadata_wins_a_name() -> None:
    (row,) = batch(layout(metadata={"a_b": "ours"}), {"a": {"b": "theirs"}})[0]
    assert row.pop("a_b") == "ours"
    assert list(row.values()) == ["theirs"]


def test_declared_columns_are_there_from_the_start() -> None:
    table = layout(columns={"email": ("profile.email", "string"), "n": ("n", "number")}, extra="ignore")
    assert batch(table, {"profile": {"email": "a@b.c"}, "other": 1}) == ([{"email": "a@b.c"}], {})
    assert types(table) == {"email": "string", "n": "number"}
    assert batch(table, {"profile": None, "n": "7"}) == ([{}], {"n": 1})


def test_two_columns_may_read_one_place() -> None:
    table = layout(columns={"a": ("x", "string"), "b": ("x", "string"), "first": ("l.0", "number")}, extra="evolve")
    assert batch(table, {"x": "v", "l": [1, 2], "y": 3})[0] == [{"a": "v", "b": "v", "first": 1, "l_1": 2, "y": 3}]


@pytest.mark.parametrize("path", ["@odata.etag", "fields.total", "l[0]"])
@pytest.mark.parametrize("extra", ["evolve", "ignore", "fail"])
def test_a_key_that_is_the_whole_path_of_a_declared_column_wins(path: str, extra: str) -> None:
    table = layout(columns={"found": (path, "string")}, extra=extra)
    nested = {"@odata": {"etag": "nested"}, "fields": {"total": "nested"}, "l": ["nested"]}
    assert table.undeclared(table.flatten([{path: "whole"}])) == []
    rows, misfits = batch(table, {path: "whole"}, {path: None}, {})
    assert (rows, misfits) == ([{"found": "whole"}, {}, {}], {})
    assert [row.get("found") for row in batch(table, nested, {**nested, path: "whole"})[0]] == ["nested", "whole"]


def test_a_declared_object_is_kept_as_its_json_text() -> None:
    table = layout(columns={"address": ("address", "string"), "tags": ("tags", "string")}, extra="fail")
    flat = table.flatten(
        [decode('{"address": {"zip": "01", "n": 1.10, "é": 10000000000000000000000}, "tags": []}'.encode())]
    )
    assert table.undeclared(flat) == []
    table.add(table.new_columns(flat))
    assert table.rows(flat).values == [['{"zip":"01","n":1.10,"é":10000000000000000000000}', "[]"]]


def test_a_declared_object_that_is_no_text_is_left_out_and_counted() -> None:
    table = layout(columns={"address": ("address", "string")}, extra="ignore")
    assert batch(table, {"address": {"street": "\ud800"}}, {"address": "x"}) == ([{}, {"address": "x"}], {"address": 1})


def test_other_fields_can_be_left_out_or_complained_about() -> None:
    record = {"id": 1, "a": {"b": [2]}, "company": 5}
    plan: dict[str, Any] = {"columns": {"id": ("id", "number")}, "metadata": {"company": 7}}
    assert batch(layout(extra="ignore", **plan), record) == ([{"id": 1, "company": 7}], {})
    assert batch(layout(extra="evolve", **plan), record) == ([{"id": 1, "a_b_0": 2, "company": 7}], {})
    strict = layout(extra="fail", **plan)
    assert strict.undeclared(strict.flatten([record])) == ["a.b[0]"]
    assert strict.undeclared(strict.flatten([{"id": 1, "company": 2}])) == []


@pytest.mark.parametrize("extra", ["ignore", "fail"])
def test_a_frozen_schema_leaves_the_columns_of_others_alone(extra: str) -> None:
    """The table has columns from before, or of another sync."""
    table = layout(columns={"email": ("email", "string")}, extra=extra)
    table.add([Column("name", Type.STRING, "name"), Column("email", Type.STRING, table.plan.declared[0].path)])
    table.add([Column("other", Type.STRING, "[mapping]other")])
    flat = table.flatten([{"email": "a@b.c", "name": "Ann"}])
    assert table.undeclared(flat) == ["name"]
    assert table.rows(flat).values == [[None, "a@b.c", None]]


def test_a_field_called_like_a_declared_columns_path_is_a_field() -> None:
    table = layout(columns={"x": ("id", "number")}, extra="evolve")
    (row,) = batch(table, {"id": 1, "[mapping]x": 2, "mapping:x": 3})[0]
    assert row == {"x": 1, "[mapping]x": 2, "mapping:x": 3}


# --- limits --------------------------------------------------------------------------------------------------------


def test_a_table_has_at_most_1400_columns() -> None:
    table = layout()
    rows, misfits = batch(table, {f"f{n}": n for n in range(MAX_COLUMNS + 5)})
    assert len(table.columns) == len(rows[0]) == MAX_COLUMNS
    assert misfits == {f"f{n}": 1 for n in range(MAX_COLUMNS, MAX_COLUMNS + 5)}
    assert batch(table, {"f0": 1, "new": 2}) == ([{"f0": 1}], {"new": 1})


def test_ten_thousand_fields_are_counted_where_they_find_no_column() -> None:
    table = layout()
    record = {"id": 1, "by_user": {f"u{n}": n for n in range(10_000)}}
    rows, misfits = batch(table, record)
    assert len(rows[0]) + misfits.total() == 10_001
    _, again = batch(table, {"id": 2, "by_user": {f"v{n}": n for n in range(10_000)}})
    assert again.total() == 10_000
    assert len(again) < 10  # a count for each field ever seen would fill the memory


def test_fields_that_nobody_wants_are_not_counted() -> None:
    table = layout(columns={"id": ("id", "number")}, extra="ignore")
    assert batch(table, {"id": 1, **{f"f{n}": n for n in range(10_000)}}) == ([{"id": 1}], {})


def test_a_field_too_deep_or_with_too_long_a_path_is_counted() -> None:
    deep: dict[str, Any] = {"at": MAX_DEPTH}
    for level in range(MAX_DEPTH - 1, -1, -1):
        deep = {"at": level, "a": deep}
    rows, misfits = batch(layout(), deep, {"k" * 2001: 1, "b": 1})
    assert len(rows[0]) + misfits.total() - 1 == MAX_DEPTH + 1
    assert rows[1] == {"b": 1}
    assert misfits["(the record)"] == 1


@pytest.mark.parametrize(
    ("value", "fit"),
    [("x" * 20, 7800 // 21), ("x" * 10_000, 7800 // 18), (1234567, 7800 // 11), (True, 1000), ("2024-01-15", 975)],
)
def test_a_row_is_no_wider_than_a_page(value: Any, fit: int) -> None:
    rows, misfits = batch(layout(postgresql=True), {f"f{n}": value for n in range(1000)})
    assert len(rows[0]) == fit
    assert misfits.total() == 1000 - fit
    assert batch(layout(), {f"f{n}": value for n in range(1000)})[1] == {}


def test_what_does_not_fit_a_page_makes_room_for_smaller_values() -> None:
    record = {**{f"f{n}": "x" * 20 for n in range(400)}, "last": True}
    rows, _ = batch(layout(postgresql=True), record)
    assert rows[0]["last"] == "t"


def test_timestamps_between_other_values_take_the_room_they_are_aligned_to() -> None:
    record: dict[str, Any] = {}
    for n in range(600):
        record |= {f"on{n}": True, f"at{n}": "2024-01-15"}
    rows, _ = batch(layout(postgresql=True), record)
    assert len(rows[0]) <= 2 * 7800 // 16 + 600


# --- whatever the records are ----------------------------------------------------------------------------------------


def leaves(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [leaf for item in value for leaf in leaves(item)]
    return [] if value is None else [value]


def is_stored_as(column: Column, stored: Any, value: Any) -> bool:
    """Whether a row's value is the record's."""
    if column.type is Type.TIMESTAMP:
        return datetime.fromisoformat(stored.replace("Z", "+00:00")).replace(tzinfo=UTC) == parse_timestamp(value)
    if column.type is Type.NUMBER:
        return value in (Decimal(stored), Decimal(str(stored)))  # a double stands for what it is, or is written as
    if column.type is Type.BOOLEAN:
        return stored in (value, "t" if value else "f")
    return value in (stored, re.sub(r"\\(.)", lambda escape: COPY_ESCAPES.get(escape[1], escape[0]), stored))


COPY_ESCAPES = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}
records_ = st.lists(json_values | st.dictionaries(st.sampled_from("abc"), json_values, max_size=3), max_size=4)


@pytest.mark.parametrize("postgresql", [True, False])
@given(first=records_, second=records_)
@settings(deadline=None, max_examples=150)
def test_every_value_is_stored_as_it_is_or_counted(postgresql: bool, first: list[Any], second: list[Any]) -> None:
    table = layout(postgresql=postgresql, fold=not postgresql)
    for values in (first, second):
        decoded = [decode(json.dumps(value).encode()) for value in values]
        flat = table.flatten(decoded)
        table.add(table.new_columns(flat))
        made = table.rows(flat)
        stored = 0
        for record, row in zip(decoded, made.values, strict=True):
            assert len(row) == len(table.columns)
            for column, value in zip(table.columns, row, strict=True):
                if value is table.nothing:
                    continue
                stored += 1
                found = record if isinstance(record, dict) else {"value": record}
                for step in path_steps(column.path):
                    found = found[step]
                assert is_stored_as(column, value, found)
        assert stored + made.misfits.total() == sum(len(leaves(record)) for record in decoded)


def test_a_dry_run_shows_the_columns_there_would_be() -> None:
    assert columns_of([{"a": 1}, {"b": ["x"]}]) == [
        Column("a", Type.NUMBER, "a"),
        Column("b_0", Type.STRING, "b[0]"),
    ]


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([False, "", 12.5], "number"),
        ([False, "Second"], "string"),
        (["", "2024-01-15"], "timestamp"),
        ([False, True], "boolean"),
        ([False, 0], "number"),
        ([False, False], "boolean"),
        (["", ""], "string"),
    ],
)
def test_false_and_an_empty_text_decide_a_type_only_alone(values: list[Any], type_: str) -> None:
    """Many APIs send them in place of a value of another type."""
    assert infer(values).value == type_
