"""Models: made of Python classes and JSON Schemas, and compared with each record before it is stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest
from dagster import AssetKey
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nango_dagster import mapping
from nango_dagster.config import Sync, from_body, read_dir, read_file
from nango_dagster.defs.checks import evaluate
from nango_dagster.defs.translator import NangoSyncTranslator, SyncProps
from nango_dagster.errors import ConfigError
from nango_dagster.models import fields_of, misfit, record_model, schema_of, validator
from nango_dagster.records import decode
from nango_dagster.settings import Settings
from nango_dagster.store import Database, tables
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.store.tables import opening
from tests.commands import Cli, write_sync
from tests.executions import Source, execute, last_job, stored
from tests.fake_api import FakeApi
from tests.script_project import ScriptProject
from tests.strategies import json_values

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


# Each definition has two fields of the next one: 2 ** 19 fields.
BUSHY: dict[str, Any] = {
    f"A{level}": {"properties": {key: {"$ref": f"#/$defs/A{(level + 1) % 30}"} for key in "ab"}} for level in range(30)
}


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
    fitting: dict[str, Any] = {
        "id": 1,
        "email": None,
        "created_at": "2024-01-01T00:00:00Z",
        "address": {"city": "Rome"},
        "tags": [],
    }
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
            {"$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/A"}, {"type": "string"}]}}}
            | {"properties": {"a": {"$ref": "#/$defs/A"}}},
            {"a": "string"},
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
        ({"properties": {f"f{number}": {} for number in range(1401)}}, "the model has more than 1,400 fields"),
        (
            {"$ref": "#/$defs/A0", "$defs": BUSHY},
            "the model has more than 1,400 fields",
        ),
    ],
)
def test_what_is_no_model_is_refused_with_a_sentence(definition: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        schema_of(definition)
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", ["2026-01-31"], ["2026-02-30", "20260131", "2026-01-31T00:00:00Z"]),
        (
            "date-time",
            ["2026-01-31T12:00:00Z", "2026-01-31 12:00", "2026-01-31T12:00:00.5+0100", "2026-01-31"],
            ["2026-13-01T00:00:00Z", "yesterday", "12:00:00Z"],
        ),
        ("time", ["12:00:00Z", "12:00", "12:00:00.5+01:00"], ["25:00", "2026-01-31", ""]),
        ("email", ["a@b.example"], ["a@", "a b@c.example"]),
        ("uri", ["https://a.example/x?y=1", "mailto:a@b.example"], ["/x", "http://a b"]),
        ("uuid", ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567"]),
        ("ipv4", ["192.0.2.1"], ["192.0.2.256", "192.0.2.01"]),
        ("ipv6", ["::1", "2001:db8::1"], ["::g"]),
        ("duration", ["P1D"], ["1 day"]),
        ("postal-code", ["anything"], []),
    ],
)
def test_the_format_of_a_text_is_validated(name: str, good: list[str], bad: list[str]) -> None:
    """A value of another type than text is a misfit of its type alone; a format that nobody knows fits every text."""
    optional = {"anyOf": [{"type": "string", "format": name}, {"type": "null"}]}
    schema = validator({"properties": {"a": {"type": "string", "format": name}, "b": optional}})
    assert [misfit(schema, {"a": text, "b": text}) for text in good] == [None] * len(good)
    reasons = {misfit(schema, {field: text}) for field in "ab" for text in bad}
    assert reasons == {f"{field} is a string; wanted one in the format {name}" for field in "ab" if bad}
    assert misfit(schema, {"b": None}) is None
    assert misfit(schema, {"a": 5}) == "a is a number; wanted string"


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


def test_a_file_names_a_python_class(tmp_path: Any) -> None:
    (tmp_path / "unified_of_a_test.py").write_text(
        "import pydantic\nclass Contact(pydantic.BaseModel):\n    id: int\n    email: str\n"
    )
    file = tmp_path / "contacts.yaml"
    file.write_text("url: https://api.example.com/contacts\nmodels:\n  Contact: unified_of_a_test:Contact\n")
    (sync,) = read_file(file)
    assert sync.model == "Contact" and sync.record_model is not None
    assert [field.name for field in sync.record_model.fields] == ["id", "email"]
    file.write_text("url: https://api.example.com/contacts\nmodels:\n  Contact: unified_of_a_test:Person\n")
    with pytest.raises(
        ConfigError, match=r":3:3: models.Contact is .*; it cannot be loaded: .* has no attribute 'Person'"
    ):
        read_file(file)


def test_syncs_that_share_a_table_have_models_that_agree(tmp_path: Any) -> None:
    def write(name: str, models: Any) -> None:
        write_sync(name, tmp_path, url="https://api.example.com/x", mapped_table="people", models=models)

    other = {"properties": {"id": {"type": "integer"}, "email": {"type": "boolean"}}}
    write("a", {"Contact": CONTACT})
    write("b", {"Person": {"properties": {"id": {"type": "number"}}}})
    configs = read_dir(tmp_path)
    assert (configs.errors, configs.warnings) == ((), ())
    write("b", {"Person": other})
    configs = read_dir(tmp_path)
    assert [sync.name for sync in configs.syncs] == ["a"]
    assert "filled by a, too, and email is string in its model Contact and boolean in Person" in str(configs.errors[0])
    write("b", {})
    (warning,) = read_dir(tmp_path).warnings
    assert warning.startswith("table people is filled by a, b; b has no model")


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


def test_what_a_script_updates_is_validated_after_merging(db: Database, settings: Settings, api: FakeApi) -> None:
    project = ScriptProject(db, settings, api)
    head = f"from nango_dagster import sync\nCONTACT = {CONTACT!r}\n"
    project.write(
        """
        @sync(models={"Contact": CONTACT}, validate="reject")
        def contacts(nango):
            nango.batch_save([{"id": 1, "email": "ann@example.com"}, {"id": 2, "email": "bob@example.com"}])
            nango.batch_update([{"id": 1, "email": 5}, {"id": 2, "city": "Rome"}])
        """,
        head=head,
    )
    row = project.row()
    outcome = project.execute(row)
    assert (outcome.status, outcome.counts.rejected) == ("succeeded", 1)
    assert sorted(stored(db, row).live, key=lambda record: record["id"]) == [
        {"id": 1, "email": "ann@example.com"},
        {"id": 2, "email": "bob@example.com", "city": "Rome"},
    ]


def test_enumerations_are_validated_whatever_the_class() -> None:
    class State(pydantic.BaseModel):
        state: Literal["open", "closed"]

    assert record_model(State).misfit(b'{"state": "open"}') is None
    assert record_model(State).misfit(b'{"state": "ajar"}') is not None


# --- the mapped table -------------------------------------------------------------------------------------------------

PERSON: dict[str, Any] = {
    "properties": {
        "id": {"type": "integer", "description": "Their number; it's stable."},
        "name": {"type": "string"},
        "born": {"type": "string", "format": "date"},
        "active": {"type": "boolean"},
        "address": {"properties": {"city": {"type": "string"}}},
        "tags": {"type": "array"},
        "code": {"type": ["string", "integer"]},
    }
}
ANN = {"id": 1, "name": "Ann", "born": "1990-02-01", "active": True, "address": {"city": "Rome", "zip": "1"}}


def columns(db: Database, row: SyncRow) -> dict[str, str]:
    """The columns of the sync's table with their types, without those that every table has."""
    with db.connect() as connection:
        registered = tables.registered(connection, tables.table_name(row.sync, row.id)) or []
    return {column.name: column.type.value for column in registered}


