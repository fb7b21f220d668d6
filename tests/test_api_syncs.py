"""Syncs over HTTP: known by their name or their body, shown without secrets, changed and deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from starlette.testclient import TestClient

from nango_dagster import posted
from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, jobs, queue, syncs
from tests.apis import URL, calling


@pytest.fixture
def http(settings: Settings, db: Database) -> Iterator[TestClient]:
    with calling(settings, db) as client:
        yield client


def post(http: TestClient, **body: Any) -> int:
    answer = http.post("/v1/syncs", json={"url": URL, **body})
    assert answer.status_code == 200, answer.text
    sync_id: int = answer.json()["sync_id"]
    return sync_id


def refusal(answer: Any) -> tuple[int, str, str]:
    """An error's status, code and sentence."""
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


def waiting(db: Database) -> list[bool]:
    return [schedule.triggered_at is not None for schedule in queue.schedules(db)]


def run(db: Database, sync_id: int, error: str | None = None) -> None:
    """An execution of a sync, as a run leaves it behind."""
    row = syncs.get(db, sync_id)
    assert row is not None
    worker = queue.start_worker(db, sync_id, "run")
    (claim,) = queue.claim(db, worker, limit=1, slot=None, force=True)
    with db.begin() as connection:
        queue.begin_execution(connection, db, claim)
        job_id = jobs.start(connection, db, claim, row, "run")
        status = "failed" if error else "succeeded"
        jobs.finish(connection, db, job_id, jobs.Counts(added=3, pages=1), jobs.End(status, "no_cursor", error=error))
        queue.release(connection, db, claim, succeeded=error is None)
    queue.end_worker(db, worker)


# --- posting --------------------------------------------------------------------------------------------------------


def test_the_documented_example_becomes_a_sync(http: TestClient, db: Database) -> None:
    """The curl call of the sync guide, as it stands there."""
    body = {
        "url": "https://api.example.com/my/endpoint?query=A+query",
        "method": "GET",
        "headers": {"Accept": "application/json"},
        "body": {"mykey": "A great value"},
        "response_path": "results",
        "unique_key": "name",
    }
    answer = http.post("/v1/syncs", json=body)
    assert answer.status_code == 200
    assert answer.json() == {
        "sync_id": 1,
        "name": "sync-1",
        "message": "Sync 1 was created; its next run is due now.",
    }
    row = syncs.get(db, 1)
    assert row is not None
    assert row.sync.document() == {"name": "sync-1", **{key: body[key] for key in body if key != "method"}}
    assert row.origin == "http"
    assert waiting(db) == [True]


def test_older_names_of_fields_are_understood(http: TestClient, db: Database) -> None:
    body = {"paging_request_path": "after", "paging_response_path": "next", "max_total": "100"}
    row = syncs.get(db, post(http, **body))
    assert row is not None
    assert (row.sync.paging_cursor_request_path, row.sync.max_total) == ("after", 100)


def test_without_a_name_the_same_body_is_the_same_sync_and_another_body_is_not(http: TestClient, db: Database) -> None:
    first = post(http, metadata={"company_id": 1})
    again = http.post("/v1/syncs", json={"metadata": {"company_id": 1}, "url": URL, "frequency": None})
    assert again.json()["sync_id"] == first
    assert again.json()["message"] == "Sync 1 is the same as before."
    assert post(http, metadata={"company_id": 2}) != first
    assert len(syncs.all(db)) == 2


def test_a_name_is_the_same_sync_whatever_else_the_body_says(http: TestClient, db: Database) -> None:
    first = post(http, name="items")
    run(db, first)
    answer = http.post("/v1/syncs", json={"url": URL, "name": "items", "unique_key": "id"})
    assert answer.json() == {
        "sync_id": first,
        "name": "items",
        "message": "Sync 1 was changed; its next run is due now.",
    }
    assert waiting(db) == [True]


def test_what_has_not_changed_does_not_run_again(http: TestClient, db: Database) -> None:
    run(db, post(http, name="items"))
    run(db, post(http, unique_key="id"))
    post(http, name="items")
    post(http, unique_key="id")
    assert waiting(db) == [False, False]


