"""Placeholders in a config: which have a value some day, and what is said of those that never will."""

from __future__ import annotations

from typing import Any

import pytest

from nango_dagster.config import from_body
from nango_dagster.errors import ConfigError

URL = "https://api.example.com/items"
PIZZLY = {"pizzly_connection_id": "user1", "pizzly_provider_config_key": "github"}


def said(**fields: Any) -> list[str]:
    """The problems of a sync's placeholders and of the fields that belong to them."""
    try:
        from_body({"url": URL, **fields})
    except ConfigError as error:
        return [str(problem) for problem in error.problems if "not available yet" not in str(problem)]
    return []


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": {"X": "${env.TOKEN} ${connection_id} ${variant} $${plain}"}},
        {"query_params": {"since": ["${last_sync_date}"]}, "unique_key": "id"},
        {"headers": {"Authorization": "Bearer ${pizzlyAccessToken}"}, **PIZZLY},
        {"url": "https://api.example.com/${credentials.raw.account}", **PIZZLY},
        {"headers": {"Authorization": "Bearer ${access_token}"}, "integration": "github"},
        {"url": "https://${metadata.shop}.example.com/${credentials.account[0].id}", "integration": "github"},
        {"body": {"deep": [{"er": "x ${metadata.a}"}]}, "method": "POST", "integration": "github"},
    ],
)
def test_a_placeholder_that_will_have_a_value_is_accepted(fields: dict[str, Any]) -> None:
    assert said(**fields) == []


@pytest.mark.parametrize("placeholder", ["access_token", "pizzlyAccessToken", "credentials.x", "credentials.a.b"])
def test_credentials_need_a_connection(placeholder: str) -> None:
    assert said(headers={"A": f"Bearer ${{{placeholder}}}"}) == [
        f"${{{placeholder}}} in headers belongs to a connection, and this sync has none; wanted integration, or "
        "pizzly_connection_id and pizzly_provider_config_key, or ${env.NAME} for the environment variable "
        "NANGO_ENV_NAME."
    ]


@pytest.mark.parametrize("fields", [{}, PIZZLY])
def test_metadata_needs_a_connection_of_the_store(fields: dict[str, Any]) -> None:
    (sentence,) = said(query_params={"a": "${metadata.region}"}, **fields)
    assert "belongs to a connection, and this sync has none; wanted integration, or ${env.NAME}" in sentence


@pytest.mark.parametrize("placeholder", ["connection.id", "token", "", "credentials", "metadata.", "env.a b", "a..b"])
def test_a_placeholder_of_no_meaning_is_answered_with_those_there_are(placeholder: str) -> None:
    (sentence,) = said(body={"a": f"${{{placeholder}}}"}, method="POST")
    assert sentence.startswith(f"${{{placeholder}}} in body names nothing; wanted one of ${{access_token}}, ")
    for known in ("${credentials.NAME}", "${metadata.NAME}", "${connection_id}", "${last_sync_date}", "${env.NAME}"):
        assert known in sentence


@pytest.mark.parametrize("name", PIZZLY)
def test_pizzly_needs_both_of_its_fields(name: str) -> None:
    (other,) = set(PIZZLY) - {name}
    assert said(**{name: "x"}) == [f"{name} goes with {other}; add {other} or leave {name} out."]


def test_all_connections_and_one_of_pizzly_do_not_go_together() -> None:
    (sentence,) = said(integration="github", **PIZZLY)
    assert sentence.startswith("integration reads all connections of an integration and pizzly_connection_id one;")


def test_what_is_new_since_the_last_time_does_not_replace_or_delete_the_rest() -> None:
    since = {"query_params": {"since": "${last_sync_date}"}}
    (sentence,) = said(**since)
    assert "without a unique_key that would replace all rows; add unique_key." in sentence
    (sentence,) = said(**since, unique_key="id", track_deletes=True)
    assert "track_deletes would take the rest for deleted; keep one of them." in sentence
    assert said(**since, unique_key="id", track_deletes=False) == []