def mapped(db: Database, row: SyncRow) -> list[dict[str, Any]]:
    """The mapped rows without our own columns and nulls."""
    return [
        {name: value for name, value in found.items() if value is not None and name not in tables.SYSTEM_COLUMNS}
        for found in tables.rows(db, row.id, row.sync)
    ]


def test_a_model_gives_the_table_its_columns_before_any_record_has_them(
    source: Source, db: Database, settings: Settings
) -> None:
    row = source.registered(db, unique_key="id", models={"Person": PERSON})
    source.records = [{"id": 1, "surprise": 7}]
    outcome = execute(db, settings, row)
    types = {
        "id": "number",
        "name": "string",
        "born": "timestamp",
        "active": "boolean",
        "address_city": "string",
        "tags": "string",
        "code": "string",
    }
    assert columns(db, row) == types and outcome.misfits == {}
    source.records = [{**ANN, "tags": ["a", {"b": 1.50}], "code": 7, "surprise": 8}, {"id": 2, "code": "x"}]
    assert execute(db, settings, row).new_columns == ()
    assert columns(db, row) == types
    assert mapped(db, row) == [
        {"id": 1, "name": "Ann", "born": datetime(1990, 2, 1, tzinfo=timezone.utc), "active": True}
        | {"address_city": "Rome", "tags": '["a",{"b":1.5}]', "code": "7"},
        {"id": 2, "code": "x"},
    ]