def test_a_sync_that_is_not_enabled_is_kept_and_does_not_run(http: TestClient, db: Database) -> None:
    answer = http.post("/v1/syncs", json={"url": URL, "enabled": False})
    assert answer.json()["message"] == "Sync 1 was created; it is not enabled, so nothing runs."
    assert waiting(db) == [False]
    assert http.get("/v1/syncs/1").json()["next_run_at"] is None


def test_a_trailing_slash_makes_no_difference(http: TestClient) -> None:
    first = http.post("/v1/syncs/", json={"url": URL}, follow_redirects=False)
    assert first.status_code == 200
    for path in ("/v1/syncs/", "/v1/syncs/1/", "/v1/syncs", "/v1/syncs/1", "/health/", "/docs/"):
        assert http.get(path, follow_redirects=False).status_code == 200
    assert http.delete("/v1/syncs/1/").status_code == 200


def test_everything_wrong_with_a_body_is_said_at_once(http: TestClient, db: Database) -> None:
    body = {"url": "ftp://a.example", "frequency": 0, "uniqe_key": "id", "headers": {"Authorization": {"a": "s3cret"}}}
    answer = http.post("/v1/syncs", json=body)
    status, code, message = refusal(answer)
    assert (status, code) == (400, "invalid_body")
    errors = {".".join(error["path"]): error["message"] for error in answer.json()["error"]["errors"]}
    assert errors["uniqe_key"] == '"uniqe_key" is no field of a sync; did you mean unique_key?'
    assert set(errors) == {"url", "frequency", "uniqe_key", "headers.Authorization"}
    assert all(sentence in message for sentence in errors.values())
    assert "s3cret" not in answer.text
    assert syncs.all(db) == []


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("transform", "os:remove", "transform runs code of this machine"),
        ("script", "sync.py", "script runs code of this machine"),
        ("url", "file:///etc/passwd", "wanted a URL"),
        ("url", "../secrets.json", "wanted a URL"),
        ("url", None, "url is missing"),
    ],
)
def test_code_and_files_are_refused(field: str, value: str | None, said: str, http: TestClient) -> None:
    status, code, message = refusal(http.post("/v1/syncs", json={"url": URL, field: value}))
    assert (status, code) == (400, "invalid_body")
    assert said in message


def test_a_config_file_s_sync_can_be_read_but_not_written(http: TestClient, db: Database) -> None:
    row = syncs.register(db, [Sync(name="items", url=URL)])["items"]
    assert http.get(f"/v1/syncs/{row.id}").json()["origin"] == "file"
    for answer in (
        http.post("/v1/syncs", json={"url": URL, "name": "items", "unique_key": "id"}),
        http.put(f"/v1/syncs/{row.id}", json={"url": URL, "unique_key": "id"}),
        http.delete(f"/v1/syncs/{row.id}"),
    ):
        status, code, message = refusal(answer)
        assert (status, code) == (409, "conflict")
        assert "items is a sync of a config file" in message
    assert syncs.all(db) == [row]


def test_a_model_belongs_to_one_sync(http: TestClient) -> None:
    post(http, name="people", model="Person")
    status, code, message = refusal(http.post("/v1/syncs", json={"url": URL, "name": "users", "model": "Person"}))
    assert (status, code) == (409, "conflict")
    assert "belongs to sync people" in message


# --- listing --------------------------------------------------------------------------------------------------------


def test_the_list_tells_how_each_sync_fares(http: TestClient, db: Database) -> None:
    failing = post(http, name="items", friendly_name="Items", metadata={"company_id": 7}, frequency="every 15 minutes")
    post(http, name="nightly", cron="0 3 * * *", url=f"{URL}?api_key=k&page=2")
    run(db, failing, error="items: it answered 500.")
    first, second = http.get("/v1/syncs").json()["syncs"]
    assert (first["id"], first["name"], first["friendly_name"]) == (failing, "items", "Items")
    assert (first["origin"], first["enabled"], first["metadata"]) == ("http", True, {"company_id": 7})
    assert first["frequency"] == "every 15 minutes"
    assert {key: first["last_job"][key] for key in ("id", "status", "error_message", "attempt", "added")} == {
        "id": 1,
        "status": "failed",
        "error_message": "items: it answered 500.",
        "attempt": 1,
        "added": 3,
    }
    next_run_at = datetime.fromisoformat(first["next_run_at"].replace("Z", "+00:00"))
    assert 0 < (next_run_at - datetime.now(timezone.utc)).total_seconds() <= 15 * 60
    assert (second["frequency"], second["last_job"]) == ("0 3 * * *", None)
    assert second["next_run_at"] >= second["created_at"]
    assert second["url"] == f"{URL}?api_key=***&page=2"
    assert "config" not in first


