"""The reference at /docs: the body of a sync is what the config's own schema says, older names included."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from ...config import sync_schema
from ..errors import Envelope
from ..gate.key import Authentication
from ..input.models import Strict

_ERRORS: dict[int | str, str] = {
    400: "A parameter, a header or the body is wrong, or names what there is not; `error.message` says what.",
    401: "The key is missing or wrong.",
    403: "There is no key, and the request comes from elsewhere.",
    429: "The key has sent too many requests in this minute; `Retry-After` says how long to wait.",
    "4XX": "The request cannot be done; `error.message` says why.",
    503: "The database cannot be reached now.",
    "5XX": "The server made a mistake, or what it needs does not answer.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Envelope, "description": description} for status, description in _ERRORS.items()
}
SYNC_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Sync"},
                "example": {
                    "url": "https://pokeapi.co/api/v2/pokemon",
                    "response_path": "results",
                    "unique_key": "name",
                    "paging_url_path": "next",
                },
            }
        },
    }
}
_FILES_ONLY = frozenset({"transform", "script", "base_url"})


def describe(app: FastAPI, authentication: Authentication) -> None:
    """Add the schemas of syncs to the app's OpenAPI document, and the key where one is needed."""
    document = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            reference = document()
            _describe_empty_bodies(reference["paths"])
            components = reference.setdefault("components", {})
            components.setdefault("schemas", {}).update(_schemas())
            if authentication.keys:
                components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                reference["security"] = [{"key": []}]
                for path in authentication.without_key & reference["paths"].keys():
                    reference["paths"][path]["get"]["security"] = []
            app.openapi_schema = reference
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _describe_empty_bodies(paths: dict[str, Any]) -> None:
    """Describe the answers without a body, for which FastAPI has no model."""
    for route in (route for methods in paths.values() for route in methods.values()):
        success = route["responses"].get("200", {})
        if success.get("content") == {"application/json": {"schema": {}}}:
            del success["content"]
            success["description"] = "Done; the body is empty."


def _schemas() -> dict[str, Any]:
    """The schema of a sync and of its parts, as the reference names them."""
    text = json.dumps(sync_schema()).replace('"#/$defs/', '"#/components/schemas/')
    schema: dict[str, Any] = json.loads(text)
    parts: dict[str, Any] = schema.pop("$defs")
    schema["properties"] = {name: part for name, part in schema["properties"].items() if name not in _FILES_ONLY}
    return {**parts, **_bodies(), "Sync": schema}


def _bodies() -> dict[str, Any]:
    """The schemas of the bodies that routes read strictly."""
    models: list[tuple[type[Strict], JsonSchemaMode]] = [(model, "validation") for model in Strict.__subclasses__()]
    _, schema = models_json_schema(models, ref_template="#/components/schemas/{model}")
    found: dict[str, Any] = schema["$defs"]
    return found