def test_extra_evolve_adds_the_other_fields_to_those_of_the_model(
    source: Source, db: Database, settings: Settings
) -> None:
    row = source.registered(db, unique_key="id", models={"Person": PERSON}, mapping={"extra": "evolve"})
    source.records = [{**ANN, "surprise": 8}]
    execute(db, settings, row)
    assert columns(db, row)["surprise"] == "number" and columns(db, row)["address_zip"] == "string"
    strict = source.registered(db, unique_key="id", models={"Person": PERSON}, mapping={"extra": "fail"})
    source.records = [{**ANN, "id": 2, "more": 8}]
    assert "the model Person does not declare: address.zip, surprise." in str(execute(db, settings, strict).error)


def test_a_changed_model_fills_its_columns_from_the_stored_records(
    source: Source, db: Database, settings: Settings
) -> None:
    row = source.registered(db, unique_key="id", models={"Person": {"properties": {"id": PERSON["properties"]["id"]}}})
    source.records = [ANN]
    execute(db, settings, row)
    assert mapped(db, row) == [{"id": 1}]
    row = source.registered(db, unique_key="id", models={"Person": PERSON})
    assert execute(db, settings, row).counts.unchanged == 1
    assert mapped(db, row)[0]["name"] == "Ann"


def test_a_column_of_another_type_is_refused_until_the_table_is_rebuilt(
    source: Source, db: Database, settings: Settings, settings_env: dict[str, str]
) -> None:
    row = source.registered(db, unique_key="id", mapped_table="people")
    source.records = [{"id": 1, "name": "2024-01-01"}, {"id": 2, "name": "2025-01-01"}]
    execute(db, settings, row)
    row = source.registered(db, unique_key="id", mapped_table="people", models={"Person": PERSON})
    outcome = execute(db, settings, row)
    assert outcome.error == (
        "items: name is string in the model Person, but column name of table people is timestamp; "
        "nango-dagster tables rebuild items gives it the type of the model."
    )
    cli = Cli(settings_env)
    (change,) = cli.good("tables", "rebuild", "items", "--yes", "--json").json["types"]
    assert (change["from"], change["to"]) == ("timestamp", "string")
    assert execute(db, settings, row).status == "succeeded"
    assert [record["name"] for record in mapped(db, row)] == ["2024-01-01", "2025-01-01"]


@pytest.mark.parametrize("settings_env", ["postgresql"], indirect=True)
def test_descriptions_are_comments_of_the_columns(source: Source, db: Database, settings: Settings) -> None:
    source.records = [ANN]
    for text in ("Their number; it's stable.", "100% new", None):
        person = {"properties": {**PERSON["properties"], "id": {"type": "integer", "description": text or ""}}}
        row = source.registered(db, unique_key="id", mapped_table="people", models={"Person": person})
        opening._caches.clear()  # another process
        execute(db, settings, row)
        with db.connect() as connection:
            assert db.rows.stored_comments(connection, "people") == ({"id": text} if text else {})


@given(
    records=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                name: json_values for name in ("id", "name", "born", "active", "address", "tags", "code", "more")
            },
        )
    )
)
@hypothesis_settings(deadline=None, max_examples=100)
def test_fast_rows_of_a_model_are_those_of_its_layout(records: list[Any]) -> None:
    sync = from_body({"url": "https://api.example.com/people", "models": {"Person": PERSON}})
    for converters, csv in ((mapping.TO_SQLITE, False), (mapping.TO_POSTGRESQL, True)):
        layout = mapping.Layout(converters, tables.plan_of(sync))
        layout.add(layout.new_columns(layout.flatten([])))
        fast_rows = mapping.fast_rows_of(layout, csv=csv)
        assert fast_rows is not None
        texts = [json.dumps(record).encode() for record in records]
        general = layout.rows(layout.flatten(map(decode, texts))).values
        for row, expected in zip(fast_rows(texts), general, strict=True):
            if row is not None and not csv:
                named = {column.name: value for column, value in zip(fast_rows.columns, row, strict=True)}
                assert [named[column.name] for column in layout.columns] == expected