def test_a_paused_sync_has_no_next_run(http: TestClient, db: Database) -> None:
    sync_id = post(http)
    run(db, sync_id)
    queue.set_state(db, sync_id, "PAUSED")
    assert http.get(f"/v1/syncs/{sync_id}").json()["next_run_at"] is None


def test_a_first_run_is_due_from_the_start(http: TestClient, db: Database) -> None:
    syncs.register(db, [Sync(name="items", url=URL)])
    shown = http.get("/v1/syncs/1").json()
    assert shown["next_run_at"] >= shown["created_at"]
    assert datetime.fromisoformat(shown["next_run_at"].replace("Z", "+00:00")) <= datetime.now(timezone.utc)


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"name": "first"}, [1]),
        ({"url": URL}, [1, 3]),
        ({"url": f"{URL}?token=t"}, [2]),
        ({"url": f"{URL}?token=***"}, [2]),
        ({"friendly_name": "The Second"}, [2]),
        ({"metadata": '{"company_id": 7}'}, [1, 2]),
        ({"metadata": '{"company_id": 7, "team": {"id": 1}}'}, [2]),
        ({"metadata": '{"company_id": "7"}'}, []),
        ({"metadata": "{}", "name": "third"}, [3]),
        ({"name": "first", "url": f"{URL}?token=t"}, []),
        ({}, [1, 2, 3]),
    ],
)
def test_a_duplicate_can_be_looked_for(query: dict[str, str], ids: list[int], http: TestClient) -> None:
    post(http, name="first", metadata={"company_id": 7})
    post(http, url=f"{URL}?token=t", friendly_name="The Second", metadata={"company_id": 7, "team": {"id": 1}})
    post(http, name="third", metadata={"flag": True})
    assert [sync["id"] for sync in http.get("/v1/syncs", params=query).json()["syncs"]] == ids


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?nam=items", 'the query parameter "nam" is not expected here; wanted each of name, url'),
        ("?name=a&name=b", 'the query parameter "name" is not expected here'),
        ("?metadata=7", "metadata is no JSON object"),
        ("?metadata={", "metadata is no JSON object"),
        ("?metadata=" + "[" * 5000, "metadata is no JSON object"),
    ],
)
def test_a_filter_is_never_ignored(query: str, said: str, http: TestClient) -> None:
    status, code, message = refusal(http.get(f"/v1/syncs{query}"))
    assert (status, code) == (400, "invalid_query_params")
    assert said in message


def test_many_syncs_are_listed(http: TestClient, db: Database) -> None:
    syncs.register(db, [Sync(name=f"sync{number}", url=URL) for number in range(1100)], "http")
    assert len(http.get("/v1/syncs").json()["syncs"]) == 1100


# --- one sync -------------------------------------------------------------------------------------------------------

SECRETS = {
    "url": "https://me:p4ss@api.example.com/items?api_key=k3y&page=2",
    "method": "POST",
    "headers": {"Authorization": "Bearer t0ken", "Accept": "application/json"},
    "query_params": {"access_token": ["t0ken", "t1ken"], "limit": 5},
    "body": {"auth": {"user": "me", "pin": 1234}, "tags": [{"password": "p4ss", "name": "a"}], "after": None},
}
SHOWN = {
    "url": "https://***@api.example.com/items?api_key=***&page=2",
    "method": "POST",
    "headers": {"Authorization": "***", "Accept": "application/json"},
    "query_params": {"access_token": ["***", "***"], "limit": 5},
    "body": {"auth": {"user": "***", "pin": "***"}, "tags": [{"password": "***", "name": "a"}], "after": None},
}


