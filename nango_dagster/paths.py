"""Read and write `a.b.c` inside JSON; a path that begins with `$.` or `$[` is a JSONPath query (RFC 9535)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from nango_dagster.errors import ConfigError, Problem

if TYPE_CHECKING:
    from jsonpath import CompoundJSONPath, JSONPath


class _Missing:
    """The type of :data:`MISSING`, which is false and unlike any JSON value, null included."""

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = _Missing()

Step = str | int
_STEP = re.compile(
    r"""(?:\A|(?<=.)\.)(?P<key>(?:[^.\[\]\\]|\\.)+)|\[(?P<index>\d{1,9})\]|\["(?P<quoted>[^"]+)"\]""",
    re.DOTALL,
)


def dig(value: Any, path: str, default: Any = MISSING) -> Any:
    """The value at a path, or the default where there is none.

    A key that is the whole path wins, so `@odata.nextLink` needs no quoting at the top level.

    >>> dig({"paging": {"next": [{"after": "c2"}]}}, "paging.next[0].after")
    'c2'
    >>> dig({"@odata.nextLink": "https://api.example.com?page=2"}, "@odata.nextLink")
    'https://api.example.com?page=2'
    >>> dig({"next": None}, "next.after")
    MISSING

    A JSONPath query gives the first value that it finds.

    >>> dig({"a": {"b": 7}}, "$.x | $.a.b")
    7
    """
    if isinstance(value, Mapping) and path in value:
        return value[path]
    if is_query(path):
        return next(iter(matches(value, path)), default)
    inner = follow(value, parse(path))
    return default if inner is MISSING else inner


def is_query(path: str) -> bool:
    """Whether a path is a JSONPath query rather than keys joined by dots.

    >>> is_query("$.link[?@.relation == 'next'].url"), is_query("properties.$insert_id")
    (True, False)
    """
    return path.startswith(("$.", "$["))


def is_singular(path: str) -> bool:
    """Whether a path leads to one value at most; a query with a filter, a wildcard or a slice may find several.

    >>> is_singular("$.data['items']"), is_singular("$.pages.*"), is_singular("data.items")
    (True, False, True)
    """
    if not is_query(path):
        return True
    query = compiled(path)
    return not hasattr(query, "paths") and query.singular_query()


def first_steps(path: str) -> list[tuple[Step, ...]]:
    """The keys and indexes that a path begins with, for each alternative of a query: those before a filter or wildcard.

    >>> first_steps("$.meta.links[?@.rel == 'next'].href | $.next"), first_steps("meta.next")
    ([('meta', 'links'), ('next',)], [('meta', 'next')])
    """
    if not is_query(path):
        return [parse(path)]
    from jsonpath import JSONPath

    query = compiled(path)
    alternatives = [query] if isinstance(query, JSONPath) else [query.path, *(part for _, part in query.paths)]
    return [tuple(_first_steps(part)) for part in alternatives]


def _first_steps(query: Any) -> Iterator[Step]:
    for segment in query.segments:
        selector = segment.selectors[0]
        step = getattr(selector, "name", getattr(selector, "index", None))
        if type(segment).__name__ != "JSONPathChildSegment" or len(segment.selectors) > 1 or step is None:
            return
        yield step


def matches(value: Any, query: str) -> list[Any]:
    """All values that a JSONPath query finds, in order.

    Raises ConfigError where the value is nested too deeply for the query.

    >>> links = [{"relation": "self", "url": "/1"}, {"relation": "next", "url": "/2"}]
    >>> matches({"link": links}, "$.link[?@.relation == 'next'].url")
    ['/2']
    >>> matches({"cursor": {"after": "c2"}}, "$.next | $.cursor.after")
    ['c2']
    """
    from jsonpath import JSONPathError

    try:
        return list(compiled(query).findall(value))
    except (JSONPathError, RecursionError, TypeError, ValueError) as error:
        sentence = f"the query {query!r} cannot be used on the answer: {error}."
    raise ConfigError(sentence)