def test_the_value_of_a_parent_has_a_column_beside_those_of_the_model() -> None:
    body: dict[str, Any] = {
        "url": "https://api.example.com/people/${parent.id}",
        "unique_key": "id",
        "for_each": {"sync": "companies", "path": "id", "field": "company"},
    }
    for properties in ({"id": {"type": "integer"}}, {"id": {"type": "integer"}, "company": {"type": "string"}}):
        sync = from_body({**body, "models": {"Person": {"properties": properties}}})
        columns = mapping.columns_of([], tables.plan_of(sync))
        assert [(column.name, column.type.value) for column in columns] == [("id", "number"), ("company", "string")]


# --- where a model is shown -------------------------------------------------------------------------------------------


def test_dagster_shows_the_columns_of_a_model_before_the_first_run() -> None:
    body = {"url": "https://api.example.com/people", "name": "people", "models": {"Person": PERSON}}
    spec = NangoSyncTranslator().get_asset_spec(SyncProps(from_body(body)))
    shown = {column.name: column for column in spec.metadata["dagster/column_schema"].columns}
    assert shown["id"].description == "Their number; it's stable." and shown["born"].type == "timestamp"
    assert shown["address_city"].description == "from address.city"
    lineage = spec.metadata["dagster/column_lineage"].deps_by_column
    assert [dep.column_name for dep in lineage["address_city"]] == ["address.city"]
    untyped = from_body({key: value for key, value in body.items() if key != "models"})
    assert "dagster/column_schema" not in NangoSyncTranslator().get_asset_spec(SyncProps(untyped)).metadata


def write_document(settings: Settings, sync: Sync) -> None:
    """A file with the config of a sync."""
    fields = {name: value for name, value in sync.document().items() if name != "name"}
    write_sync(sync.name, settings.configs, **fields)


def test_validate_diff_shows_the_changes_of_tables_before_they_are_made(
    source: Source, db: Database, settings: Settings, settings_env: dict[str, str]
) -> None:
    cli = Cli(settings_env)
    fields: dict[str, Any] = {"unique_key": "id", "mapped_table": "people", "models": {"Person": PERSON}}
    write_document(settings, source.sync(**fields))
    new = cli.good("validate", "--diff").stdout
    assert "items: new table people\n  + id number, from id\n" in new
    source.records = [ANN]
    execute(db, settings, source.registered(db, **fields))
    assert cli.good("validate", "--diff").stdout.endswith("\nno table would change\n")
    changed = {**PERSON["properties"], "name": {"type": "boolean"}, "email": {"type": "string"}}
    del changed["born"]
    write_document(settings, source.sync(**{**fields, "models": {"Person": {"properties": changed}}}))
    assert cli.good("validate", "--diff", "--json").json["diff"] == [
        {
            "sync": "items",
            "table": "people",
            "is_new": False,
            "added": [{"name": "email", "type": "string", "path": "email"}],
            "retyped": [{"name": "name", "path": "name", "from": "string", "to": "boolean"}],
            "unfilled": [{"name": "born", "type": "timestamp", "path": "born"}],
            "commented": [],
            "mapped_again": 1,
        }
    ]
    assert cli.good("validate", "--diff").stdout.endswith(
        "items: table people; 1 record to map again\n  + email string, from email\n"
        "  ~ name string -> boolean; first: nango-dagster tables rebuild items\n"
        "  - born timestamp: no values any more\n"
    )
    assert columns(db, source.registered(db, **fields))["name"] == "string"  # nothing was changed
    described = {**PERSON["properties"], "name": {"type": "string", "description": "It's 100% new."}}
    write_document(settings, source.sync(**{**fields, "models": {"Person": {**PERSON, "properties": described}}}))
    comment = 'items: table people\n  ~ name: comment "It\'s 100% new."\n'
    told = cli.good("validate", "--diff").stdout
    assert told.endswith("\nno table would change\n" if db.engine.name == "sqlite" else comment)


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_a_dry_run_compares_the_records_with_the_model(
    source: Source, settings: Settings, settings_env: dict[str, str]
) -> None:
    cli = Cli(settings_env)
    write_document(settings, source.sync(models={"Contact": CONTACT}))
    assert cli.good("dry-run", "items", "--json").json["misfits"] == {
        "email is a number; wanted string or null": 1,
        "email is missing": 1,
    }
    source.records = [{**GOOD, "price": 1.5}]
    assert cli.good("dry-run", "items").stdout.endswith("model: all records fit Contact\n")