def test_a_sync_is_shown_with_its_config_and_without_its_secrets(http: TestClient, db: Database) -> None:
    sync_id = post(http, **SECRETS, name="items", unique_key="id")
    run(db, sync_id)
    answer = http.get(f"/v1/syncs/{sync_id}")
    assert answer.json()["config"] == {"name": "items", "unique_key": "id", **SHOWN}
    assert answer.json()["last_job"]["status"] == "succeeded"
    for text in (answer.text, http.get("/v1/syncs").text):
        assert not [secret for secret in ("p4ss", "k3y", "t0ken", "t1ken", "1234") if secret in text]


def test_a_config_can_be_shown_changed_and_put_back(http: TestClient, db: Database) -> None:
    sync_id = post(http, **SECRETS)
    config = http.get(f"/v1/syncs/{sync_id}").json()["config"]
    answer = http.put(f"/v1/syncs/{sync_id}", json={**config, "unique_key": "id"})
    assert answer.json()["message"] == "Sync 1 was changed; its next run is due now."
    row = syncs.get(db, sync_id)
    assert row is not None
    assert row.sync.document() == {"name": "sync-1", **SECRETS, "unique_key": "id"}


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://evil.example/items"},
        {"url": "https://***@evil.example/items?api_key=***&page=2"},
        {"url": "http://***@api.example.com/items?api_key=***&page=2"},
        {"url": "https://evil.example#@api.example.com/items?api_key=***"},
        {"url": "https://evil.example?@api.example.com/items&api_key=***"},
        {"url": "https://evil.example\\@api.example.com/items?api_key=***"},
        {"url": "https://***@api.example.com:8443/items?api_key=***"},
        {"url": "https://***@${metadata.host}/items?api_key=***"},
        {"allowed_origins": ["https://evil.example"]},
    ],
)
def test_a_secret_that_is_not_shown_cannot_be_sent_elsewhere(change: dict[str, Any], http: TestClient) -> None:
    sync_id = post(http, **SECRETS)
    config = http.get(f"/v1/syncs/{sync_id}").json()["config"]
    status, code, message = refusal(http.put(f"/v1/syncs/{sync_id}", json={**config, **change}))
    assert (status, code) == (400, "invalid_body")
    assert "lead elsewhere now" in message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"headers": {"X-Token": "***"}}, "headers.X-Token"),
        ({"url": "https://api.example.com/items?api_key=***"}, "url"),
        ({"url": "https://you:***@api.example.com/items"}, "url"),
        ({"query_params": {"access_token": ["a", "b", "***"]}}, "query_params.access_token[2]"),
        ({"body": {"auth": "***"}}, "body.auth"),
        ({"body": [{"auth": {"user": "***"}}]}, "body[0].auth.user"),
    ],
)
def test_stars_that_stand_for_nothing_are_refused(change: dict[str, Any], field: str, http: TestClient) -> None:
    sync_id = post(http, **SECRETS)
    fresh = {key: value for key, value in SECRETS.items() if key != "headers"}
    for answer in (
        http.put(f"/v1/syncs/{sync_id}", json={**fresh, **change}),
        http.post("/v1/syncs", json={**fresh, **change}),
    ):
        status, code, message = refusal(answer)
        assert (status, code) == (400, "invalid_body")
        assert f"{field} holds ***, which stands for a secret that is not shown" in message


def test_stars_that_nobody_put_there_are_a_value(http: TestClient, db: Database) -> None:
    row = syncs.get(db, post(http, query_params={"q": "***"}, headers={"X-Stars": "***"}))
    assert row is not None
    assert row.sync.query_params == {"q": "***"}


def test_a_sync_keeps_its_name_and_id(http: TestClient, db: Database) -> None:
    sync_id = post(http, name="items")
    assert http.put(f"/v1/syncs/{sync_id}", json={"url": URL, "unique_key": "id"}).json()["name"] == "items"
    assert http.put(f"/v1/syncs/{sync_id}", json={"url": URL, "name": "items"}).status_code == 200
    status, code, message = refusal(http.put(f"/v1/syncs/{sync_id}", json={"url": URL, "name": "others"}))
    assert (status, code) == (400, "invalid_body")
    assert message == 'name is "others", but sync 1 is called items, and keeps its name; leave it out.'


