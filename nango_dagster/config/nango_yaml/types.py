"""The types of `nango.yaml` as JSON Schema: `string | null`, `Issue[]`, `integer`, literals and objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from nango_dagster.config.source import Found, Place, quoted
from nango_dagster.errors import Problem

Schema = dict[str, Any]

_DATE: Schema = {"type": "string", "format": "date-time"}
_ALIASES: Mapping[str, Schema] = {
    **{name: {"type": "number"} for name in ("integer", "int", "float", "number")},
    **{name: {"type": "string"} for name in ("char", "varchar", "string")},
    **{name: {"type": "boolean"} for name in ("bool", "boolean")},
    "bigint": {"type": "integer"},
    "date": _DATE,
    "object": {"type": "object"},
    "array": {"type": "array"},
    "null": {"type": "null"},
    "true": {"const": True},
    "false": {"const": False},
    "any": {},
    "unknown": {},
    "never": {"not": {}},
}
_ABSENT = ("undefined", "void")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_ARRAY_OF = re.compile(r"array\s*<(?P<inner>.*)>", re.IGNORECASE | re.DOTALL)
_GENERIC = re.compile(r"\w+\s*<.*>", re.DOTALL)
_NAME = re.compile(r"[A-Z]\w*")
_LITERAL = re.compile(r"""(?P<quote>['"])(?P<text>.*)(?P=quote)""", re.DOTALL)


class TypeSyntaxError(Exception):
    """A type that the grammar does not have, with the code of the error in Nango."""

    def __init__(self, sentence: str, code: str = "type_syntax_error") -> None:
        super().__init__(sentence)
        self.code = code
        self.place: Place | None = None
        """The innermost field of the type, where it belongs to one."""


@dataclass(frozen=True)
class TypeReader:
    """Reads the types of one file, whose models have these names."""

    models: Collection[str]
    warn: Callable[[Found], None]

    def schema(self, value: Any, place: Place) -> tuple[Schema, bool]:
        """The JSON Schema of a type, and whether the field may be missing.

        Raises TypeSyntaxError.
        """
        if isinstance(value, Mapping):
            return self.fields(value, place), False
        if isinstance(value, list):
            return {
                "type": "array",
                **_items([self.schema(item, (*place, at))[0] for at, item in enumerate(value)]),
            }, False
        if not isinstance(value, str):
            return ({"type": "null"} if value is None else {"const": value}), False
        text = value.strip()
        if text.endswith(";"):
            text = text.rstrip("; ")
            self._warn(place, f"{quoted(value)} ends with a semicolon, which is left out.")
        if not text:
            raise TypeSyntaxError("the type is empty; wanted a type such as string.")
        return self._of_text(text, place)

    def fields(self, fields: Mapping[str, Any], place: Place) -> Schema:
        """The schema of an object; `__extends` is not looked at. Raises TypeSyntaxError."""
        properties: dict[str, Schema] = {}
        required: list[str] = []
        schema: Schema = {"type": "object"}
        for key, value in fields.items():
            if key == "__extends":
                continue
            part, may_be_missing = self._field(value, (*place, key))
            name = key.removesuffix("?")
            if key == "__string":
                schema["additionalProperties"] = part
            else:
                properties[name] = part
            if key not in ("__string", f"{name}?") and not may_be_missing:
                required.append(name)
        if properties:
            schema["properties"] = properties
        if required:
            schema["required"] = required
        return schema

    def _field(self, value: Any, place: Place) -> tuple[Schema, bool]:
        try:
            return self.schema(value, place)
        except TypeSyntaxError as error:
            error.place = error.place or place
            raise

    def _of_text(self, text: str, place: Place) -> tuple[Schema, bool]:
        if "|" in text:
            return self._union([part.strip() for part in text.split("|")], text, place)
        if text.lower() in _ABSENT:
            return {}, True
        return self._simple(text, place), False

    def _union(self, members: list[str], text: str, place: Place) -> tuple[Schema, bool]:
        if "" in members:
            raise TypeSyntaxError(f"the union {quoted(text)} has an empty member.", "failed_to_parse_union")
        present = [member for member in members if member.lower() not in _ABSENT]
        unknown = [member for member in present if not self._is_known(member)]
        is_literals = len(unknown) > 1 or not all(map(_NAME.fullmatch, unknown))
        schemas = [
            {"const": _unquoted(member)} if member in unknown and is_literals else self._simple(member, place)
            for member in present
        ]
        return _any_of(schemas), len(present) < len(members)

    def _is_known(self, text: str) -> bool:
        """Whether it is a type, and not a word that may be a literal or a mistake."""
        base = text.removesuffix("[]")
        return (
            base.lower() in _ALIASES
            or base in self.models
            or text.endswith("[]")
            or any(pattern.fullmatch(text) for pattern in (_GENERIC, _NUMBER, _LITERAL))
        )

    def _simple(self, text: str, place: Place) -> Schema:
        """The schema of a type that is no union."""
        if text.endswith("[]"):
            inner = text.removesuffix("[]").strip()
            if inner.startswith("(") and inner.endswith(")"):
                return {"type": "array", **_items([self._of_text(inner[1:-1], place)[0]])}
            if not inner:
                raise TypeSyntaxError("[] has no type before it; wanted one such as string[].")
            return {"type": "array", **_items([self._simple(inner, place)])}
        if match := _ARRAY_OF.fullmatch(text):
            inner = match["inner"].strip()
            self._warn(place, f"{quoted(text)} is read as {inner}[].")
            return {"type": "array", **_items([self._of_text(inner, place)[0]])}
        if _GENERIC.fullmatch(text):
            raise TypeSyntaxError(
                f"the type {quoted(text)} has parameters; wanted a model, or a type such as string[]."
            )
        if text in self.models:
            return {"$ref": f"#/$defs/{text}"}
        if text.lower() in _ALIASES:
            return dict(_ALIASES[text.lower()])
        if _NUMBER.fullmatch(text):
            return {"const": float(text) if "." in text else int(text)}
        if match := _LITERAL.fullmatch(text):
            return {"const": match["text"]}
        self._warn(
            place,
            f"{quoted(text)} is no type and no model, so that any value fits; for a literal text write "
            f"'{text}' in quotation marks inside the text.",
            "model_not_found_fallback",
        )
        return {}

    def _warn(self, place: Place, sentence: str, code: str | None = None) -> None:
        self.warn((place, Problem(sentence, field=str(place[-1]), code=code)))


def _unquoted(text: str) -> str:
    match = _LITERAL.fullmatch(text)
    return match["text"] if match else text


def _items(schemas: list[Schema]) -> Schema:
    return {"items": _any_of(schemas)} if any(schemas) else {}


def _any_of(schemas: list[Schema]) -> Schema:
    """The schema of values that fit one of several."""
    literals = [schema["const"] for schema in schemas if "const" in schema]
    others = [schema for schema in schemas if "const" not in schema]
    if {} in others or not schemas:
        return {}
    options = [*others, {"enum": literals}] if len(literals) > 1 else [*others, *({"const": item} for item in literals)]
    return options[0] if len(options) == 1 else {"anyOf": options}
