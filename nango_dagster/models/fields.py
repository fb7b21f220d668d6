"""The fields of a model that a SQL table has columns for, read from its JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

Kind = Literal["boolean", "number", "string", "timestamp", "json"]
"""The values of a field; `json` is a list, an object without named fields, or values of several types."""

MOST_LEVELS = 20
MOST_FIELDS = 1400
"""As many as a mapped table has columns."""
_TIMES = ("date", "date-time")
_KINDS: Mapping[str, Kind] = {
    "boolean": "boolean",
    "integer": "number",
    "number": "number",
    "string": "string",
    "array": "json",
    "object": "json",
}
Schema = Mapping[str, Any]


@dataclass(frozen=True)
class ModelField:
    """A field of a model, with its path in the record."""

    steps: tuple[str, ...]
    kind: Kind
    description: str | None = None
    is_required: bool = False

    @property
    def name(self) -> str:
        """The path, for people."""
        return ".".join(self.steps)


def fields_of(schema: Schema) -> tuple[ModelField, ...]:
    """The plain values and lists of a model, also those of nested objects, in the order of the schema.

    At most MOST_FIELDS + 1 are read.

    >>> address = {"type": "object", "properties": {"city": {"type": "string"}}}
    >>> schema = {"properties": {"id": {"type": "integer"}, "address": address, "tags": {"type": "array"}}}
    >>> [(field.name, field.kind) for field in fields_of(schema)]
    [('id', 'number'), ('address.city', 'string'), ('tags', 'json')]
    """
    fields = _Reader(schema).fields((), schema, required=True, open_references=())
    return tuple(islice(fields, MOST_FIELDS + 1))


@dataclass(frozen=True)
class _Reader:
    """Reads a schema, whose `$ref` are looked up in `root`."""

    root: Schema

    def fields(
        self, steps: tuple[str, ...], schema: Schema, *, required: bool, open_references: tuple[str, ...]
    ) -> Iterator[ModelField]:
        """The fields inside an object's schema. An object inside itself is one field."""
        properties, needed, references = self._object(schema, open_references)
        for name, part in properties.items():
            path, is_required = (*steps, name), required and name in needed
            inner = self._nested(part, references) if len(path) < MOST_LEVELS else None
            if inner is not None:
                yield from self.fields(path, inner, required=is_required, open_references=references)
            else:
                yield ModelField(path, self._kind(part, references), self._description(part), is_required)

    def _object(
        self, schema: Schema, open_references: tuple[str, ...]
    ) -> tuple[dict[str, Schema], set[str], tuple[str, ...]]:
        """The properties of an object, the required ones, and the references that were followed to it."""
        properties: dict[str, Schema] = {}
        needed: set[str] = set()
        references = open_references
        for part in self._conjuncts(schema):
            if reference := part.get("$ref"):
                references = (*references, reference)
            own = part.get("properties")
            for name, inner in own.items() if isinstance(own, Mapping) else ():
                properties[name] = inner if isinstance(inner, Mapping) else {}
            needed |= set(part.get("required", ()))
        return properties, needed, references

    def _conjuncts(self, schema: Schema, seen: set[int] | None = None) -> Iterator[Schema]:
        """The schema and those that a value has to fulfil with it, of `$ref` and `allOf`, each once."""
        seen = set() if seen is None else seen
        if id(schema) in seen:
            return
        seen.add(id(schema))
        if "$ref" in schema:
            yield from self._conjuncts(self._resolved(schema["$ref"]), seen)
        for part in schema.get("allOf", ()):
            if isinstance(part, Mapping):
                yield from self._conjuncts(part, seen)
        yield schema

    def _nested(self, part: Schema, references: tuple[str, ...]) -> Schema | None:
        """The schema of an object with named fields; None for every other value, and for an object inside itself."""
        alternatives = self._alternatives(part)
        if len(alternatives) != 1:
            return None
        properties, _, inner_references = self._object(alternatives[0], references)
        is_recursive = len(set(inner_references)) < len(inner_references)
        return alternatives[0] if properties and not is_recursive else None

    def _alternatives(self, part: Schema, seen: set[int] | None = None) -> list[Schema]:
        """The schemas of which a value fulfils one, without that of null, each once."""
        seen = set() if seen is None else seen
        if id(part) in seen:
            return []
        seen.add(id(part))
        for conjunct in self._conjuncts(part):
            for keyword in ("anyOf", "oneOf"):
                options = [option for option in conjunct.get(keyword, ()) if isinstance(option, Mapping)]
                options = [option for option in options if not _is_null(option)]
                if options:
                    return [inner for option in options for inner in self._alternatives(option, seen)]
        return [part]

    def _kind(self, part: Schema, references: tuple[str, ...]) -> Kind:
        kinds = {kind for option in self._alternatives(part) for kind in self._kinds(option)}
        if kinds == {"string", "timestamp"}:
            return "string"
        return kinds.pop() if len(kinds) == 1 else "json"

    def _kinds(self, option: Schema) -> Iterator[Kind]:
        """The kinds of an alternative's values."""
        for conjunct in reversed([*self._conjuncts(option)]):
            types = conjunct.get("type", ())
            named = [type_ for type_ in ([types] if isinstance(types, str) else types) if type_ != "null"]
            if named:
                is_time = conjunct.get("format") in _TIMES
                yield from ("timestamp" if is_time and type_ == "string" else _KINDS[type_] for type_ in named)
                return
            values = conjunct.get("enum", [conjunct["const"]] if "const" in conjunct else ())
            if values:
                yield from (_kind_of(value) for value in values if value is not None)
                return
        yield "json"

    def _description(self, part: Schema) -> str | None:
        return next((text for conjunct in self._conjuncts(part) if (text := conjunct.get("description"))), None)

    def _resolved(self, reference: Any) -> Schema:
        """The schema at a reference inside the model; an empty one where nothing is there."""
        schema: Any = self.root
        for step in _pointer(reference):
            schema = schema.get(step) if isinstance(schema, Mapping) else None
        return schema if isinstance(schema, Mapping) else {}


def _pointer(reference: Any) -> Sequence[str]:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return ("",)
    return [step.replace("~1", "/").replace("~0", "~") for step in reference[1:].split("/")[1:]]


def _is_null(schema: Schema) -> bool:
    return schema.get("type") == "null" or schema.get("const", ...) is None or schema.get("enum") == [None]


def _kind_of(value: Any) -> Kind:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "string" if isinstance(value, str) else "json"
