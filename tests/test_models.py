"""Models: made of Python classes and JSON Schemas, and compared with each record before it is stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest
from dagster import AssetKey

from nango_dagster.config import from_body, read_file
from nango_dagster.defs.checks import evaluate
from nango_dagster.errors import ConfigError
from nango_dagster.models import fields_of, misfit, record_model, schema_of, validator
from nango_dagster.settings import Settings
from nango_dagster.store import Database
from tests.commands import Cli
from tests.executions import Source, execute, last_job, stored
from tests.fake_api import FakeApi

CONTACT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "email": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "The work address."},
    },
    "required": ["id", "email"],
}
GOOD = {"id": 1, "email": "ann@example.com"}
BAD = {"id": 2, "email": 5}


class PydanticAddress(pydantic.BaseModel):
    city: str


class PydanticContact(pydantic.BaseModel):
    id: int
    email: str | None = pydantic.Field(None, description="The work address.")
    created_at: datetime
    address: PydanticAddress
    tags: list[str] = []


class StructAddress(msgspec.Struct):
    city: str


class StructContact(msgspec.Struct):
    id: int
    created_at: Annotated[datetime, msgspec.Meta(tz=True)]
    address: StructAddress
    email: str | None = None
    tags: list[str] = []


@dataclass
class DataAddress:
    city: str


@dataclass
class DataContact:
    id: int
    created_at: datetime
    address: DataAddress
    tags: list[str]
    email: str | None = None


# --- definitions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("definition", [PydanticContact, StructContact, DataContact])
def test_a_python_class_is_a_model_with_the_same_fields(definition: type) -> None:
    model = record_model(definition)
    assert model.name == definition.__name__
    assert {field.name: field.kind for field in model.fields} == {
        "id": "number",
        "email": "string",
        "created_at": "timestamp",
        "address.city": "string",
        "tags": "json",
    }
    fitting = {"id": 1, "email": None, "created_at": "2024-01-01T00:00:00Z", "address": {"city": "Rome"}, "tags": []}
    assert model.misfit(json.dumps(fitting).encode()) is None
    fitting["address"] = {"city": 7}
    assert model.misfit(json.dumps(fitting).encode()) == "address.city is a number; wanted string"


@pytest.mark.parametrize(
    ("schema", "kinds"),
    [
        (
            {"properties": {"a": {"type": ["string", "null"]}, "b": {"enum": ["x", "y"]}}},
            {"a": "string", "b": "string"},
        ),
        ({"properties": {"a": {"const": 5}, "b": {"enum": [True, None]}}}, {"a": "number", "b": "boolean"}),
        ({"properties": {"a": {"type": ["string", "integer"]}, "b": {}}}, {"a": "json", "b": "json"}),
        ({"properties": {"a": {"type": "string", "format": "date"}}}, {"a": "timestamp"}),
        ({"properties": {"a": {"type": "object", "additionalProperties": {"type": "string"}}}}, {"a": "json"}),
        (
            {"allOf": [{"properties": {"a": {"type": "string"}}}, {"$ref": "#/$defs/b"}]}
            | {"$defs": {"b": {"properties": {"b": {"type": "number"}}}}},
            {"a": "string", "b": "number"},
        ),
        (
            {"$ref": "#/$defs/Node", "$defs": {"Node": {"properties": {"parent": {"$ref": "#/$defs/Node"}}}}},
            {"parent": "json"},
        ),
        (
            {"properties": {"a": {"anyOf": [{"properties": {"b": {"type": "string"}}}, {"type": "null"}]}}},
            {"a.b": "string"},
        ),
    ],
)
def test_the_fields_of_a_schema_have_the_kinds_of_their_columns(schema: dict[str, Any], kinds: dict[str, str]) -> None:
    assert {field.name: field.kind for field in fields_of(schema)} == kinds
    schema_of(schema)


@pytest.mark.parametrize(
    ("definition", "sentence"),
    [
        (5, "the model is a int; wanted a JSON Schema, a pydantic model,"),
        (int, "the model is the class int; wanted a JSON Schema,"),
        ({"type": "object"}, "the model has no fields"),
        ({"properties": {"id": {"type": "integr"}}}, "the model is no JSON Schema: properties.id.type"),
        ({"properties": {"id": {"$ref": "https://example.com/id.json"}}}, "the model is no JSON Schema: Resource"),
        ({"properties": {"id": {"$ref": "file:///etc/passwd"}}}, "the model is no JSON Schema: Resource"),
    ],
)
def test_what_is_no_model_is_refused_with_a_sentence(definition: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        schema_of(definition)
    assert str(error.value).startswith(sentence)


def test_a_reason_names_the_place_and_not_the_value() -> None:
    nested = {"type": "array", "items": {"properties": {"n": {"type": "integer", "minimum": 3}}}}
    schema = validator({"properties": {"items": nested, "kind": {"enum": ["a"]}}, "additionalProperties": False})
    assert misfit(schema, {"items": [{"n": 5}, {"n": 1}]}) == "items[].n: the value is less than the minimum of 3"
    assert "secret" not in str(misfit(schema, {"kind": "secret"}))


# --- the config -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"validate": "warn"}, "add models, or leave validate out"),
        ({"models": {"Contact": CONTACT}, "model": "Person"}, 'models has no "Person"; wanted one of Contact.'),
        ({"models": {"Contact": CONTACT}, "validate": "reject"}, "takes a unique_key"),
        ({"models": {"Contact": {"type": "object"}}}, "the model has no fields"),
        ({"models": {"Contact": "os:environ"}}, "models.Contact imports code of this machine"),
    ],
)
def test_a_model_that_cannot_be_used_is_a_problem_of_the_config(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_body({"url": "https://api.example.com/contacts", **fields})
    assert sentence in str(error.value)


def test_a_file_names_a_python_class(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "unified_of_a_test.py").write_text(
        "import pydantic\nclass Contact(pydantic.BaseModel):\n    id: int\n    email: str\n"
    )
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "contacts.yaml"
    file.write_text("url: https://api.example.com/contacts\nmodels:\n  Contact: unified_of_a_test:Contact\n")
    (sync,) = read_file(file)
    assert sync.model == "Contact" and sync.record_model is not None
    assert [field.name for field in sync.record_model.fields] == ["id", "email"]
    file.write_text("url: https://api.example.com/contacts\nmodels:\n  Contact: unified_of_a_test:Person\n")
    with pytest.raises(ConfigError, match=r":3:3: models.Contact is .*cannot be loaded"):
        read_file(file)


# --- executions -------------------------------------------------------------------------------------------------------


@pytest.fixture
def source(api: FakeApi) -> Source:
    return Source(api, [GOOD, BAD, {"id": 3}])


@pytest.mark.parametrize("fields", [{}, {"unique_key": "id"}])
def test_warn_stores_every_record_and_counts_the_reasons(
    source: Source, db: Database, settings: Settings, fields: dict[str, Any]
) -> None:
    row = source.registered(db, models={"Contact": CONTACT}, **fields)
    sentence = (
        "2 records do not fit the model Contact: email is a number; wanted string or null (1), email is missing (1)."
    )
    for _ in range(2):  # also where no record has changed
        outcome = execute(db, settings, row)
        assert outcome.status == "succeeded" and outcome.counts.rejected == 0
        assert sentence in last_job(db, row).warnings
        check = evaluate(AssetKey("items"), outcome)
        assert not check.passed and sentence in str(check.description) and check.metadata["unfit"].value == 2
    assert stored(db, row).live_count == 3
    source.records = [GOOD, {**BAD, "email": None}, {"id": 3, "email": None}]
    assert evaluate(AssetKey("items"), execute(db, settings, row)).passed


def test_reject_keeps_the_stored_row_and_the_rejected_record(
    source: Source, db: Database, settings: Settings, settings_env: dict[str, str]
) -> None:
    source.records = [GOOD, {"id": 2, "email": None}, {"id": 3, "email": None}]
    fields: dict[str, Any] = {"unique_key": "id", "models": {"Contact": CONTACT}, "validate": "reject"}
    row = source.registered(db, track_deletes={"min_rows": 9}, **fields)
    execute(db, settings, row)
    source.records = [{"id": 1, "email": "new@example.com"}, BAD]
    outcome = execute(db, settings, row)
    counts = outcome.counts
    assert (counts.updated, counts.rejected, counts.deleted) == (1, 1, 1)  # 3 is gone, 2 was rejected and stays
    assert stored(db, row).live == [{"id": 1, "email": "new@example.com"}, {"id": 2, "email": None}]
    cli = Cli(settings_env)
    (rejected,) = cli.good("rejected", "items", "--json").json
    assert (rejected["id"], rejected["record"]) == ("2", '{"id": 2, "email": 5}')
    assert rejected["reason"] == "email is a number; wanted string or null"
    assert cli.good("rejected", "items", "--retry", "--json").json["stored"] == 0
    source.registered(db, **{**fields, "validate": "warn"})
    assert cli.good("rejected", "items", "--retry", "--json").json["stored"] == 1
    assert stored(db, row).live[1] == BAD


def test_a_record_that_is_rejected_without_a_key_stops_deletions(
    source: Source, db: Database, settings: Settings
) -> None:
    fields: dict[str, Any] = {"unique_key": "id", "models": {"Contact": CONTACT}, "validate": "reject"}
    row = source.registered(db, track_deletes={"min_rows": 9}, **fields)
    source.records = [GOOD, {"id": 2, "email": None}]
    execute(db, settings, row)
    source.records = [GOOD, {"email": 5}]
    outcome = execute(db, settings, row)
    assert (outcome.counts.rejected, outcome.counts.deleted, stored(db, row).live_count) == (1, 0, 2)


@pytest.mark.parametrize("fields", [{}, {"unique_key": "id"}])
def test_fail_stores_nothing_of_the_batch(
    source: Source, db: Database, settings: Settings, fields: dict[str, Any]
) -> None:
    row = source.registered(db, models={"Contact": CONTACT}, validate="fail", **fields)
    outcome = execute(db, settings, row)
    assert outcome.status == "failed" and stored(db, row).live_count == 0
    assert outcome.error is not None and "email is a number; wanted string or null (1)" in outcome.error
    source.records = [GOOD]
    assert execute(db, settings, row).counts.added == 1


def test_enumerations_are_validated_whatever_the_class() -> None:
    class State(pydantic.BaseModel):
        state: Literal["open", "closed"]

    assert record_model(State).misfit(b'{"state": "open"}') is None
    assert record_model(State).misfit(b'{"state": "ajar"}') is not None
