"""Reading records over HTTP: what changed, in the order it changed, page by page."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from nango_dagster.settings import Settings
from nango_dagster.store import Database, datasets
from tests.apis import calling
from tests.writing import Target

HEADERS = {"Connection-Id": "default", "Provider-Config-Key": "default"}


@pytest.fixture
def http(settings: Settings, db: Database) -> Iterator[TestClient]:
    with calling(settings, db) as client:
        yield client


def answer(http: TestClient, **query: Any) -> dict[str, Any]:
    got = http.get("/records/", params={"model": "Items", **query}, headers=HEADERS, follow_redirects=False)
    assert got.status_code == 200, got.text
    found: dict[str, Any] = got.json()
    return found


def ids(http: TestClient, **query: Any) -> list[Any]:
    return [record["id"] for record in answer(http, **query)["records"]]


def changed(db: Database) -> Target:
    """Records of which 1 was added, 2 updated and 3 deleted."""
    target = Target(db, unique_key="id", track_deletes=True)
    target.write([{"id": 1}, {"id": 2}, {"id": 3}])
    target.write([{"id": 1}, {"id": 2, "name": "new"}])
    return target


def test_records_come_in_the_order_they_changed_with_what_became_of_them(http: TestClient, db: Database) -> None:
    changed(db)
    found = answer(http)
    assert [(one["id"], one["_nango_metadata"]["last_action"]) for one in found["records"]] == [
        (1, "ADDED"),
        (2, "UPDATED"),
        (3, "DELETED"),
    ]
    assert found["next_cursor"] is None
    first = found["records"][0]["_nango_metadata"]
    assert first["first_seen_at"] == first["last_modified_at"]
    assert (first["deleted_at"], first["pruned_at"]) == (None, None)
    assert found["records"][2]["_nango_metadata"]["deleted_at"].endswith("Z")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("added", [1]),
        ("updated", [2]),
        ("deleted", [3]),
        ("added,updated", [1, 2]),
        ("added,deleted", [1, 3]),
        ("DELETED,UPDATED", [2, 3]),
        ("added,updated,deleted", [1, 2, 3]),
    ],
)
def test_a_filter_is_a_union(wanted: str, expected: list[int], http: TestClient, db: Database) -> None:
    changed(db)
    assert ids(http, filter=wanted) == expected


def test_a_cursor_leads_through_all_pages_and_on_to_what_changes_later(http: TestClient, db: Database) -> None:
    target = Target(db, unique_key="id")
    target.write([{"id": f"k{n:02}"} for n in range(7)])
    seen, query = [], {"limit": 3}
    while True:
        page = answer(http, **query)
        seen += [record["id"] for record in page["records"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == [f"k{n:02}" for n in range(7)]
    last = page["records"][-1]["_nango_metadata"]["cursor"]
    target.write([{"id": "k03", "now": 1}])
    assert ids(http, cursor=last) == ["k03"]


def test_ids_and_times_narrow(http: TestClient, db: Database) -> None:
    changed(db)
    assert ids(http, ids=["1", "3", "9"]) == [1, 3]
    assert ids(http, modified_after="2000-01-01T00:00:00Z") == [1, 2, 3]
    assert ids(http, modified_after="2999-01-01") == []
    assert ids(http, variant="other") == ids(http, model="Unknown") == []


def test_a_payload_is_passed_on_as_it_was_sent(http: TestClient, db: Database) -> None:
    Target(db, unique_key="id").write([b'{ "id": 12345678901234567890, "price": 1.10, "n": 1E5 }'])
    got = http.get("/records", params={"model": "Items"}, headers=HEADERS).text
    assert '{ "id": 12345678901234567890, "price": 1.10, "n": 1E5 ,"_nango_metadata":{' in got


def test_the_key_is_the_id_where_another_field_is_unique(http: TestClient, db: Database) -> None:
    Target(db, unique_key="slug").write([{"a": 1, "id": 7, "slug": "x"}, {"slug": "y", "_nango_metadata": 5}])
    first, second = answer(http)["records"]
    assert (first["id"], list(first)) == ("x", ["a", "id", "slug", "_nango_metadata"])
    assert (second["id"], second["_nango_metadata"]["last_action"]) == ("y", "ADDED")
    assert first["_nango_metadata"]["payload_id"] == 7
    assert "payload_id" not in second["_nango_metadata"]


def test_a_record_that_is_no_object_has_its_value_in_a_field(http: TestClient, db: Database) -> None:
    Target(db).write(["red"])
    (record,) = answer(http)["records"]
    assert (record["value"], list(record)) == ("red", ["id", "value", "_nango_metadata"])


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 501},
        {"limit": "many"},
        {"filter": "gone"},
        {"filter": ""},
        {"cursor": "nonsense"},
        {"cursor": base64.b64encode(b"2024-01-01T00:00:00Z||a\0b").decode()},
        {"cursor": base64.b64encode(b"2024-01-01||7").decode()},
        {"cursor": "é"},
        {"modified_after": "yesterday"},
        {"modified_after": "5"},
        {"modified_after": ""},
        {"delta": ""},
        {"delta": "", "modified_after": "2024-01-01"},
        {"modified_after": "9999-12-31T23:59:59-05:00"},
        {"ids": [str(n) for n in range(101)]},
        {"ids": "a\0b"},
        {"model": "1tems"},
        {"model": ""},
        {"model": "Items\n"},
        {"limit": "٣"},
        {"limit": "1_0"},
        {"limit": ["5", "6"]},
        {"variant": "a b"},
        {"modifed_after": "2024-01-01"},
    ],
)
def test_a_query_that_cannot_be_is_refused(query: dict[str, Any], http: TestClient, db: Database) -> None:
    changed(db)
    got = http.get("/records", params={"model": "Items", **query}, headers=HEADERS)
    error = got.json()["error"]
    assert (got.status_code, error["code"]) == (400, "invalid_query_params")
    assert error.get("errors") or "the URL contains a NUL character" in error["message"]


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ({"limit": "x"}, "invalid_type", 'limit is "x", but should be a whole number.'),
        ({"limit": 0}, "too_small", 'limit is "0", but should be greater than or equal to 1.'),
        ({"model": "items"}, "invalid_format", 'model is "items", but should match pattern '),
        ({"ids": ["a"] * 101}, "too_big", "ids is a list, but should have at most 100 items."),
        ({"colour": "red"}, "unrecognized_keys", 'the query parameter "colour" is not expected here'),
    ],
)
def test_what_is_wrong_with_a_query_has_a_code_and_a_place(
    query: dict[str, Any], code: str, message: str, http: TestClient
) -> None:
    got = http.get("/records", params={"model": "Items", **query}, headers=HEADERS)
    (one,) = got.json()["error"]["errors"]
    assert (one["code"], one["path"]) == (code, list(query))
    assert one["message"].startswith(message)


def test_a_connection_that_is_not_there_is_said(http: TestClient, db: Database) -> None:
    changed(db)
    missing = http.get("/records", params={"model": "Items"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (400, "invalid_headers")
    assert missing.json()["error"]["message"] == "Connection-Id is missing. Provider-Config-Key is missing."
    unknown = http.get("/records", params={"model": "Items"}, headers={**HEADERS, "Connection-Id": "acme"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, "unknown_connection")


def prune(http: TestClient, **body: Any) -> dict[str, Any]:
    got = http.patch("/records/prune", json={"model": "Items", **body}, headers=HEADERS)
    assert got.status_code == 200, got.text
    found: dict[str, Any] = got.json()
    return found


@pytest.mark.parametrize("id", [1, "1", 2.5, -7, 10**20, "a", "ü"])
@pytest.mark.parametrize("extra", [{}, {"text": "nul \\u0000, half \\ud800, \\\\u0000"}], ids=["plain", "escapes"])
def test_an_id_keeps_its_json_type_when_its_record_is_pruned_and_deleted(
    id: Any, extra: dict[str, str], http: TestClient, db: Database
) -> None:
    target = Target(db, unique_key="id", track_deletes={"min_rows": 10})
    text = json.dumps({"id": id}).encode()
    target.write([text[:-1] + b', "text": "' + extra["text"].encode() + b'"}' if extra else text])
    (record,) = answer(http)["records"]
    assert record["id"] == id
    assert prune(http, until_cursor=record["_nango_metadata"]["cursor"])["count"] == 1
    (pruned,) = answer(http)["records"]
    assert (pruned["id"], type(pruned["id"])) == (id, type(id))
    target.write([])
    (deleted,) = answer(http)["records"]
    assert (deleted["id"], type(deleted["id"])) == (id, type(id))
    assert deleted["_nango_metadata"]["last_action"] == "DELETED"


def test_the_key_of_another_field_is_a_text_before_and_after_pruning(http: TestClient, db: Database) -> None:
    Target(db, unique_key="number").write([{"number": 5, "id": 5}])
    (record,) = answer(http)["records"]
    assert prune(http, until_cursor=record["_nango_metadata"]["cursor"])["count"] == 1
    assert record["id"] == answer(http)["records"][0]["id"] == "5"


def test_records_of_an_emptied_dataset_are_deleted_until_they_come_back(http: TestClient, db: Database) -> None:
    target = Target(db, unique_key="id", track_deletes=True)
    target.write([{"id": 1}, {"id": 2}, {"id": 3}])
    cursor = answer(http)["records"][-1]["_nango_metadata"]["cursor"]
    db.transact(lambda connection: datasets.mark_emptied(connection, db, datasets.read(connection, target.dataset.id)))
    assert [(one["id"], one["_nango_metadata"]["last_action"]) for one in answer(http, cursor=cursor)["records"]] == [
        (1, "DELETED"),
        (2, "DELETED"),
        (3, "DELETED"),
    ]
    target.write([{"id": 2}, {"id": 4}])
    seen = {one["id"]: one["_nango_metadata"]["last_action"] for one in answer(http, cursor=cursor)["records"]}
    assert seen == {1: "DELETED", 2: "ADDED", 3: "DELETED", 4: "ADDED"}


def test_a_cursor_of_another_dataset_is_refused(http: TestClient, db: Database) -> None:
    target = Target(db, unique_key="id")
    target.write([{"id": 1}, {"id": 2}])
    Target(db, connection="acme", unique_key="id").write([{"id": 1}])
    of_acme = http.get("/records", params={"model": "Items"}, headers={**HEADERS, "Connection-Id": "acme"}).json()
    cursor = of_acme["records"][0]["_nango_metadata"]["cursor"]
    refused = http.get("/records", params={"model": "Items", "cursor": cursor}, headers=HEADERS)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_query_params")
    assert "belongs to another connection, model or variant" in refused.json()["error"]["message"]
    body = {"model": "Items", "until_cursor": cursor}
    refused = http.patch("/records/prune", json=body, headers=HEADERS)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_body")
    # Not its end: also behind the last record it is refused, and one without a dataset, as Nango's are, is taken.
    late = base64.b64encode(b"2999-01-01T00:00:00Z|999|x").decode()
    assert http.get("/records", params={"model": "Items", "cursor": late}, headers=HEADERS).status_code == 400
    assert ids(http, cursor=base64.b64encode(b"2024-01-01T00:00:00Z||7").decode()) == [1, 2]


def test_a_pruned_record_is_its_id_and_what_became_of_it(http: TestClient, db: Database) -> None:
    target = changed(db)
    before = answer(http)["records"]
    last = before[2]["_nango_metadata"]["cursor"]
    assert prune(http, until_cursor=last, limit=1) == {"count": 1, "has_more": True}
    assert prune(http, until_cursor=last) == {"count": 2, "has_more": False}
    assert prune(http, until_cursor=last, model="Others") == {"count": 0, "has_more": False}
    after = answer(http)["records"]
    assert [list(record) for record in after] == [["id", "_nango_metadata"]] * 3
    assert [record["id"] for record in after] == [1, 2, 3]
    assert all(record["_nango_metadata"].pop("pruned_at") for record in after)
    for record in before:
        assert record["_nango_metadata"].pop("pruned_at") is None
    assert [one["_nango_metadata"] for one in after] == [one["_nango_metadata"] for one in before]
    target.write([{"id": 1}, {"id": 2, "name": "new"}])
    assert [record.get("name") for record in answer(http)["records"]] == [None, "new", None]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"until_cursor": "nonsense"},
        {"until_cursor": ""},
        {"until_cursor": 5},
        {"limit": 0},
        {"limit": "1"},
        {"limit": 1.5},
        {"model": "1tems"},
        {"variant": "a b"},
        {"cursor": "x"},
    ],
)
def test_a_prune_that_cannot_be_prunes_nothing(body: dict[str, Any], http: TestClient, db: Database) -> None:
    changed(db)
    cursor = {} if not body else {"until_cursor": answer(http)["records"][2]["_nango_metadata"]["cursor"]}
    got = http.patch("/records/prune", json={"model": "Items", **cursor, **body}, headers=HEADERS)
    assert (got.status_code, got.json()["error"]["code"]) == (400, "invalid_body")
    assert got.json()["error"]["errors"]
    assert [record["id"] for record in answer(http)["records"]] == [1, 2, 3]


def test_pruning_a_connection_that_is_not_there_is_refused(http: TestClient, db: Database) -> None:
    changed(db)
    body = {"model": "Items", "until_cursor": answer(http)["records"][2]["_nango_metadata"]["cursor"]}
    got = http.patch("/records/prune", json=body)
    assert (got.status_code, got.json()["error"]["code"]) == (400, "invalid_headers")
    got = http.patch("/records/prune", json=body, headers={**HEADERS, "Connection-Id": "acme"})
    assert (got.status_code, got.json()["error"]["code"]) == (400, "unknown_connection")
    got = http.patch("/records/prune?limit=1", json=body, headers=HEADERS)
    assert (got.status_code, got.json()["error"]["code"]) == (400, "invalid_query_params")
