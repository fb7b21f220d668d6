"""Each incremental example reads everything once, and then what changed, from an API like the one it is written for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

import pytest

from nango_dagster.config import from_body, placeholders, read_file
from nango_dagster.settings import Settings
from nango_dagster.store import Database, syncs
from tests.conftest import ROOT
from tests.executions import execute, stored
from tests.fake_api import Answer, FakeApi, Received, Reply

EXAMPLES = ROOT / "examples" / "incremental"
TODAY = datetime.now(timezone.utc)

Api = Callable[[FakeApi, Received], Reply]
"""The answer of an API: everything to a request without a cursor, else the changed records."""


def github(api: FakeApi, request: Received) -> Reply:
    if "since" in request.params:
        return [{"id": 2, "title": "new", "updated_at": "2026-01-02T00:00:00Z"}]
    if "page" not in request.params:
        link = {"Link": f'<{api.url}{request.path}?page=2>; rel="next"'}
        return Answer(200, link, [{"id": 1, "title": "a", "updated_at": "2026-01-01T10:00:00Z"}])
    return [{"id": 2, "title": "b", "updated_at": "2026-01-01T11:00:00Z"}]


def stripe(api: FakeApi, request: Received) -> Reply:
    if "created[gte]" in request.params:
        return {"data": [{"id": "ch_2", "created": 1767229200}], "has_more": False}
    return {"data": [{"id": "ch_1", "created": 1767225600}], "has_more": False}


def intercom(api: FakeApi, request: Received) -> Reply:
    is_first = request.json["query"]["value"] == 0
    return {"data": [{"id": "c1", "name": "a" if is_first else "b", "updated_at": 1767225600}], "pages": {"next": None}}


def xero(api: FakeApi, request: Received) -> Reply:
    page, is_first = int(request.params["page"]), request.headers["If-Modified-Since"] is None
    return {"Contacts": [{"ContactID": "1", "Name": "a" if is_first else "b"}] if page == 1 else []}


def jira(api: FakeApi, request: Received) -> Reply:
    is_first = '"2000-01-01 00:00"' in request.params["jql"]
    updated = {"updated": "2026-01-03T10:20:30.000+0100", "summary": "a" if is_first else "b"}
    return {"issues": [{"id": "10001", "fields": updated}], "isLast": True}


def calendar(api: FakeApi, request: Received) -> Reply:
    token = request.params.get("syncToken")
    if token == "t2":
        return Answer(410)
    return {"items": [{"id": "e1", "summary": token or "first"}], "nextSyncToken": "t2" if token else "t1"}


def graph(api: FakeApi, request: Received) -> Reply:
    if "$deltatoken" in request.params:
        removed = {"id": "u1", "@removed": {"reason": "deleted"}}
        return {"value": [removed], "@odata.deltaLink": f"{api.url}{request.path}?$deltatoken=b"}
    users = [{"id": "u1"}, {"id": "u2"}]
    if "$skiptoken" in request.params:
        return {"value": users[1:], "@odata.deltaLink": f"{api.url}{request.path}?$deltatoken=a"}
    return {"value": users[:1], "@odata.nextLink": f"{api.url}{request.path}?$skiptoken=x"}


def couch(api: FakeApi, request: Received) -> Reply:
    if "since" in request.params:
        return {"results": [{"seq": "3-x", "id": "a", "deleted": True, "changes": []}], "last_seq": "3-x", "pending": 0}
    results = [{"seq": "1-x", "id": "a", "changes": []}, {"seq": "2-x", "id": "b", "changes": []}]
    return {"results": results, "last_seq": "2-x", "pending": 0}


def zoom(api: FakeApi, request: Received) -> Reply:
    begin = request.params["from"]
    return {"meetings": [{"uuid": begin, "end_time": f"{begin}T10:00:00Z"}], "next_page_token": ""}


def notion(api: FakeApi, request: Received) -> Reply:
    number = int(request.json.get("start_cursor", 1))
    days = [5, 4, 3, 2, 1]
    page = [{"id": f"p{day}", "last_edited_time": f"2026-01-0{day}T00:00:00.000Z"} for day in days[number - 1 : number]]
    more = number < len(days)
    return {"results": page, "has_more": more, "next_cursor": str(number + 1) if more else None}


def body_value(request: Received) -> Any:
    return request.json["query"]["value"]


CASES: list[tuple[str, Api, Callable[[list[Received]], Any], Any, int]] = [
    ("github-issues", github, lambda asked: asked[0].params["since"], "2026-01-01T10:59:00Z", 2),
    ("stripe-charges", stripe, lambda asked: asked[0].params["created[gte]"], "1767225540", 2),
    ("intercom-contacts", intercom, lambda asked: body_value(asked[0]), 1767139200, 1),
    (
        "xero-contacts", xero, lambda asked: asked[0].headers["If-Modified-Since"][:10],
        f"{TODAY - timedelta(minutes=1):%Y-%m-%d}", 1,
    ),
    (
        "jira-issues", jira, lambda asked: asked[0].params["jql"],
        'updated >= "2026-01-02 09:20" order by updated', 1,
    ),
    ("google-calendar-events", calendar, lambda asked: asked[0].params["syncToken"], "t1", 1),
    ("microsoft-graph-users", graph, lambda asked: asked[0].params["$deltatoken"], "a", 1),
    ("couchdb-changes", couch, lambda asked: asked[0].params["since"], "2-x", 1),
    (
        "zoom-meetings", zoom, lambda asked: [(one.params["from"], one.params["to"]) for one in asked],
        [(f"{TODAY - timedelta(days=1):%Y-%m-%d}", f"{TODAY:%Y-%m-%d}")], 3,
    ),
    ("notion-pages", notion, lambda asked: len(asked) <= 3, True, 5),
]  # fmt: skip


def test_every_incremental_example_is_tested() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("*.yaml")) == sorted(name for name, *_ in CASES)


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("name", "answer", "sent", "expected", "live"), CASES, ids=[name for name, *_ in CASES])
def test_an_example_reads_everything_once_and_then_what_changed(
    db: Database,
    settings: Settings,
    api: FakeApi,
    name: str,
    answer: Api,
    sent: Callable[[list[Received]], Any],
    expected: Any,
    live: int,
) -> None:
    (example,) = read_file(EXAMPLES / f"{name}.yaml")
    names = {each.removeprefix("env.") for each in placeholders(example.templates) if each.startswith("env.")}
    settings = replace(settings, env={each: "x1" for each in names})
    path = urlsplit(example.url.replace("${env.JIRA_SITE}", "x1").replace("${env.NOTION_DATABASE}", "x1"))
    url = f"{api.url}{path.path}" + (f"?{path.query}" if path.query else "")
    row = syncs.register(db, [from_body({**example.document(), "name": name, "url": url, "retries": 0})])[name]
    api.route(path.path, lambda request: answer(api, request))
    for _ in range(2 if example.paging_page_request_path else 1):  # numbered pages are read twice
        assert execute(db, settings, row).error is None
    api.requests.clear()
    outcome = execute(db, settings, row)
    assert (outcome.status, sent(api.requests), stored(db, row).live_count) == ("succeeded", expected, live)
    assert execute(db, settings, row).status == "succeeded", "Google refuses the second token with 410"
