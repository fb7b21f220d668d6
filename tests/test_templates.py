"""Placeholders: where values go, in which form, and what is said when there are none."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nango_dagster.errors import ConfigError
from nango_dagster.templates import env_variables, render, render_text, render_url

VARIABLES: dict[str, Any] = {"env.TOKEN": "t1", "since": 5, "ids": [1, 2], "last": {"id": 0, "on": True}, "none": None}


@pytest.mark.parametrize(
    ("value", "rendered"),
    [
        ("${env.TOKEN}", "t1"),
        ("Bearer ${env.TOKEN}", "Bearer t1"),
        ("${since}", 5),
        ("id > ${since}", "id > 5"),
        ("${ids}", [1, 2]),
        ("in ${ids}", "in [1,2]"),
        ("${last.id}", 0),
        ("${last.on}!", "true!"),
        ("${since}${since}", "55"),
        ("$${since}", "${since}"),
        ("$${${since}}", "${5}"),
        ("{since} $since ${", "{since} $since ${"),
        ({"a": ["${since}", {"b": "x${since}"}], "${since}": 1}, {"a": [5, {"b": "x5"}], "${since}": 1}),
        (7, 7),
        (None, None),
    ],
)
def test_a_placeholder_becomes_its_value(value: Any, rendered: Any) -> None:
    assert render(value, VARIABLES) == rendered


def test_a_header_is_always_text() -> None:
    assert render_text("${since}", VARIABLES) == "5"


def test_a_base_url_stays_as_it_is() -> None:
    variables = {"env.API": "https://api.example.com/v1?x=1"}
    assert render_url("${env.API}", variables) == "https://api.example.com/v1?x=1"
    assert render_url("https://${host}/x", {"host": "localhost:80"}) == "https://localhost:80/x"


@given(st.text(st.characters(codec="utf-8")))
def test_a_value_cannot_leave_its_place_in_a_url(value: str) -> None:
    assume(value not in (".", ".."))
    url = urlsplit(render_url("https://a.example/users/${v}/posts?q=${v}&p=1", {"v": value}))
    assert url.netloc == "a.example"
    assert [unquote(part) for part in url.path.split("/")] == ["", "users", value, "posts"]
    assert parse_qs(url.query, keep_blank_values=True) == {"q": [value], "p": ["1"]}


@pytest.mark.parametrize(
    ("url", "values"),
    [
        ("https://a.example/users/${v}/posts", {"v": ".."}),
        ("https://a.example/users/${v}", {"v": "."}),
        ("https://a.example/users/.${v}?q=${v}", {"v": "."}),
        ("${env.API}/users/${v}${v}/posts", {"env.API": "https://a.example", "v": "."}),
    ],
)
def test_a_value_that_leads_out_of_the_path_is_refused(url: str, values: dict[str, str]) -> None:
    with pytest.raises(
        ConfigError, match=r"make \. or \.\. a part of the URL's path, which leads to another address\."
    ):
        render_url(url, values)


def test_dots_that_lead_nowhere_are_values_like_others() -> None:
    assert render_url("https://a.example/../x/${v}?q=${v}", {"v": "..."}) == "https://a.example/../x/...?q=..."
    assert render_url("https://a.example/x?q=${v}", {"v": ".."}) == "https://a.example/x?q=.."


@given(st.text(st.characters(codec="utf-8")))
def test_a_value_cannot_leave_the_host(value: str) -> None:
    rendered = render_url("https://${v}.example.com/x", {"v": value})
    assert rendered.split("/")[3:] == ["x"]
    assert "@" not in rendered


def test_an_unknown_variable_is_answered_with_the_ones_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        render("${env.TOKN}", {**env_variables({"TOKEN": "hidden", "OTHER": "hidden"}), "last": {"id": 5}, "x": None})
    said = "${env.TOKN} has no value; set NANGO_ENV_TOKN; there are env.TOKEN, env.OTHER."
    assert str(caught.value) == said
    assert caught.value.problems[0].field == "env.TOKN"
    with pytest.raises(ConfigError) as alone:
        render("${env.TOKEN}", {"last": {"id": 5}})
    assert str(alone.value) == "${env.TOKEN} has no value; set NANGO_ENV_TOKEN."


@pytest.mark.parametrize("name", ["", "none", "a..b", "last.x", "since.x"])
def test_a_variable_without_a_value_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match="has no value; there are"):
        render(f"${{{name}}}", VARIABLES)
    with pytest.raises(ConfigError, match="has no value; there are none"):
        render_text(f"x${{{name}}}", {})
