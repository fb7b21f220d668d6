"""Each example reads what the API it is written for would send; only the host is another one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from nango_dagster.auth import Access
from nango_dagster.config import Sync, placeholders, read_dir, read_file
from nango_dagster.fetch import Fetch, Stop
from tests.conftest import ROOT
from tests.fake_api import FakeApi, Received

EXAMPLES = ROOT / "examples"
ENV = {
    "env.REDDIT_USER": "someone",
    "env.SLACK_CHANNEL": "C024BE91L",
    "env.SLACK_TOKEN": "xoxb-1",
    "env.GITHUB_TOKEN": "ghp_1",
    "env.HUBSPOT_TOKEN": "pat-1",
    "env.TYPEFORM_FORM": "abc123",
    "env.TYPEFORM_TOKEN": "tfp_1",
    "env.GOOGLE_TOKEN": "ya29.1",
    "env.FAIRING_TOKEN": "fairing-1",
}

Shape = Callable[[FakeApi, Received], Any]


@dataclass(frozen=True)
class Case:
    """An example, the API it meets, and what comes of it."""

    file: str
    path: str
    shape: Shape
    ids: list[Any]
    stop: str
    asked: list[dict[str, Any]]
    """The query of each request, or its JSON body for a POST."""
    key: str = "id"
    headers: dict[str, str] = field(default_factory=dict)
    complete: bool = True


def pokemon(api: FakeApi, request: Received) -> Any:
    at = int(request.params.get("offset", 0))
    names = ["bulbasaur", "ivysaur", "venusaur", "charmander", "charmeleon"]
    following = f"{api.url}/api/v2/pokemon?offset={at + 2}&limit=2" if at + 2 < len(names) else None
    found = [{"name": name, "url": f"{api.url}/api/v2/pokemon/{name}/"} for name in names[at : at + 2]]
    return {"count": len(names), "next": following, "previous": None, "results": found}


def reddit(api: FakeApi, request: Received) -> Any:
    begin = int(request.params.get("after", "t3_0")[3:])
    posts = [{"kind": "t3", "data": {"name": f"t3_{n}", "title": "x" * 300}} for n in range(begin + 1, begin + 51)]
    return {"kind": "Listing", "data": {"after": f"t3_{begin + 50}", "children": posts}}


def slack(api: FakeApi, request: Received) -> Any:
    pages = {
        "": ([{"ts": "1512085950.000216", "text": "a"}, {"ts": "1512104434.000490", "text": "b"}], "bmV4dA=="),
        "bmV4dA==": ([{"ts": "1512085861.000543", "text": "c"}], ""),
    }
    messages, following = pages[request.params.get("cursor", "")]
    return {"ok": True, "messages": messages, "response_metadata": {"next_cursor": following}}


def github(*pages: list[int]) -> Shape:
    def reply(api: FakeApi, request: Received) -> Any:
        number = int(request.params.get("page", 1))
        size = request.params["per_page"]
        url = f"{api.url}{request.path}?per_page={size}&page="
        link = f'<{url}{number + 1}>; rel="next", <{url}{len(pages)}>; rel="last"'
        headers = {"Link": link} if number < len(pages) else {}
        return (200, headers, [{"id": each, "login": f"user{each}"} for each in pages[number - 1]])

    return reply


def hubspot(api: FakeApi, request: Received) -> Any:
    sent = request.json if request.method == "POST" else request.params
    begin = int(sent.get("after", 0))
    found = [{"id": str(each), "properties": {"email": f"{each}@a.example"}} for each in range(begin, begin + 2)]
    more = {"paging": {"next": {"after": str(begin + 2), "link": "?after=NTI1"}}} if begin < 4 else {}
    return {"results": found, **more}


def typeform(api: FakeApi, request: Received) -> Any:
    pages: dict[str | None, list[str]] = {None: ["t5", "t4"], "t4": ["t3", "t2"], "t2": []}
    found = [{"token": token, "landed_at": "2022-12-01T10:00:00Z"} for token in pages[request.params.get("before")]]
    return {"total_items": 4, "page_count": 2, "items": found}


def google(name: str) -> Shape:
    def reply(api: FakeApi, request: Received) -> Any:
        if "pageToken" in request.params:
            return {name: [{"id": "e3"}], "nextSyncToken": "s"}
        return {name: [{"id": "e1"}, {"id": "e2"}], "nextPageToken": "p2"}

    return reply


def fairing(api: FakeApi, request: Received) -> Any:
    return {"data": [{"id": 1, "prompt": "How did you hear about us?"}], "next": None}


def mapping(api: FakeApi, request: Received) -> Any:
    first = {"field": True, "parent": {"nested": "string_value"}, "nullField": None, "list": [1, 2]}
    users = [{"name": f"obj{n}", "num_users": v} for n, v in enumerate([23, 182, "nango is great"], 1)]
    return {"results": [{"name": "obj0", **first}, *users]}


BEARER = "Bearer "
CASES = [
    Case(
        "pokemon",
        "/api/v2/pokemon",
        pokemon,
        ["bulbasaur", "ivysaur", "venusaur", "charmander", "charmeleon"],
        "no_next_url",
        [{}, {"offset": "2", "limit": "2"}, {"offset": "4", "limit": "2"}],
        key="name",
    ),
    Case(
        "reddit-new-posts",
        "/r/dataengineering/new.json",
        reddit,
        [f"t3_{n}" for n in range(1, 101)],
        "max_total",
        [{"limit": "50"}, {"limit": "50", "after": "t3_50"}],
        key="data.name",
        headers={"User-Agent": "nango-dagster example (by /u/someone)"},
        complete=False,
    ),
    Case(
        "slack-messages",
        "/api/conversations.history",
        slack,
        ["1512085950.000216", "1512104434.000490", "1512085861.000543"],
        "no_cursor",
        [
            {"channel": "C024BE91L", "limit": "200"},
            {"channel": "C024BE91L", "limit": "200", "cursor": "bmV4dA=="},
        ],
        key="ts",
        headers={"Authorization": BEARER + "xoxb-1"},
    ),
    *(
        Case(
            f"github-stargazers:{repo}-stargazers",
            f"/repos/NangoHQ/{repo}/stargazers",
            github([1, 2], [3]),
            [1, 2, 3],
            "no_next_url",
            [{"per_page": "100"}, {"per_page": "100", "page": "2"}],
            headers={"Accept": "application/vnd.github+json", "Authorization": BEARER + "ghp_1"},
        )
        for repo in ("nango", "nango-sync")
    ),
    Case(
        "github-user-repos",
        "/users/bastienbeurier/repos",
        github([1, 2], [3], [4]),
        [1, 2, 3, 4],
        "no_next_url",
        [{"per_page": "10"}, {"per_page": "10", "page": "2"}, {"per_page": "10", "page": "3"}],
        headers={"Authorization": BEARER + "ghp_1"},
    ),
    Case(
        "hubspot-contacts",
        "/crm/v3/objects/contacts",
        hubspot,
        ["0", "1", "2", "3", "4", "5"],
        "no_cursor",
        [{"limit": "100", "archived": "false", **more} for more in ({}, {"after": "2"}, {"after": "4"})],
        headers={"Authorization": BEARER + "pat-1"},
    ),
    Case(
        "hubspot-search",
        "/crm/v3/objects/contacts/search",
        hubspot,
        ["0", "1", "2", "3", "4", "5"],
        "no_cursor",
        [
            {
                "limit": 100,
                "filterGroups": [
                    {"filters": [{"propertyName": "lifecyclestage", "operator": "EQ", "value": "customer"}]}
                ],
                **more,
            }
            for more in ({}, {"after": "2"}, {"after": "4"})
        ],
        headers={"Authorization": BEARER + "pat-1"},
    ),
    Case(
        "hubspot-deals",
        "/crm/v3/objects/deals/search",
        hubspot,
        ["0", "1", "2", "3", "4", "5"],
        "no_cursor",
        [{"limit": 100, **more} for more in ({}, {"after": "2"}, {"after": "4"})],
        headers={"Authorization": BEARER + "pat-1"},
    ),
    Case(
        "typeform-responses",
        "/forms/abc123/responses",
        typeform,
        ["t5", "t4", "t3", "t2"],
        "empty_page",
        [{"page_size": "200", **more} for more in ({}, {"before": "t4"}, {"before": "t2"})],
        key="token",
        headers={"Authorization": BEARER + "tfp_1"},
    ),
    Case(
        "google-calendar-events",
        "/calendar/v3/calendars/primary/events",
        google("items"),
        ["e1", "e2", "e3"],
        "no_cursor",
        [{"singleEvents": "true", "maxResults": "250", **more} for more in ({}, {"pageToken": "p2"})],
        headers={"Authorization": BEARER + "ya29.1"},
    ),
    Case(
        "gmail-messages",
        "/gmail/v1/users/me/messages",
        google("messages"),
        ["e1", "e2", "e3"],
        "no_cursor",
        [{"maxResults": "500", "q": "newer_than:30d", **more} for more in ({}, {"pageToken": "p2"})],
        headers={"Authorization": BEARER + "ya29.1"},
    ),
    Case(
        "fairing-questions",
        "/api/questions",
        fairing,
        [1],
        "single_page",
        [{}],
        headers={"Authorization": "fairing-1"},
    ),
    Case("mapping", "/objects", mapping, ["obj0", "obj1", "obj2", "obj3"], "single_page", [{}], key="name"),
]


def example(name: str) -> Sync:
    """The sync of an example: `file`, or `file:sync` where the file has several."""
    file, _, wanted = name.partition(":")
    found = {sync.name: sync for sync in read_file(EXAMPLES / f"{file}.yaml")}
    return found[wanted or file]


def at(api: FakeApi, sync: Sync) -> Sync:
    """The sync, with another scheme and host."""
    parts = urlsplit(sync.url)
    return sync.model_copy(update={"url": sync.url.replace(f"{parts.scheme}://{parts.netloc}", api.url, 1)})


def records(pull: Fetch) -> Iterator[Any]:
    for page in pull:
        yield from map(json.loads, page.records)


def dotted(record: Any, path: str) -> Any:
    for step in path.split("."):
        record = record[step]
    return record


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.file)
def test_an_example_reads_its_api(api: FakeApi, case: Case) -> None:
    api.route(case.path, lambda request: case.shape(api, request))
    sync = example(case.file)
    pull = Fetch(at(api, sync), access=Access(sync, ENV))
    assert [dotted(record, case.key) for record in records(pull)] == case.ids
    assert pull.stop == Stop(case.stop, complete=case.complete)
    sent = [request.json if sync.method == "POST" else request.params for request in api.requests]
    assert sent == case.asked
    for name, value in case.headers.items():
        assert {request.headers[name] for request in api.requests} == {value}


@pytest.mark.parametrize("name", ["changing-list:changing-list-upserted", "changing-list:changing-list-overwritten"])
def test_a_list_that_changes_is_read_as_it_is_each_time(api: FakeApi, name: str) -> None:
    lists = [
        [{"unique_key": key, "v": 1} for key in (1, 2, 3)],
        [{"unique_key": 2, "v": 2}, {"unique_key": 4, "v": 1}],
        [{"unique_key": key, "v": 2} for key in (1, 2, 4)],
    ]
    api.script("/test", *({"results": each} for each in lists))
    assert [list(records(Fetch(at(api, example(name))))) for _ in lists] == lists


def test_no_example_holds_a_credential() -> None:
    for sync in read_dir(EXAMPLES).syncs:
        secret = [value for name, value in sync.headers.items() if name.lower() == "authorization"]
        assert all(list(placeholders(value)) for value in secret)
