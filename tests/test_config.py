"""A sync's fields: what is accepted, what it becomes, and what is said about the rest."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nango_dagster.config import Sync, from_body, from_document, interval_of, pascal_case, seconds, slug
from nango_dagster.errors import ConfigError

URL = "https://api.example.com/items"


def sync(**fields: Any) -> Sync:
    return from_body({"url": URL, "name": "items", **fields})


def problems(**fields: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        sync(**fields)
    return [problem.sentence for problem in caught.value.problems]


def test_a_url_is_enough() -> None:
    read = from_body({"url": URL})
    assert (read.method, read.mode, read.interval) == ("GET", "overwrite", timedelta(hours=1))
    assert (read.integration_key, read.connection_key, read.partitioned) == ("default", "default", False)
    assert (read.timeout, read.retries, read.concurrency, read.max_page_bytes) == (30, 3, 8, 100_000_000)
    assert (read.connections_per_run, read.max_runs, read.events) == (2000, 1, "changed")
    assert read.auto_mapping and read.enabled and read.auto_start
    assert read.track_deletes is None


def test_every_field_of_the_early_reference_is_read() -> None:
    read = sync(
        method="post",
        headers={"Accept": "application/json", "X-Version": 2},
        body={"limit": 10},
        unique_key="id",
        response_path="profile.id",
        paging_request_path="paging.after",
        paging_response_path="paging.next.after",
        max_total="100",
    )
    assert read.method == "POST"
    assert read.headers == {"Accept": "application/json", "X-Version": "2"}
    assert read.body == {"limit": 10}
    assert read.paging_cursor_request_path == "paging.after"
    assert read.paging_response_path == "paging.next.after"
    assert read.max_total == 100
    assert read.mode == "upsert"


def test_the_misspelled_names_of_the_first_guide_are_read() -> None:
    read = sync(paging_requests_path="after", paging_respone_path="next")
    assert (read.paging_cursor_request_path, read.paging_response_path) == ("after", "next")
    assert read.document()["paging_cursor_request_path"] == "after"


def test_every_field_of_the_full_option_list_is_read() -> None:
    read = from_body(
        {
            "url": "https://api.example.com/my/endpoint?query=A+query",
            "method": "GET",
            "headers": {"Accept": "application/json"},
            "body": {"mykey": "A great value"},
            "query_params": {"mykey": "A great value", "ids": [1, 2], "deep": True},
            "response_path": "data.results",
            "unique_key": "profile.email",
            "paging_cursor_request_path": "after",
            "paging_cursor_metadata_response_path": "next",
            "auto_mapping": True,
            "frequency": 15,
            "max_total": 100,
            "friendly_name": "My Sync",
            "mapped_table": "my_table",
            "metadata": {"company_id": 123},
        }
    )
    assert read.name == "my-sync"
    assert read.model == "MySync"
    assert read.interval == timedelta(minutes=15)
    assert read.query_params == {"mykey": "A great value", "ids": [1, 2], "deep": True}
    assert read.metadata == {"company_id": 123}


@pytest.mark.parametrize(
    "body",
    [
        {
            "url": "https://pokeapi.co/api/v2/pokemon",
            "response_path": "results",
            "paging_url_path": "next",
            "unique_key": "name",
            "mapped_table": "pokemons",
            "frequency": "1 minute",
        },
        {
            "url": "https://www.reddit.com/r/news/new.json",
            "response_path": "data.children",
            "paging_cursor_object_response_path": "data.name",
            "paging_cursor_request_path": "after",
            "max_total": 100,
        },
        {
            "url": "https://slack.com/api/conversations.history",
            "headers": {"authorization": "Bearer ${env.SLACK}"},
            "query_params": {"channel": "C1"},
            "response_path": "messages",
            "paging_cursor_metadata_response_path": "response_metadata.next_cursor",
            "paging_cursor_request_path": "cursor",
        },
        {
            "url": "https://api.github.com/repos/o/r/stargazers",
            "headers": {"Accept": "application/vnd.github.v3.star+json"},
            "paging_header_link_rel": "next",
            "unique_key": "id",
            "metadata": {"github_org": "o", "github_repo": "r", "user_id": 123},
            "mapped_table": "github_stargazers",
            "friendly_name": "Github stargazers",
        },
        {
            "url": "https://api.hubapi.com/crm/v3/objects/contacts/search",
            "method": "POST",
            "body": {"limit": 10, "properties": ["email"]},
            "unique_key": "id",
            "paging_cursor_metadata_response_path": "paging.next.after",
            "paging_cursor_request_path": "after",
        },
        {
            "url": "https://api.typeform.com/forms/x/responses",
            "response_path": "items",
            "paging_cursor_object_response_path": "token",
            "paging_cursor_request_path": "before",
        },
    ],
)
def test_the_guides_real_world_examples_are_accepted(body: dict[str, Any]) -> None:
    read = from_body(body)
    for name in body.keys() - {"frequency"}:
        assert getattr(read, name) == body[name]


def test_auto_mapping_can_be_switched_off() -> None:
    assert sync(auto_mapping=False).auto_mapping is False


def test_the_four_ways_to_page_of_the_guides_example_are_one_too_many() -> None:
    said = problems(
        paging_cursor_request_path="after",
        paging_cursor_metadata_response_path="paging.next.after",
        paging_url_path="next",
        paging_cursor_object_response_path="id",
        paging_header_link_rel="next",
    )
    assert said == [
        "paging_cursor_metadata_response_path, paging_cursor_object_response_path, paging_url_path and "
        "paging_header_link_rel all say how to find the next page; keep one of them."
    ]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"paging_cursor_metadata_response_path": "next"}, "nothing says where to send it"),
        ({"paging_cursor_object_response_path": "id"}, "nothing says where to send it"),
        ({"paging_header_cursor": "X-Next"}, "nothing says where to send it"),
        ({"paging_cursor_request_path": "after"}, "nothing says where to find it"),
        (
            {"paging_page_request_path": "page", "paging_cursor_request_path": "after"},
            "paging_cursor_request_path is not used with paging_page_request_path",
        ),
        ({"paging_has_more_response_path": "more"}, "nothing says how to go on"),
        ({"paging_page_start": 0}, "paging_page_start goes with paging_page_request_path"),
        ({"paging_offset_start": 0}, "paging_offset_start goes with paging_offset_request_path"),
        ({"paging_limit": 100}, "paging_limit goes with paging_limit_request_path"),
        ({"paging_limit_request_path": "limit"}, "paging_limit_request_path goes with paging_limit"),
        (
            {"method": "POST", "paging_offset_request_path": "a..b"},
            'paging_offset_request_path is "a..b"; wanted keys joined by dots',
        ),
        (
            {"method": "PUT", "paging_offset_request_path": "a", "body": []},
            "the body is a list; wanted an object",
        ),
        ({"frequency": 5, "cron": "0 6 * * *"}, "frequency and cron both say when the sync runs"),
        ({"timezone": "Europe/Berlin"}, "timezone goes with cron"),
        (
            {"auto_mapping": False, "mapping": {"columns": {"a": {"path": "a", "type": "string"}}}},
            "mapping shapes the mapped table, but auto_mapping: false makes none",
        ),
        ({"renamed_from": "items"}, "wanted the name it had before"),
    ],
)
def test_fields_that_do_not_fit_together_are_told_apart(fields: dict[str, Any], said: str) -> None:
    assert any(said in sentence for sentence in problems(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"paging_url_path": "next"},
        {"paging_url_path": "@odata.nextLink"},
        {"paging_url_path": "next", "paging_cursor_request_path": "after"},
        {"paging_header_link_rel": "next"},
        {"paging_header_url": "X-Next"},
        {"paging_response_path": "next"},
        {"paging_response_path": "next", "paging_cursor_request_path": "after"},
        {"paging_header_cursor": "X-Next", "paging_cursor_request_path": "filter[id][_gt]"},
        {"paging_page_request_path": "page", "paging_page_start": 0, "paging_has_more_response_path": "more"},
        {"paging_offset_request_path": "o", "paging_limit_request_path": "l", "paging_limit": 50},
        {"paging_limit_request_path": "l", "paging_limit": 50},
        {"method": "POST", "paging_page_request_path": "paging.page", "body": {"paging": {}}},
        {"cron": "0 6 * * *", "timezone": "Europe/Berlin"},
        {"track_deletes": True},
    ],
)
def test_fields_that_fit_together_are_accepted(fields: dict[str, Any]) -> None:
    read = sync(**fields)
    for name, value in fields.items():
        if name != "track_deletes":
            assert getattr(read, name) == value


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("nme", "name"),
        ("unique_keys", "unique_key"),
        ("uniqueKey", "unique_key"),
        ("query-params", "query_params"),
        ("paging_respons_path", "paging_response_path"),
        ("paging_request_pth", "paging_cursor_request_path"),
        ("soft_delete", "track_deletes"),
        ("primary_key", "unique_key"),
    ],
)
def test_an_unknown_field_is_answered_with_the_one_that_was_meant(name: str, wanted: str) -> None:
    assert problems(**{name: 1}) == [f'"{name}" is no field of a sync; did you mean {wanted}?']


def test_an_unknown_field_like_no_other_is_an_error_too() -> None:
    assert problems(xyzzy=1) == ['"xyzzy" is no field of a sync; wanted one of the fields in docs/reference/config.md.']


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"method": "fetch"}, 'method is "fetch"; wanted one of GET, POST, PUT, PATCH, DELETE, SEARCH, QUERY.'),
        ({"method": 1}, "method is 1; wanted one of GET, POST, PUT, PATCH, DELETE, SEARCH, QUERY."),
        ({"max_pages": "3"}, 'max_pages is "3"; wanted a whole number of at least 1.'),
        ({"max_pages": 0}, "max_pages is 0; wanted a whole number of at least 1."),
        ({"max_total": 0}, "max_total is 0; wanted a whole number of at least 1."),
        ({"max_total": True}, "max_total is true; wanted a whole number of at least 1."),
        ({"retries": 1.5}, "retries is 1.5; wanted a whole number from 0 to 100."),
        ({"auto_mapping": "yes"}, 'auto_mapping is "yes"; wanted true or false.'),
        ({"events": "some"}, 'events is "some"; wanted one of changed, all.'),
        ({"name": "my items"}, 'name is "my items"; wanted letters, digits, _ and - (at most 255).'),
        ({"model": "issue"}, 'model is "issue"; wanted a capital letter, then letters'),
        ({"response_path": "a..b"}, 'response_path is "a..b"; wanted keys joined by dots'),
        ({"unique_key": ["id", "id"]}, "unique_key cannot be used; wanted a path, or a list of different paths."),
        ({"unique_key": {"a": 1}}, "unique_key cannot be used; wanted a path, or a list of different paths."),
        ({"unique_key": ["$.id", "b"]}, "unique_key cannot be used; wanted keys joined by dots, such as owner.id"),
        ({"ignore_fields": ["a", "b["]}, 'ignore_fields[1] is "b["; wanted keys joined by dots'),
        ({"response_path": "$.["}, 'response_path is "$.["; wanted a JSONPath query, such as'),
        ({"records": "all"}, 'records is "all"; wanted one of list, object, values, plain.'),
        ({"responses": [{"status": 404}]}, "responses[0].action is missing; wanted one of list, empty, end, skip"),
        (
            {"responses": [{"status": 99, "action": "end"}]},
            "responses[0].status is 99; wanted a status from 100",
        ),
        ({"responses": [{"action": "end"}]}, "responses[0] cannot be used; wanted a status, a header or a path"),
        ({"responses": [{"path": "a", "action": "end"}]}, "wanted one condition for the header or path: equals"),
        (
            {"responses": [{"path": "a", "matches": "(", "action": "end"}]},
            'matches is "("; wanted a regular',
        ),
        ({"responses": [{"status": 404, "action": "end", "wait": 5}]}, "and only with action: retry"),
        ({"responses": [{"stats": 404, "action": "end"}]}, '"responses[0].stats" is no field of responses[0]'),
        ({"next_request": {}}, "next_request cannot be used; wanted one of url, method, headers"),
        ({"next_request": {"url": "x"}}, "next_request.url cannot be used; wanted a URL such as"),
        ({"paging_cursor_request_header": "a b"}, "wanted the name of a header, such as x-ms-continuation"),
        ({"body": "text"}, "body cannot be used; wanted an object or a list."),
        ({"body": {"a": float("nan")}}, "body cannot be used; wanted finite numbers."),
        ({"headers": {"a b": "x"}}, "headers cannot be used; wanted names of letters, digits and -"),
        ({"headers": {"X": "a\nb"}}, "headers cannot be used; wanted a value of one line for X."),
        ({"headers": {"X": True}}, "headers.X cannot be used; wanted text or a number."),
        ({"headers": ["X"]}, "headers cannot be used; wanted an object."),
        ({"query_params": {"a": {}}}, "query_params cannot be used; wanted text, a number, true or false"),
        ({"query_params": {"a": [[]]}}, "query_params cannot be used; wanted text, a number, true or false"),
        ({"frequency": 0}, "frequency is 0; wanted whole seconds, at least 30 and at most 366 days."),
        ({"frequency": "soon"}, 'frequency is "soon"; wanted a number of minutes, or text such as'),
        ({"frequency": True}, "frequency is true; wanted a number of minutes, or text such as"),
        ({"cron": "0 6 * *"}, 'cron is "0 6 * *"; wanted five fields such as "0 6 * * *"'),
        ({"cron": "0 0 30 2 *"}, "that name a time there is"),
        ({"cron": "0 6 * * *", "timezone": "Mars"}, 'timezone is "Mars"; wanted a time zone such as Europe'),
        ({"timeout": 0}, "timeout is 0; wanted a number of seconds, or text such as"),
        ({"max_duration": "long"}, 'max_duration is "long"; wanted a number of seconds'),
        ({"max_page_bytes": "big"}, 'max_page_bytes is "big"; wanted a number of bytes, or text such as'),
        ({"owners": ["bob"]}, 'owners[0] is "bob"; wanted an email address or team:name.'),
        ({"owners": ["a@b.c"]}, 'owners[0] is "a@b.c"; wanted an email address or team:name.'),
        ({"tags": {"a b": "c"}}, 'tags: "a b" is no good name; wanted letters, digits'),
        ({"tags": {"a": "b c"}}, 'tags.a is "b c"; wanted letters, digits'),
        ({"group": "a-b"}, 'group is "a-b"; wanted letters, digits and _.'),
        ({"mapped_table": "public.items"}, "wanted a table name without its schema"),
        ({"mapped_table": "_NANGO_raw"}, "wanted a name that does not begin with _nango_"),
        ({"mapped_table": "ä" * 32}, "wanted a name of 1 to 63 bytes."),
        ({"metadata": {"_nango_id": 1}}, "metadata cannot be used; wanted names that do not begin with"),
        ({"rate_limit": {"requests": 1}}, "rate_limit.per is missing; wanted a number above 0 or text."),
        ({"rate_limit": {"request": 1}}, '"rate_limit.request" is no field of rate_limit; did you mean'),
        ({"rate_limit": 5}, "rate_limit is 5; wanted an object."),
        ({"track_deletes": 1}, "track_deletes is 1; wanted true, false, or an object with max_fraction"),
        ({"track_deletes": {"max_fraction": 2}}, "track_deletes.max_fraction is 2; wanted a number above 0"),
        (
            {"mapping": {"columns": {"a": {"path": "a", "type": "text"}}}},
            'mapping.columns.a.type is "text"; wanted one of boolean, number, string, timestamp.',
        ),
        ({"mapping": {"columns": {"_nango_a": {"path": "a", "type": "string"}}}}, "does not begin with"),
        ({"allowed_origins": ["https://a.io/x"]}, "wanted a scheme and a host, such as https://files"),
    ],
)
def test_a_wrong_value_is_answered_with_the_values_allowed(fields: dict[str, Any], said: str) -> None:
    assert any(said in sentence for sentence in problems(**fields)), problems(**fields)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com/x",
        "ftp://x/y",
        "http://",
        "https://a b/",
        "https://h:x/",
        "https://a\\@b/",
        5,
        "https://[/",
    ],
)
def test_a_url_that_cannot_be_asked_is_refused(url: Any) -> None:
    assert problems(url=url)[0].startswith("url cannot be used; wanted a URL")


def test_a_missing_url_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"^url is missing; wanted a URL, such as https://api\.example\.com"):
        from_body({})


def test_a_script_cannot_be_posted() -> None:
    """It runs code of this machine."""
    assert problems(script="items:items") == [
        "script runs code of this machine, so it can only be set in a config file."
    ]


@pytest.mark.parametrize(("value", "wanted"), [(None, True), (True, True), (False, False)])
def test_auto_start_may_be_said(value: bool | None, wanted: bool) -> None:
    assert sync(auto_start=value, sync_type="full", connections_per_run=10, max_runs=2).auto_start is wanted


def test_a_sync_of_an_integration_runs_for_all_of_its_connections() -> None:
    read = sync(integration="hubspot")
    assert (read.integration_key, read.partitioned) == ("hubspot", True)


def test_environment_variables_and_escapes_are_accepted() -> None:
    read = sync(
        url="${env.BASE_URL}/items/${env.ID}?x=1",
        headers={"Authorization": "Bearer ${env.TOKEN}"},
        body={"query": "$${kept}"},
    )
    assert read.url == "${env.BASE_URL}/items/${env.ID}?x=1"


def test_all_problems_are_told_at_once() -> None:
    said = problems(max_pages=0, nme="x", retries=-1, paging_limit=3)
    assert len(said) == 4


def test_two_names_of_one_field_are_one_too_many() -> None:
    assert problems(paging_request_path="a", paging_cursor_request_path="b", paging_response_path="c") == [
        "paging_request_path and paging_cursor_request_path are names of the same field; "
        "keep paging_cursor_request_path."
    ]


def test_null_counts_as_not_given() -> None:
    assert sync(frequency=None, headers=None, max_total=None).document() == {"name": "items", "url": URL}


def test_an_error_never_shows_what_may_be_secret() -> None:
    secret = "s3cr3t"
    for fields in (
        {"url": f"ftp://u:{secret}@h/x"},
        {"headers": {"Authorization": [secret]}},
        {"headers": {"Authorization": f"{secret}\n"}},
        {"query_params": {"token": {"a": secret}}},
        {"body": secret},
    ):
        with pytest.raises(ConfigError) as caught:
            sync(**fields)
        assert secret not in str(caught.value)
        assert secret not in repr(caught.value.problems)


def test_the_repr_of_a_sync_shows_no_secret() -> None:
    read = sync(
        url="https://u:s3cr3t@h/x", headers={"A": "s3cr3t"}, query_params={"key": "s3cr3t"}, body={"p": "s3cr3t"}
    )
    assert "name='items'" in repr(read)
    assert "s3cr3t" not in repr(read) + str(read)


def test_a_posted_sync_cannot_name_code_of_this_machine() -> None:
    assert problems(transform="os:system") == [
        "transform runs code of this machine, so it can only be set in a config file."
    ]
    assert from_document({"url": URL, "transform": "my_module:clean"}).transform == "my_module:clean"


@pytest.mark.parametrize("body", [None, [], "text", 5])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    with pytest.raises(ConfigError, match="the body is no JSON object"):
        from_body(body)


def test_a_posted_sync_without_a_name_is_named_by_whoever_stores_it() -> None:
    read = from_body({"url": URL, "frequency": 5})
    assert read.unnamed
    stored = read.with_name("sync-7")
    assert (stored.name, stored.model, stored.unnamed, stored.frequency) == ("sync-7", "Sync7", False, 5)
    assert not from_body({"url": URL, "friendly_name": "A b"}).unnamed
    assert from_body({"url": URL, "model": "Issue"}).with_name("x").model == "Issue"


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("github-issues", "GithubIssues"),
        ("myISSUES", "MyISSUES"),
        ("a", "ModelA"),
        ("---", "Model"),
        ("9", "Model9"),
    ],
)
def test_the_default_model_is_the_name_in_pascal_case(name: str, model: str) -> None:
    assert pascal_case(name) == model
    assert sync(name=name).model == model


def test_a_friendly_name_becomes_a_name() -> None:
    assert slug("  Größe & Co. ") == "gr-e-co"
    assert slug("日本") == ""


def test_track_deletes_has_limits_that_can_be_set() -> None:
    on = sync(track_deletes=True).track_deletes
    assert on is not None
    assert (on.max_fraction, on.min_rows) == (0.5, 20)
    own = sync(track_deletes={"max_fraction": 1}).track_deletes
    assert own is not None
    assert (own.max_fraction, own.min_rows) == (1, 20)
    assert sync(track_deletes=False).track_deletes is None


def test_durations_and_sizes_may_be_text() -> None:
    read = sync(
        timeout="1 minute",
        max_duration="2 hours",
        max_page_bytes="1.5 MB",
        rate_limit={"requests": 10, "per": "second"},
    )
    assert (read.timeout, read.max_duration, read.max_page_bytes) == (60, 7200, 1_500_000)
    assert read.rate_limit is not None
    assert read.rate_limit.per == 1
    assert [sync(timeout=text).timeout for text in ("500ms", "1500 msecs", "1.5 Milliseconds")] == [0.5, 1.5, 0.0015]
    assert sync(rate_limit={"requests": 1, "per": "100 ms"}).document()["rate_limit"]["per"] == 0.1
    assert problems(timeout="5ss")[0].startswith('timeout is "5ss"; wanted a number')
    assert sync(max_page_bytes="1 MiB").max_page_bytes == 1_048_576


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("every 5 minutes", 5),
        ("5m", 5),
        ("every 5minutes", 5),
        ("every 60s", 1),
        ("60000 ms", 1),
        ("90 mins", 90),
        ("120 seconds", 2),
        ("every 12 hrs", 720),
        ("every 31 days", 44_640),
        ("every hour", 60),
        ("every minute", 1),
        ("hour", 60),
        ("every day", 1440),
        ("every week", 10_080),
        ("every month", 43_200),
        ("every half day", 720),
        ("every half hour", 30),
        ("every quarter hour", 15),
        ("every  hour", 60),
        ("Every Hour", 60),
        ("every 1.5 hours", 90),
        ("every 1.1 hours", 66),
        ("every 2 weeks", 20_160),
        ("15", 15),
        (" 15 ", 15),
        (1.0, 1),
    ],
)
def test_a_frequency_as_people_write_it(text: Any, found: int) -> None:
    assert interval_of(text) == timedelta(minutes=found)
    assert sync(frequency=text).frequency == found


@pytest.mark.parametrize(
    "text",
    [
        "every 29s",
        "90.5 seconds",
        "every 0 minutes",
        "0",
        0.4,
        -5,
        1e300,
        float("nan"),
        "every 400 days",
        "",
        "5 5m",
        "5ms",
        "500 ms",
        "5hs",
        "5 ds",
    ],
)
def test_a_frequency_that_is_none(text: Any) -> None:
    with pytest.raises(ConfigError, match="wanted"):
        interval_of(text)


@given(st.text(max_size=20) | st.floats() | st.integers() | st.booleans() | st.none())
def test_any_frequency_or_duration_is_one_or_a_config_error(value: Any) -> None:
    for parse in (interval_of, seconds):
        try:
            assert parse(value)
        except ConfigError as error:
            assert error.problems[0].wanted


def test_a_document_holds_what_was_written_without_defaults() -> None:
    given_fields = {
        "name": "items",
        "url": URL,
        "frequency": 15,
        "retries": 3,
        "track_deletes": {"max_fraction": 0.2},
        "mapping": {"columns": {"a": {"path": "b", "type": "number"}}},
        "paging_request_path": "after",
        "paging_cursor_object_response_path": "id",
    }
    assert from_body(given_fields).document() == {
        "name": "items",
        "url": URL,
        "frequency": 15,
        "track_deletes": {"max_fraction": 0.2},
        "mapping": {"columns": {"a": {"path": "b", "type": "number"}}},
        "paging_cursor_request_path": "after",
        "paging_cursor_object_response_path": "id",
    }


def test_the_fingerprint_tells_a_change_from_another_spelling() -> None:
    first = sync(frequency=60 * 24, method="get")
    assert first.fingerprint() == sync(frequency="every day").fingerprint()
    assert first.fingerprint() != sync(frequency=5).fingerprint()
    assert first.fingerprint() != from_body({"url": URL, "name": "others"}).fingerprint()


def test_the_mapping_version_changes_with_what_shapes_the_table() -> None:
    version = sync().mapping_version()
    assert version == sync(frequency=5, url="https://x.io").mapping_version()
    changes: list[dict[str, Any]] = [
        {"mapped_table": "t"},
        {"metadata": {"a": 1}},
        {"auto_mapping": False},
        {"mapping": {"columns": {"a": {"path": "b", "type": "number"}}}},
    ]
    assert len({version, *(sync(**fields).mapping_version() for fields in changes)}) == 5


def test_a_sync_does_not_change_with_the_values_it_was_made_from() -> None:
    body: dict[str, Any] = {"a": [1]}
    metadata = {"x": {"y": 1}}
    read = sync(body=body, metadata=metadata)
    body["a"].append(2)
    metadata["x"]["y"] = 2
    assert (read.body, read.metadata) == ({"a": [1]}, {"x": {"y": 1}})
    with pytest.raises(ValueError, match="frozen"):
        read.url = "https://other.example.com"  # type: ignore[misc]


# Properties

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*Sync.model_fields, "paging_request_path", "models"]) | st.text(max_size=10)
TEXTS = st.sampled_from([URL, "a.b", "5m", "0 6 * * *", "UTC", "GET", "Items", "https://a.io", "m:f", "team:x"])


@given(st.dictionaries(NAMES, JSON | TEXTS, max_size=8))
def test_any_body_is_a_sync_or_a_config_error(body: dict[str, Any]) -> None:
    before = copy.deepcopy(body)
    try:
        read = from_body({"url": URL, **body})
    except ConfigError as error:
        assert all(problem.sentence.endswith((".", "?")) for problem in error.problems)
        str(error).encode()
    else:
        assert from_document(read.document()) == read
        assert from_document(read.document()).fingerprint() == read.fingerprint()
    assert str(before) == str(body)


OPTIONAL_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "friendly_name": st.text(max_size=10),
    "method": st.sampled_from(["get", "POST"]),
    "headers": st.dictionaries(st.sampled_from(["A", "B"]), st.integers() | st.just("x")),
    "query_params": st.dictionaries(st.text(max_size=3), st.integers() | st.lists(st.booleans())),
    "body": st.dictionaries(st.text(max_size=3), st.integers() | st.none()),
    "frequency": st.integers(1, 10_000) | st.sampled_from(["every day", "5m"]),
    "unique_key": st.just("id"),
    "track_deletes": st.booleans() | st.fixed_dictionaries({}, optional={"min_rows": st.integers(0, 9)}),
    "rate_limit": st.fixed_dictionaries({"requests": st.integers(1, 9), "per": st.just("minute")}),
    "metadata": st.dictionaries(st.sampled_from("ab"), st.integers() | st.just({"n": [1]})),
    "timeout": st.floats(0.1, 100) | st.just("5s"),
    "max_page_bytes": st.integers(1, 10**9) | st.just("5 MB"),
    "tags": st.dictionaries(st.sampled_from("ab"), st.just("x")),
}


@given(st.fixed_dictionaries({"url": st.just(URL)}, optional=OPTIONAL_FIELDS))
def test_a_document_makes_the_same_sync_again(body: dict[str, Any]) -> None:
    read = from_body(body)
    again = from_document(read.document())
    assert again == read
    assert again.document() == read.document()
    assert again.unnamed == read.unnamed
