"""The reference at /docs: every route with its errors, and the records of each sync with the fields they have."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.testclient import TestClient

from nango_dagster.api.docs import record_schemas as api_models
from nango_dagster.api.input.models import Strict
from nango_dagster.config import Sync, from_body
from nango_dagster.mapping import Type
from nango_dagster.settings import Settings
from nango_dagster.store import Database, syncs
from tests.apis import URL, calling
from tests.executions import execute
from tests.fake_api import FakeApi

ISSUE = {
    "id": 7,
    "title": "It is slow",
    "open": True,
    "updated": "2024-01-15T10:30:00Z",
    "user": {"login": "ann", "site.admin": False},
    "labels": [{"name": "bug"}, {"name": "ui", "color": "red"}],
    "$ref": "#/components/schemas/Nothing",
    "__proto__": "x",
    "<script>alert(1)</script>": 'a"b',
}


def reference(http: TestClient) -> dict[str, Any]:
    """The document of /openapi.json, which is valid."""
    answer = http.get("/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    OpenAPIV31SpecValidator(found).validate()
    return found


def known(found: dict[str, Any]) -> set[str]:
    """The schemas of records."""
    return {name for name in found["components"]["schemas"] if name.startswith("records.")}


def test_a_declared_model_is_shown_as_it_is(settings: Settings, db: Database) -> None:
    node = {"type": "object", "properties": {"parent": {"$ref": "#/$defs/Node"}}}
    issue = {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "title": {"type": "string"}, "node": {"$ref": "#/$defs/Node"}},
        "required": ["title"],
        "additionalProperties": False,
        "$defs": {"Node": node},
    }
    body = {"url": "http://127.0.0.1:9/issues", "unique_key": "id", "models": {"Issue": issue}}
    syncs.post(db, from_body(body), named=False)
    with calling(settings, db) as http:
        shown = reference(http)["components"]["schemas"]["records.default.Issue"]
    assert shown["properties"]["title"] == {"type": "string"}
    assert shown["required"] == ["id", "title", "_nango_metadata"] and "additionalProperties" not in shown
    moved = "#/components/schemas/records.default.Issue/$defs/Node"
    assert shown["properties"]["node"] == shown["$defs"]["Node"]["properties"]["parent"] == {"$ref": moved}


def test_a_sync_that_ran_is_shown_with_its_fields(api: FakeApi, settings: Settings, db: Database) -> None:
    api.route("/issues", [ISSUE, {**ISSUE, "id": 8, "title": None, "user": "nobody"}])
    row = syncs.post(db, Sync(name="issues", url=f"{api.url}/issues", model="Issue", unique_key="id"), named=True)
    with calling(settings, db) as http:
        assert set(reference(http)["components"]["schemas"]["records.default.Issue"]["properties"]) == {
            "id",
            "_nango_metadata",
        }
        execute(db, settings, row)
        found = reference(http)
        issue = found["components"]["schemas"]["records.default.Issue"]
        fields = issue["properties"]
        assert set(fields) == {*ISSUE, "_nango_metadata"}
        assert fields["id"] == {"type": ["number", "null"]}
        assert fields["open"] == {"type": ["boolean", "null"]}
        assert fields["title"] == fields["updated"] == {"type": ["string", "null"]}
        assert fields["user"]["type"] == ["object", "string", "null"]
        assert set(fields["user"]["properties"]) == {"login", "site.admin"}
        assert set(fields["labels"]["items"]["properties"]) == {"name", "color"}
        of = {"$ref": "#/components/schemas/records.default.Issue"}
        assert of in found["components"]["schemas"]["RecordList"]["properties"]["records"]["items"]["anyOf"]
        (model,) = (one for one in found["paths"]["/records"]["get"]["parameters"] if one["name"] == "model")
        assert model["examples"]["records.default.Issue"]["value"] == "Issue"
        (record, _) = http.get(
            "/records",
            params={"model": "Issue"},
            headers={"Connection-Id": "default", "Provider-Config-Key": "default"},
        ).json()["records"]
        assert set(record) == set(fields)


def test_what_a_config_declares_is_shown_before_anything_ran(settings: Settings, db: Database) -> None:
    columns = {"login": {"path": "user.login", "type": "string"}, "first": {"path": "labels[0].name", "type": "string"}}
    body = {"url": URL, "name": "issues", "mapping": {"columns": columns}, "metadata": {"company": 7}}
    syncs.post(db, from_body(body), named=True)
    with calling(settings, db) as http:
        fields = reference(http)["components"]["schemas"]["records.default.Issues"]["properties"]
    assert fields["user"] == {"properties": {"login": {"type": ["string", "null"]}}, "type": ["object", "null"]}
    assert set(fields["labels"]["items"]["properties"]) == {"name"}
    assert "company" not in fields


def test_names_that_are_alike_are_told_apart(settings: Settings, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for integration in ("a b", "a@b", "a_b"):
        syncs.post(db, Sync(name="one", url=URL, integration=integration, model="One"), named=True)
    with calling(settings, db) as http:
        assert len(known(reference(http))) == 3
        monkeypatch.setattr("nango_dagster.api.docs.reference.MOST_MODELS", 2)
        syncs.post(db, Sync(name="two", url=URL, integration="c", model="Two"), named=True)
        found = reference(http)
    assert len(known(found)) == 2
    assert "2 more syncs" in found["components"]["schemas"]["RecordList"]["properties"]["records"]["description"]


def test_it_is_made_again_only_when_something_has_changed(
    settings: Settings, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = syncs.post(db, Sync(name="one", url=URL), named=True)
    asked: list[str] = []
    with calling(settings, db) as http:
        first = http.get("/openapi.json").content
        sa.event.listen(db.engine.sqlalchemy, "before_cursor_execute", lambda *args: asked.append(args[2]))
        assert http.get("/openapi.json").content == first
        assert len([statement for statement in asked if statement.startswith("SELECT")]) == 1
        syncs.delete(db, one.id)
        assert known(reference(http)) == set()


def test_it_is_there_while_the_database_is_not(settings: Settings) -> None:
    with calling(settings, db_url="postgresql+psycopg://127.0.0.1:1/nango") as http:
        assert "/v1/syncs" in reference(http)["paths"]
        assert "url: 'openapi.json'" in http.get("/docs").text
        assert "url: '../openapi.json'" in http.get("/docs/").text


def test_every_route_tells_its_errors_and_what_it_is_for(settings: Settings, db: Database) -> None:
    with calling(settings, db) as http:
        paths = reference(http)["paths"]
    for path, methods in paths.items():
        for method, route in methods.items():
            assert route["summary"] and route["description"], (method, path)
            if path != "/health":
                assert "503" in route["responses"], (method, path)
            if path not in ("/health", "/ready"):
                assert {"400", "401", "429"} <= set(route["responses"]), (method, path)


def test_no_body_hides_an_answer_of_the_same_name(settings: Settings, db: Database) -> None:
    names = [model.__name__ for model in Strict.__subclasses__()]
    assert len(names) == len(set(names))
    with calling(settings, db) as http:
        schemas = reference(http)["components"]["schemas"]
    assert set(schemas["Metadata"]["properties"]) >= {"first_seen_at", "cursor"}
    assert set(schemas["NewMetadata"]["properties"]) >= {"connection_id", "metadata"}


def test_records_that_nest_without_end_are_cut_off() -> None:
    node = api_models._Node()
    node.add(("a",) * 100, Type.STRING)
    node.add(tuple(range(100)), Type.STRING)
    assert json.dumps(node.schema()).count('"object"') <= api_models.MOST_LEVELS
