"""Fast rows and the rows that `Layout` makes are the same."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nango_dagster.mapping import TO_SQLITE, Layout, Misfit, Plan, as_csv, fast_rows_of
from nango_dagster.records import decode
from nango_dagster.store import Database
from nango_dagster.store.tables import table
from tests.strategies import json_values
from tests.writing import Target

ISSUE: dict[str, Any] = {
    "id": 1,
    "title": 'An "issue", about\nlines',
    "open": True,
    "score": 1.5,
    "at": "2024-01-15T10:30:00Z",
    "user": {"login": "ann", "site_admin": False, "plan": None},
    "labels": [{"name": "bug"}, {"name": "späť"}],
    "closed_at": None,
    "extra": {},
}


def seen(*records: Any, **plan: Any) -> Layout:
    """A layout that has columns for these records."""
    layout = Layout(TO_SQLITE, Plan(**plan))
    flat = layout.flatten([decode(text(record)) for record in records])
    layout.add(layout.new_columns(flat))
    layout.rows(flat)
    return layout


def text(record: Any) -> bytes:
    return record if isinstance(record, bytes) else json.dumps(record).encode()


def both(layout: Layout, record: Any) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The fast row, None where there is none, and the row that `Layout` makes."""
    cut = fast_rows_of(layout, csv=False)
    (short,) = cut([text(record)]) if cut else [None]
    columns = () if cut is None else [column.name for column in cut.columns]
    flat = layout.flatten([decode(text(record))])
    general = layout.rows(flat).values[0]
    names = [column.name for column in layout.columns]
    return (
        None
        if short is None
        else {name: value for name, value in zip(columns, short, strict=True) if value is not None},
        {name: value for name, value in zip(names, general, strict=True) if value is not None},
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"title": "", "score": 2, "open": False},
        {"user": None, "labels": []},
        {"user": {"login": None, "site_admin": None}, "labels": [None, {}]},
        {"labels": [{"name": "only"}]},
        {"score": 0.1, "id": 2**63 - 1},
        {"at": "2024-02-29"},
        {"at": "2024-01-15 10:30:00.123+02:00"},
        {"extra": None},
    ],
)
def test_a_record_of_the_same_shape_is_mapped_fast(changes: dict[str, Any]) -> None:
    short, general = both(seen(ISSUE), {**ISSUE, **changes})
    assert short == general


@pytest.mark.parametrize(
    "changes",
    [
        {"new": 1},
        {"user": {"login": "ann", "new": 1}},
        {"labels": [{"name": "a"}, {"name": "b"}, {"name": "c"}]},
        {"id": "one"},
        {"id": True},
        {"id": 2**63},
        {"open": 1},
        {"title": 5},
        {"title": "\x00"},
        {"title": "\ud800"},
        {"title": {"en": "x"}},
        {"at": "soon"},
        {"at": "2024-02-30T10:30:00Z"},
        {"score": "1"},
        {"score": Decimal},
        {"extra": {"a": 1}},
        {"closed_at": "2024-01-15"},
        {"user": "ann"},
    ],
)
def test_a_record_of_another_shape_goes_the_general_way(changes: dict[str, Any]) -> None:
    record = text({**ISSUE, **{key: value for key, value in changes.items() if value is not Decimal}})
    if changes.get("score") is Decimal:
        record = record.replace(b"1.5", b"123456789.123456789123")
    short, _ = both(seen(ISSUE), record)
    assert short is None


@pytest.mark.parametrize("record", [7, "x", None, [1], {'a"b': 1}, {"a\\b": 1}, {"\ud800": 1}, {"a": 1, "b": [[1], 2]}])
def test_records_of_any_kind_are_looked_at(record: Any) -> None:
    short, general = both(seen(record), record)
    assert short in (None, general)


@pytest.mark.parametrize(
    "metadata",
    [{"company": 7}, {"rate": 1.5}, {"plan": {"name": "pro"}}, {"id": "theirs"}, {"big": 10**30 + 1}, {"at": "x"}],
)
def test_metadata_is_the_same_both_ways(metadata: dict[str, Any]) -> None:
    layout = seen(ISSUE, metadata=metadata)
    short, general = both(layout, ISSUE)
    assert short in (None, general)
    again = Layout(TO_SQLITE, Plan(metadata={"id": "text", "at": "soon"}))
    again.add(seen(ISSUE).columns)  # the fields had columns first, of types that the metadata does not fit
    assert both(again, ISSUE)[0] is None


lists = st.lists(json_values | st.dictionaries(st.sampled_from("abc"), json_values, max_size=3), min_size=1, max_size=4)


@given(first=lists, second=lists)
@hypothesis_settings(deadline=None, max_examples=200)
def test_whatever_the_records_are_both_ways_make_the_same_row(first: list[Any], second: list[Any]) -> None:
    layout = seen(*first)
    for record in [*first, *second]:
        short, general = both(layout, record)
        assert short in (None, general)


STRANGE = [
    "",
    "null",
    "NULL",
    "\\N",
    "\\.",
    "a\n\\.\nb",
    '"',
    '""',
    "\\",
    '\\"',
    ",",
    "a,b",
    "\r\n",
    "\n",
    "\t",
    " x ",
    "\b\f",
    "\x01",
    "\x7f",
    "\u2028",
    "é😀",
    "%s",
    "'",
    "x" * 5000,
    "2024-01-15",
]


def test_the_database_reads_both_ways_alike(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"id": 0, "s": "text", "t": "text", "n": 1.5, "at": "2024-01-15T10:30:00Z", "on": True, "l": [1]}
    numbers = [b"0", b"-0.0", b"1e2", b"1E-400", b"1e400", b"1e99999", b"0.10", b"9" * 90, b"9" * 2000, b"null", b'"x"']
    times = ["2024-02-29", "2024-01-15T10:30:00.1234567-05:30", "0001-01-01", "9999-12-31T23:59:59Z", "soon", None]
    records = [
        *(text({"id": n, "s": strange, "t": strange + "x"}) for n, strange in enumerate(STRANGE, 1)),
        *(b'{"id":%d,"n":%s}' % (n, number) for n, number in enumerate(numbers, 100)),
        *(text({"id": n, "at": time, "on": None, "l": []}) for n, time in enumerate(times, 200)),
    ]
    short, general = (Target(db, name=name, unique_key="id", metadata={"m": 'a"\n', "r": 1.5}) for name in ("a", "b"))
    short.write([first])
    short.write(records)
    monkeypatch.setattr(table, "MOST_FAST_ROWS", -1)
    general.write([first])
    general.write(records)
    assert short.values() == general.values()
    for target in (short, general):
        target.assert_exact(allow_missing=True)


def test_control_characters_have_no_csv() -> None:
    with pytest.raises(Misfit):
        as_csv(["\x01"])
