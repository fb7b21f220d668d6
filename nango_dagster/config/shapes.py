"""The shapes of a config file: one sync, or several that share defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nango_dagster.config.check import canonical_name
from nango_dagster.config.combinations import WAYS
from nango_dagster.config.document import Document
from nango_dagster.config.names import RESERVED
from nango_dagster.config.source import Place, Source
from nango_dagster.config.sync import Sync, slug
from nango_dagster.errors import ConfigError, Problem

Entry = tuple[Mapping[str, Any], Source]

WANTED = "wanted one sync (with url:), or several under syncs:"
# Objects that a sync adds to; every other field of a sync replaces the default.
_ADDED_TO = ("headers", "query_params", "metadata", "tags")
# Fields of which a sync has one: its own choice also puts aside a different default.
_RIVALS = (("frequency", "cron"), WAYS)


def entries(document: Document, file: str, stem: str) -> list[Entry]:
    """The fields of each sync in a document, defaults filled in, with the place of each."""
    if not isinstance(document.value, dict):
        raise ConfigError.of(Problem(f"the file holds {_kind(document.value)}; {WANTED}.", file=file))
    root = {name: item for name, item in document.value.items() if name != "$schema"}
    shape = _Several(document, file, root.get("defaults"))
    if "syncs" in root:
        return shape.listed(root)
    others = {name: item for name, item in root.items() if name != "defaults"}
    if others and all(isinstance(item, dict) for item in others.values()) and not any(map(_is_field, others)):
        return shape.by_name(others, ())
    return [({**root, "name": stem} if root.get("name") is None else root, Source(file, document.marks))]


def is_written(place: Place) -> bool:
    """Headers and query parameters go out as text, so `1.10` must stay `1.10` and `on` stay `on`."""
    if not place or place[-1] not in ("headers", "query_params"):
        return False
    around = place[:-2] if place[-2:-1] == ("next_request",) else place[:-1]
    if len(around) == 2:
        return around[0] == "syncs"
    return not around or (len(around) == 1 and not _is_field(around[0]))


def named(fields: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The fields, with a name made from `friendly_name` where there is none."""
    friendly = fields.get("friendly_name")
    name = slug(friendly) if isinstance(friendly, str) else ""
    name = f"{name}-sync" if name in RESERVED else name
    return {**fields, "name": name} if name and fields.get("name") is None else fields


class _Several:
    """A file with several syncs, and the defaults that they share."""

    def __init__(self, document: Document, file: str, defaults: Any) -> None:
        self._marks = document.marks
        self._file = file
        self._defaults = defaults

    def listed(self, root: Mapping[str, Any]) -> list[Entry]:
        """The syncs under `syncs`: a list, or an object from names to fields."""
        for name in root:
            if name not in ("defaults", "syncs"):
                wanted = "defaults and syncs only; other fields go into one of them"
                raise self._wrong((name,), f"{name} stands beside syncs; wanted {wanted}.")
        if isinstance(root["syncs"], dict):
            return self.by_name(root["syncs"], ("syncs",))
        if not isinstance(root["syncs"], list):
            raise self._wrong(("syncs",), "syncs is no list; wanted a list of syncs.")
        return [self._entry(("syncs", at), item) for at, item in enumerate(root["syncs"])]

    def by_name(self, syncs: Mapping[str, Any], around: Place) -> list[Entry]:
        """The syncs of an object from names to fields."""
        return [
            self._entry((*around, name), {"name": name, **item} if isinstance(item, dict) else item)
            for name, item in syncs.items()
        ]

    def _entry(self, place: Place, fields: Any) -> Entry:
        defaults = {} if self._defaults is None else self._defaults
        if not isinstance(defaults, dict):
            raise self._wrong(("defaults",), "defaults is no object; wanted the fields that the syncs share.")
        if not isinstance(fields, dict):
            raise self._wrong(place, "a sync is no object; wanted its fields, such as url.")
        fields = named(fields)
        if fields.get("name") is None:
            raise self._wrong(place, "name is missing; in a list every sync needs one.")
        return filled(fields, defaults), Source(self._file, self._marks, (place, ("defaults",)))

    def _wrong(self, place: Place, sentence: str) -> ConfigError:
        source = Source(self._file, self._marks)
        return ConfigError.of(source.locate(Problem(sentence, field=str(place[-1])), place))


def filled(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A sync's fields over the defaults.

    >>> filled({"cron": "0 6 * * *", "tags": {"a": "1"}}, {"frequency": 5, "tags": {"b": "2"}})
    {'tags': {'b': '2', 'a': '1'}, 'cron': '0 6 * * *'}
    """
    own = {canonical_name(name) for name in fields}
    result = {name: item for name, item in defaults.items() if not _gives_way(canonical_name(name), own)}
    for name, item in fields.items():
        shared = result.get(name)
        both = isinstance(shared, dict) and isinstance(item, dict)
        result[name] = {**_without(shared, item, name), **item} if both and shared else item
    return result


def _without(shared: Mapping[str, Any], own: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """The shared values that a sync does not replace; names of headers are compared without their case."""
    if field != "headers":
        return shared
    replaced = {name.lower() for name in own}
    return {name: value for name, value in shared.items() if name.lower() not in replaced}


def _gives_way(name: str, own: set[str]) -> bool:
    """Whether a default is put aside by a sync's own fields."""
    if name in own:
        return name not in _ADDED_TO
    return any(name in rivals and own.intersection(rivals) for rivals in _RIVALS)


def _is_field(name: Any) -> bool:
    return canonical_name(str(name)) in Sync.model_fields


def _kind(value: Any) -> str:
    if value is None:
        return "nothing but comments"
    return "a list" if isinstance(value, list) else "a single value"
