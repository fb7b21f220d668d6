"""A YAML or JSON text as plain values, with the line of every place in it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from nango_dagster.config.source import Mark, Place
from nango_dagster.errors import ConfigError, Problem

_MOST_NODES = 100_000
_STR = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"
_SCALARS: dict[str, Callable[[str], Any]] = {
    _STR: str,
    _NULL: lambda text: None,
    "tag:yaml.org,2002:bool": lambda text: text.lower() == "true",
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": float,
}


@dataclass(frozen=True)
class Document:
    """The content of a file, with the line and column of each place."""

    value: Any
    marks: dict[Place, Mark]


def read_yaml(text: str, file: str, is_written: Callable[[Place], bool]) -> Document:
    """A YAML text; at the places that `is_written` names, numbers and booleans stay as they are written."""
    reader = _Yaml(file, is_written)
    return Document(reader.value(_compose(text, file)), reader.marks)


def read_json(text: str, file: str) -> Document:
    """A JSON text; a key that stands twice in an object is an error, as it is in YAML."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _broken(file, Mark(error.lineno, error.colno), f"this is no JSON: {error.msg}.") from error
    except (ValueError, RecursionError) as error:
        raise _broken(file, None, f"this JSON cannot be used: {error}.") from error
    return Document(value, _json_marks(text, file))


class _Loader(yaml.SafeLoader):
    """Reads scalars as YAML 1.2 and JSON do: `on`, `no`, `010` and dates are text."""

    yaml_implicit_resolvers = {}  # noqa: RUF012


def _resolver(tag: str, pattern: str, first: Iterable[str]) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


_resolver("bool", r"(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_resolver("null", r"(?:~|null|Null|NULL|)$", ["~", "n", "N", ""])
_resolver("int", r"-?(?:0|[1-9][0-9]{0,400})$", "-0123456789")
_resolver("float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:[eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)$", "-0123456789")
_resolver("merge", r"<<$", "<")

# libyaml's loader takes a sixteenth of the time: 0.05 ms for a small config. A PyYAML without libyaml has none.
_FastLoader: type[yaml.CSafeLoader] | None = None
if yaml.__with_libyaml__:
    _FastLoader = type("_FastLoader", (yaml.CSafeLoader,), {"yaml_implicit_resolvers": _Loader.yaml_implicit_resolvers})


def _compose(text: str, file: str) -> yaml.Node | None:
    """The tree of a YAML text. Raises ConfigError with the place of a mistake, found by the loader in Python."""
    if _FastLoader is not None:
        with contextlib.suppress(yaml.YAMLError, ValueError, OverflowError, RecursionError):
            tree: yaml.Node | None = yaml.compose(text, _FastLoader)
            return tree
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node: yaml.Node | None = loader.get_single_node()
        return node
    except yaml.composer.ComposerError as error:
        if "single document" in str(error):
            mark = _at(error.problem_mark)
            raise _broken(file, mark, "a second YAML document begins here; put several syncs under syncs:.") from error
        raise _yaml_error(error, file) from error
    except yaml.YAMLError as error:
        raise _yaml_error(error, file) from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise _broken(file, None, "this YAML cannot be used: it is nested too deeply or has a bad escape.") from error
    finally:
        if loader is not None:
            loader.dispose()


def _yaml_error(error: yaml.YAMLError, file: str) -> ConfigError:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = _at(error.problem_mark)
        return _broken(file, mark, f"this is no YAML: {error.problem or error.context}.")
    reason = str(error).splitlines()[0]
    return _broken(file, None, f"this is no YAML: {reason}.")


class _Yaml:
    """Turns a tree of YAML nodes into values; aliases and merge keys are followed."""

    def __init__(self, file: str, is_written: Callable[[Place], bool]) -> None:
        self.marks: dict[Place, Mark] = {}
        self._file = file
        self._is_written = is_written
        self._open: set[int] = set()
        self._count = 0

    def value(self, node: yaml.Node | None, place: Place = (), written: bool = False) -> Any:
        """The value of a node; `written` keeps the text of numbers and booleans."""
        if node is None:
            return None
        self._enter(node)
        self.marks.setdefault(place, _mark(node))
        written = written or self._is_written(place)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, place, written)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*place, at), written) for at, item in enumerate(node.value)]
            return self._scalar(node, written)
        finally:
            self._open.discard(id(node))

    def _enter(self, node: yaml.Node) -> None:
        self._count += 1
        if id(node) in self._open or self._count > _MOST_NODES:
            # An alias inside its own anchor, or aliases of aliases that multiply.
            raise _broken(self._file, _mark(node), "an alias (*) is used in a way that makes the file too large.")
        self._open.add(id(node))

    def _mapping(self, node: yaml.MappingNode, place: Place, written: bool) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged = {**self._merged(value_node, place, written), **merged}
                continue
            key = self._key(key_node)
            if key in values:
                first = self.marks[(*place, key)]
                sentence = f"{key} stands here again; it is already on line {first.line}. Keep one."
                raise _broken(self._file, _mark(key_node), sentence)
            self.marks[(*place, key)] = _mark(key_node)
            values[key] = self.value(value_node, (*place, key), written)
        return {**merged, **values}

    def _merged(self, node: yaml.Node, place: Place, written: bool) -> dict[str, Any]:
        """The fields that `<<` brings in: of one mapping, or of several, the first of which wins."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                raise _broken(self._file, _mark(part), "<< brings in fields; wanted an object, such as *defaults.")
            self._enter(part)
            merged = {**self._mapping(part, place, written), **merged}
            self._open.discard(id(part))
        return merged

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise _broken(self._file, _mark(node), "a key is an object or a list; wanted text.")
        return str(node.value)

    def _scalar(self, node: yaml.Node, written: bool) -> Any:
        read = _SCALARS.get(node.tag)
        if read is None:
            raise _broken(
                self._file, _mark(node), f"the tag {node.tag!r} is not used in configs; wanted a plain value."
            )
        if written and node.tag != _NULL:
            return str(node.value)
        try:
            return read(node.value)
        except ValueError as error:
            raise _broken(self._file, _mark(node), f"{node.value!r:.80} does not fit its tag.") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return values


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _json_marks(text: str, file: str) -> dict[Place, Mark]:
    """The lines and columns of a JSON text's places; JSON is YAML, but for tabs, which stand only between values."""
    reader = _Yaml(file, lambda place: True)
    try:
        reader.value(_compose(text.replace("\t", " "), file))
    except ConfigError:
        return reader.marks
    return reader.marks


def _mark(node: yaml.Node) -> Mark:
    return Mark(int(node.start_mark.line) + 1, int(node.start_mark.column) + 1)


def _at(mark: yaml.Mark | None) -> Mark | None:
    return None if mark is None else Mark(mark.line + 1, mark.column + 1)


def _broken(file: str, mark: Mark | None, sentence: str) -> ConfigError:
    line, column = mark or (None, None)
    return ConfigError.of(Problem(sentence, file=file, line=line, column=column))
