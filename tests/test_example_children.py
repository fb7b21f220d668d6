"""The example of issues and their comments: GitHub's lists with Link headers, on a local server."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from nango_dagster import runs
from nango_dagster.config import Sync, read_dir
from nango_dagster.runs import Outcome
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, syncs
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.vault import vault_of
from tests.conftest import ROOT
from tests.executions import ordered, stored
from tests.fake_api import Answer, FakeApi, Received

PATH = "/repos/octocat/hello-world/issues"


def here(api: FakeApi, sync: Sync) -> Sync:
    return sync.model_copy(update={"url": sync.url.replace("https://api.github.com", api.url)})


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_issues_and_the_comments_of_changed_ones_are_read(db: Database, settings: Settings, api: FakeApi) -> None:
    issues = {number: {"id": 900 + number, "number": number, "updated_at": "2024-05-01T00:00:00Z"} for number in (1, 2)}
    comments = {number: [{"id": number * 100 + at, "body": "x"} for at in range(3)] for number in issues}

    def list_of(number: int, request: Received) -> Answer:
        page = int(request.params.get("page", 1))
        following = f'<{api.url}{request.path}?per_page=100&page={page + 1}>; rel="next"'
        body = comments[number][2 * page - 2 : 2 * page]
        return Answer(headers={"Link": following} if page == 1 else {}, body=body)

    api.route(PATH, lambda request: list(issues.values()))
    for number in issues:
        api.route(f"{PATH}/{number}/comments", partial(list_of, number))
    configs = read_dir(ROOT / "examples")
    own = [here(api, sync) for sync in configs.syncs if sync.integration == "github"]
    assert [sync.name for sync in own] == ["github-issue-comments", "github-issues"]
    rows = syncs.register(db, own)
    metadata = {"owner": "octocat", "repository": "hello-world"}
    credentials = {"type": "BEARER", "token": "ghp_1"}
    connections.add(
        db, vault_of(settings), connections.NewConnection("github", "acme", credentials=credentials, metadata=metadata)
    )

    def run(row: SyncRow) -> Outcome:
        with runs.claimed(db, settings, row, connection_id="acme") as execution:
            outcome = execution.run()
        assert outcome.status == "succeeded", outcome.error
        return outcome

    run(rows["github-issues"])
    assert run(rows["github-issue-comments"]).counts.added == 6
    assert {request.headers["Authorization"] for request in api.requests} == {"Bearer ghp_1"}
    assert {request.params["per_page"] for request in api.requests} == {"100"}
    expected: list[Any] = [{**comment, "issue_number": number} for number in issues for comment in comments[number]]
    assert stored(db, rows["github-issue-comments"]).live == ordered(expected)
    comments[2].append({"id": 203, "body": "new"})
    issues[2]["updated_at"] = "2024-05-02T00:00:00Z"
    api.requests.clear()
    run(rows["github-issues"])
    assert run(rows["github-issue-comments"]).counts.added == 1
    assert {request.path for request in api.requests} == {PATH, f"{PATH}/2/comments"}