@lru_cache(maxsize=256)
def compiled(query: str) -> JSONPath | CompoundJSONPath:
    """A JSONPath query, ready for use. Raises ConfigError where it is none."""
    import jsonpath

    try:
        return jsonpath.compile(query)
    except (jsonpath.JSONPathError, RecursionError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
    wanted = f"""a JSONPath query, such as "$.link[?@.relation == 'next'].url" ({reason})"""
    raise ConfigError.of(Problem(f"{query!r} is no query; wanted {wanted}.", found=query, wanted=wanted))


def follow(value: Any, steps: Sequence[Step]) -> Any:
    """The value at the steps of a parsed path, or MISSING."""
    for step in steps:
        value = _child(value, step)
        if value is MISSING:
            return MISSING
    return value


def put(value: Any, path: str, new: Any) -> Any:
    """A copy of the value with the path set; objects that are missing on the way are made.

    >>> put({"limit": 10}, "paging.after", "c2")
    {'limit': 10, 'paging': {'after': 'c2'}}
    """
    if isinstance(value, Mapping) and path in value:
        return {**value, path: new}
    return _put(value, parse(path), new, path)


def ways(path: str) -> tuple[tuple[Step, ...], ...]:
    """The readings of a path; the first existing one counts: one key, then steps. A quoted key is read as steps.

    >>> ways("@odata.etag"), ways("id")
    ((('@odata.etag',), ('@odata', 'etag')), (('id',),))
    """
    steps = parse(path)
    return (steps,) if steps == (path,) or '"' in path or "\\" in path else ((path,), steps)


def parse(path: str) -> tuple[Step, ...]:
    r"""The steps of a path: keys, and the indexes that stand in brackets.

    A key with a dot in it is written `["a.b"]`, or `a\.b`. A number after a dot stays text: it is an index
    in a list and a key in an object.

    >>> parse('data.items[0]["a.b"].0')
    ('data', 'items', 0, 'a.b', '0')
    """
    steps: list[Step] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise _bad(path)
        steps.append(_step(match))
        at = match.end()
    if not steps:
        raise _bad(path)
    return tuple(steps)


def _step(match: re.Match[str]) -> Step:
    if match["index"]:
        return int(match["index"])
    return match["quoted"] or re.sub(r"\\(.)", r"\1", match["key"], flags=re.DOTALL)


def _bad(path: str) -> ConfigError:
    wanted = 'keys joined by dots, such as "paging.next.after" or "items[0].id"'
    sentence = f"{path!r} is no path; wanted {wanted}."
    return ConfigError.of(Problem(sentence, found=path, wanted=wanted))


def _child(value: Any, step: Step) -> Any:
    if isinstance(value, Mapping):
        return value.get(str(step), MISSING)
    index = _index(step)
    if isinstance(value, list | tuple) and index is not None and index < len(value):
        return value[index]
    return MISSING


def _index(step: Step) -> int | None:
    if isinstance(step, int):
        return step
    return int(step) if len(step) < 10 and step.isascii() and step.isdigit() else None


def _put(value: Any, steps: Sequence[Step], new: Any, path: str) -> Any:
    if not steps:
        return new
    step, rest = steps[0], steps[1:]
    if value is None or value is MISSING:
        value = [] if isinstance(step, int) else {}
    if isinstance(value, Mapping):
        return {**value, str(step): _put(value.get(str(step)), rest, new, path)}
    index = _index(step)
    if isinstance(value, list | tuple) and index is not None and index <= len(value):
        items = list(value)
        items[index : index + 1] = [_put(items[index] if index < len(items) else None, rest, new, path)]
        return items
    raise ConfigError(f"{path!r} cannot be set: there is {_kind(value)} where {step!r} would go.")


def _kind(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return {bool: "a boolean", int: "a number", float: "a number", str: "text"}.get(type(value), "a value")
