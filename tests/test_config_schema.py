"""The reference and the JSON Schema: made from the model, current, and of one mind with the checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from nango_dagster.config import (
    Sync,
    from_body,
    integrations_schema,
    integrations_schema_text,
    json_schema,
    reference,
    schema_text,
    sync_schema,
)
from nango_dagster.config.schema import ALIASES

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
URL = "https://api.example.com/items"
HOW = "Run `python -m nango_dagster.config docs/reference` to write it anew."


def is_valid(document: Any) -> bool:
    return jsonschema.Draft202012Validator(json_schema()).is_valid(document)


def test_the_committed_schema_is_current() -> None:
    assert (REFERENCE / "sync.schema.json").read_text(encoding="utf-8") == schema_text(), HOW
    text = (REFERENCE / "integrations.schema.json").read_text(encoding="utf-8")
    assert text == integrations_schema_text(), HOW


def test_the_committed_reference_is_current() -> None:
    assert (REFERENCE / "config.md").read_text(encoding="utf-8") == reference(), HOW


def test_the_schema_is_a_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.Draft202012Validator.check_schema(integrations_schema())


def test_every_field_has_a_sentence() -> None:
    for name, field in Sync.model_fields.items():
        assert field.description, name
        assert field.description[0].isupper() and field.description.endswith("."), name
    for name, part in sync_schema()["properties"].items():
        assert part["description"], name


def test_the_reference_has_every_field_that_works() -> None:
    text = reference()
    for name in Sync.model_fields:
        assert f"| `{name}` |" in text, name
    for old in ALIASES:
        assert f"`{old}`" in text


@pytest.mark.parametrize(
    "document",
    [
        {"url": URL},
        {"url": URL, "$schema": "x", "method": "get", "headers": {"A": 1, "B": "x"}, "max_total": "100"},
        {"url": URL, "paging_request_path": "after", "paging_respone_path": "next"},
        {"url": URL, "frequency": 15, "timeout": "5s", "track_deletes": True, "tags": {"a": "b"}},
        {"url": URL, "track_deletes": {"max_fraction": 0.1}, "rate_limit": {"requests": 1, "per": 5}},
        {"url": URL, "mapping": {"columns": {"a": {"path": "b", "type": "number"}}, "extra": "fail"}},
        {"url": URL, "query_params": {"a": [1, "b", True]}, "body": [1], "metadata": {"a": {"b": 1}}},
        {"defaults": {"frequency": 5}, "syncs": [{"name": "a", "url": URL}]},
        {"defaults": {"url": URL}, "syncs": {"a": {"unique_key": "id"}}},
        {"a": {"url": URL}, "b": {"url": URL}},
    ],
)
def test_the_schema_accepts_what_the_checks_accept(document: dict[str, Any]) -> None:
    assert is_valid(document)
    if "url" in document:
        from_body({name: value for name, value in document.items() if name != "$schema"})


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"url": 5},
        {"url": URL, "nme": "x"},
        {"url": URL, "method": "FETCH"},
        {"url": URL, "retries": "3"},
        {"url": URL, "script": "x"},
        {"url": URL, "incremental": {"field": 1}},
        {"url": URL, "tags": {"a b": "c"}},
        {"url": URL, "rate_limit": {"requests": 1}},
        {"syncs": [{"nme": "x"}]},
        {"a": {"url": URL, "nme": 1}},
    ],
)
def test_the_schema_marks_what_the_checks_refuse(document: Any) -> None:
    assert not is_valid(document)


def test_the_configs_of_this_repository_fit_the_schema() -> None:
    files = sorted((REFERENCE.parent.parent / "sync_configs").glob("*.yaml"))
    assert files
    for file in files:
        assert is_valid(yaml.safe_load(file.read_text(encoding="utf-8"))), file


def test_the_schema_text_is_json() -> None:
    assert json.loads(schema_text()) == json_schema()
