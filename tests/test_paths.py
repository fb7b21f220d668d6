from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nango_dagster.errors import ConfigError
from nango_dagster.paths import MISSING, dig, parse, put

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5).filter(lambda key: '"' not in key)


def quoted(steps: list[str | int]) -> str:
    """A path in which every key stands in brackets."""
    return "".join(f"[{step}]" if isinstance(step, int) else f'["{step}"]' for step in steps)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("paging.next.after", "c2"),
        ("items[1].id", 7),
        ("items.1.id", 7),
        ("counts.0", "zero"),
        ("counts[0]", "zero"),
        ("dotted.key", "whole"),
        ('inside["x.y"]', 1),
        (r"inside.x\.y", 1),
        ("@odata.nextLink", "https://api.example.com"),
        ("nothing", None),
    ],
)
def test_dig_finds_what_stands_at_a_path(path: str, found: Any) -> None:
    document = {
        "paging": {"next": {"after": "c2"}},
        "items": [{"id": 0}, {"id": 7}],
        "counts": {"0": "zero"},
        "dotted.key": "whole",
        "inside": {"x.y": 1},
        "@odata.nextLink": "https://api.example.com",
        "nothing": None,
    }
    assert dig(document, path) == found


@pytest.mark.parametrize("path", ["a.b.c", "list[2]", "list.x", "text.0", "text[0]", "nothing.x", "list.99999999999"])
def test_dig_tells_a_missing_value_from_null(path: str) -> None:
    document: dict[str, Any] = {"a": {"b": {}}, "list": [1, 2], "text": "abc", "nothing": None}
    assert dig(document, path) is MISSING
    assert dig(document, path, None) is None
    assert not MISSING


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[-1]", "a]b", "a[0]b", "a.[0]", "a\\"])
def test_a_path_that_cannot_be_read_is_a_config_error(path: str) -> None:
    with pytest.raises(ConfigError, match="is no path; wanted keys joined by dots"):
        parse(path)


def test_put_leaves_the_original_alone() -> None:
    body = {"limit": 10, "paging": {"size": 5}}
    assert put(body, "paging.after", "c2") == {"limit": 10, "paging": {"size": 5, "after": "c2"}}
    assert body == {"limit": 10, "paging": {"size": 5}}


def test_put_makes_missing_objects_and_lists() -> None:
    assert put(None, "a[0].b", 1) == {"a": [{"b": 1}]}
    assert put([1], "[1]", 2) == [1, 2]


@pytest.mark.parametrize(("value", "path"), [({"a": 1}, "a.b"), ([1], "[3]"), ([1], "x"), ({"a": "t"}, "a[0]")])
def test_put_refuses_a_path_that_something_else_is_in_the_way_of(value: Any, path: str) -> None:
    with pytest.raises(ConfigError, match="cannot be set"):
        put(value, path, 1)


@given(st.text(max_size=12))
def test_any_text_is_a_path_or_a_config_error(path: str) -> None:
    try:
        assert parse(path)
    except ConfigError as error:
        assert error.problems[0].found == path


@given(st.lists(KEYS | st.integers(0, 999), min_size=1, max_size=4))
def test_every_key_can_be_written_in_brackets(steps: list[str | int]) -> None:
    assert parse(quoted(steps)) == tuple(steps)


@given(JSON, st.lists(KEYS | st.integers(0, 2), min_size=1, max_size=4).map(quoted) | KEYS, JSON)
def test_dig_finds_what_put_put(value: Any, path: str, new: Any) -> None:
    try:
        changed = put(value, path, new)
    except ConfigError:
        return
    assert dig(changed, path) == new