def test_a_put_that_changes_nothing_runs_nothing(http: TestClient, db: Database) -> None:
    sync_id = post(http, name="items")
    run(db, sync_id)
    assert "is the same" in http.put(f"/v1/syncs/{sync_id}", json={"url": URL}).json()["message"]
    assert waiting(db) == [False]


def test_a_deleted_sync_is_gone(http: TestClient, db: Database) -> None:
    sync_id = post(http)
    run(db, sync_id)
    answer = http.delete(f"/v1/syncs/{sync_id}")
    assert answer.json() == {"sync_id": 1, "name": "sync-1", "message": "Sync 1 and its rows were deleted."}
    assert not (syncs.all(db) or jobs.list_jobs(db) or queue.schedules(db))
    assert http.get("/v1/syncs").json() == {"syncs": []}


@pytest.mark.parametrize("id", ["7", str(2**63 - 1)])
def test_a_sync_that_is_not_there_is_not_found(id: str, http: TestClient) -> None:
    path = f"/v1/syncs/{id}"
    for answer in (http.get(path), http.put(path, json={"url": URL}), http.delete(path)):
        assert refusal(answer) == (404, "not_found", f"there is no sync {id}; GET /v1/syncs lists those there are.")


@pytest.mark.parametrize("id", ["x", "0", "-1", "1.5", str(2**63), "9" * 5000, "%0a", "٣x", "1_0"])
def test_what_is_no_id_is_said(id: str, http: TestClient) -> None:
    for answer in (http.get(f"/v1/syncs/{id}"), http.put(f"/v1/syncs/{id}", json={"url": URL})):
        status, code, message = refusal(answer)
        assert (status, code) == (400, "invalid_uri_params")
        assert message.startswith("id is ")


@pytest.mark.parametrize("path", ["/v1/syncs", "/v1/syncs/1"])
def test_parameters_that_mean_nothing_are_refused(path: str, http: TestClient) -> None:
    post(http)
    method = "POST" if path == "/v1/syncs" else "PUT"
    status, code, _ = refusal(http.request(method, f"{path}?name=items", json={"url": URL}))
    assert (status, code) == (400, "invalid_query_params")


# --- steering -----------------------------------------------------------------------------------------------------


def test_a_sync_is_steered_by_its_id(http: TestClient, db: Database) -> None:
    sync_id = post(http)
    for action, state, is_due in (
        ("pause", "PAUSED", False),
        ("trigger", "PAUSED", True),
        ("cancel", "PAUSED", False),
        ("resume", "STARTED", True),
    ):
        answer = http.put("/v1/syncs", json={"sync_id": sync_id, "action": action})
        assert answer.json() == {"message": f"Successfully performed action '{action}' on Sync 1"}
        (schedule,) = queue.schedules(db)
        assert (schedule.state, schedule.triggered_at is not None) == (state, is_due)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"sync_id": 7, "action": "pause"}, 404, "not_found"),
        ({"sync_id": 1, "action": "stop"}, 400, "invalid_body"),
        ({"sync_id": 1, "action": "a\x00" * 99}, 400, "invalid_body"),
        ({"sync_id": "1", "action": "pause"}, 400, "invalid_body"),
        ({"action": "pause"}, 400, "invalid_body"),
        ({"sync_id": 1, "action": "pause", "now": True}, 400, "invalid_body"),
    ],
)
def test_an_action_that_cannot_be_is_refused(
    body: dict[str, Any], status: int, code: str, http: TestClient, db: Database
) -> None:
    post(http)
    assert refusal(http.put("/v1/syncs", json=body))[:2] == (status, code)
    assert queue.schedules(db)[0].state == "STARTED"


# --- elsewhere ------------------------------------------------------------------------------------------------------


def test_definitions_find_the_posted_syncs_without_the_database(settings: Settings, db: Database) -> None:
    down = replace(settings, db_url="postgresql+psycopg://127.0.0.1:1/nango")
    with calling(settings, db) as http:
        post(http, name="items")
        post(http, name="gone")
        http.delete("/v1/syncs/2")
    assert [sync.name for sync in posted.load(down)] == ["items"]
