"""Records that mean harm, or just are what they are: none is stored as another value, none costs another record."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nango_dagster.store import Database
from tests.strategies import json_values
from tests.writing import Target

modes = pytest.mark.parametrize("fields", [{"unique_key": "id"}, {}], ids=["upsert", "overwrite"])


def deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


# Each is a record's text around its id.
SMALL: dict[str, str] = {
    "NUL": r'{"id":%d,"s":"a\u0000b","t":"x"}',
    "a lone surrogate": r'{"id":%d,"s":"\ud800","t":"x"}',
    "a surrogate pair the wrong way round": r'{"id":%d,"s":"\ude00\ud83d","t":"x"}',
    "keys with NUL and surrogates": r'{"id":%d,"k\u0000":1,"k\ud800":2,"k":3}',
    "escapes of all kinds": r'{"id":%d,"s":"\b\f\n\r\t\\\"\/é\u007f\u0001\u001b\u2028\u0085"}',
    "an end of COPY": r'{"id":%d,"s":"a\n\\.\nb","t":"\\.","u":"\\N","v":"null","w":"","x":"NULL","y":"\\\\."}',
    "CSV": r'{"id":%d,"s":"a,b;\"c\",\n\"","t":"\"","u":"\\\"","v":"\r\n","w":"\\","x":",","y":"\n\n"}',
    "SQL": r"""{"id":%d,"s":"x\"; DROP TABLE t;--","x\"; DROP TABLE t;":1,"'; --":2,"%%s %%(a)s ? :a $1 %%%%":"?"}""",
    "names that collide": '{"id":%d,"a_b":1,"a":{"b":2},"A_B":3,"a_B":{"":4},"":5," ":6}',
    "names like our own": '{"id":%d,"_nango_sync_id":9,"_NANGO_MODEL":"x","xmin":1,"ctid":"y","oid":3,"rowid":4}',
    "paths like other paths": r'{"id":%d,"[mapping]x":1,"a.b":2,"c[0]":3,"d\\u0041":4,"e\"f":5,"g\\":6,"c":[7]}',
    "64 bits": '{"id":%d,"b":9223372036854775807,"c":-9223372036854775808,"d":9223372036854775808,"e":1e0}',
    "40 digits": '{"id":%d,"n":1234567890123456789012345678901234567890}',
    "5,000 digits": '{"id":%d,"n":' + "7" * 5000 + ',"m":-0.' + "7" * 5000 + "}",
    "exponents": '{"id":%d,"n":1e400,"m":-1E-400,"o":1e99999,"p":1e9999999,"q":1.5e3}',
    "a number without end": '{"id":%d,"endless":1e99999999999999999999}',
    "decimals": '{"id":%d,"n":1.10,"m":0.1,"o":123456789.123456789123456789,"p":-0.0,"q":1.0,"r":1e2}',
    "years": '{"id":%d,"y":"0001-01-01","z":"9999-12-31T23:59:59.999999Z","w":"10000-01-01","v":"0000-01-01"}',
    "200 levels": '{"id":%d,"d":' + deep(200) + "}",
    "2,000 levels": '{"id":%d,"d":' + deep(2000) + "}",
    "the same key twice": '{"id":0,"n":1,"n":"two","id":%d}',
    "blanks": '{ "id" :\n %d ,\r\n\t"n" : [ 1 , { } ] }',
    "nothing": '{"id":%d,"a":null,"b":{},"c":[],"d":[null,{}]}',
}
LARGE: dict[str, str] = {
    "10,000 fields": '{"id":%d,"last":1,' + ",".join(f'"f{n}":{n}' for n in range(10_000)) + "}",
    "1,000 texts": '{"id":%d,' + ",".join(f'"t{n}":"{"x" * 20}"' for n in range(1000)) + "}",
    "timestamps between booleans": '{"id":%d,'
    + ",".join(f'"on{n}":true,"at{n}":"2024-01-15"' for n in range(700))
    + "}",
    "1,000 numbers": '{"id":%d,' + ",".join(f'"n{n}":{n}.{n}' for n in range(1000)) + "}",
    "10 MB": '{"id":%d,"s":"' + r"\n\u00e9\"\\é" * 700_000 + '"}',
}
FIRST, LAST = b'{"id":1,"s":"before"}', b'{"id":999,"s":"after"}'


def store_and_check(target: Target, hostile: list[bytes]) -> None:
    """Store the records among others, twice, and change their blanks: everything is where it belongs."""
    page = [FIRST, *hostile, LAST]
    first = target.write(page)
    assert (first.counts, first.rejected) == ((len(page), 0, 0, 0), 0)
    assert sorted(target.live().values()) == sorted(text.decode() for text in page)
    target.assert_exact(allow_missing=True)
    assert target.write(page).counts == (0, 0, 0, len(page))
    target.write([FIRST, *(text.replace(b'"', b' "', 1) for text in hostile), LAST])
    target.assert_exact(allow_missing=True)
    rows = [row for row in target.values().values() if row.get("id") in (1, 999)]
    assert sorted(rows, key=lambda row: str(row["id"])) == [{"id": 1, "s": "before"}, {"id": 999, "s": "after"}]


@modes
def test_hostile_records_are_stored_as_they_were_sent_and_cost_no_other(db: Database, fields: dict[str, Any]) -> None:
    store_and_check(Target(db, **fields), [(text % id_).encode() for id_, text in enumerate(SMALL.values(), 2)])


@modes
def test_each_of_them_may_be_the_first_that_the_table_sees(db: Database, fields: dict[str, Any]) -> None:
    for number, text in enumerate(SMALL.values()):
        store_and_check(Target(db, name=f"sync-{number}", **fields), [(text % 2).encode()])


@pytest.mark.parametrize("name", LARGE)
def test_large_records_are_stored_as_they_were_sent(db: Database, name: str) -> None:
    store_and_check(Target(db, unique_key="id"), [(LARGE[name] % 2).encode()])


def test_large_records_of_an_overwrite_are_stored_as_they_were_sent(db: Database) -> None:
    names = ["1,000 texts", "10 MB"]
    store_and_check(Target(db), [(LARGE[name] % id_).encode() for id_, name in enumerate(names, 2)])


@modes
def test_what_is_no_text_or_what_the_database_refuses_costs_only_itself(db: Database, fields: dict[str, Any]) -> None:
    endless = f'{{"id":3,"d":{deep(100_000)}}}'.encode()  # PostgreSQL's parser of JSON says no
    target = Target(db, **fields)
    written = target.write([FIRST, b'{"id":2,"s":"\xff"}', endless, LAST])
    assert any("it is not valid UTF-8" in reason for reason in written.reasons)
    refused = ["the database does not store it: stack depth limit exceeded" in reason for reason in written.reasons]
    assert any(refused) == (db.engine.name == "postgresql")
    assert (written.added, written.rejected) == ((2, 2) if db.engine.name == "postgresql" else (3, 1))
    assert {FIRST.decode(), LAST.decode()} <= set(target.live().values())
    target.assert_exact(allow_missing=True)
    assert target.write([FIRST, LAST]).counts == (0, 0, 0 if fields or db.engine.name == "postgresql" else 1, 2)


@pytest.mark.parametrize(
    "key", ["\u0001", "\x1b[0m", "a\tb\nc\\.", "\\N", '"', "\u2028", "😀", "k" * 1024, "'; --", "%s"]
)
def test_any_text_is_a_key(db: Database, key: str) -> None:
    target = Target(db, unique_key="id")
    target.write([{"id": key, "n": 1}, {"id": "other"}])
    assert target.values() == {key: {"id": key, "n": 1}, "other": {"id": "other"}}
    assert target.write([{"id": key, "n": 2}, {"id": "other"}]).counts == (0, 1, 0, 1)
    assert target.values()[key] == {"id": key, "n": 2}
    target.assert_exact()


values = json_values | st.sampled_from(
    ["2024-01-15", "2024-01-15T10:30:00Z", "x\x00", "\ud800", "1", 10**40, 2**63, 1.1]
)
lists = st.lists(st.dictionaries(st.sampled_from(["a", "b", "a_b", "A"]), values, max_size=4), max_size=6)


@modes
@given(pages=st.lists(lists, min_size=1, max_size=4))
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_records_are_each_value_is_stored_as_it_is_or_counted(
    db: Database, fields: dict[str, Any], pages: list[list[dict[str, Any]]]
) -> None:
    target = Target(db, name=f"sync-{uuid.uuid4().hex}", **fields)
    for page in pages:
        records = [{"id": id_, **record} for id_, record in enumerate(page)]
        written = target.write([json.dumps(record).encode() for record in records])
        assert written.rejected == 0
        assert len(records) == written.added + written.updated + written.unchanged
        target.assert_exact(allow_missing=True)
