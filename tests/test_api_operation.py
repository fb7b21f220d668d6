"""The API in operation: probes, metrics, limits, and several processes that serve as one."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from http.client import HTTPConnection
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import urljoin

import psutil
import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from nango_dagster import clock
from nango_dagster.api.gate import limits, protocol
from nango_dagster.api.input import bodies
from nango_dagster.api.routes import health
from nango_dagster.api.routes import metrics as api_metrics
from nango_dagster.api.serving import server_options
from nango_dagster.api.store import Store
from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, jobs, queue, schema, syncs
from nango_dagster.store.jobs import Counts
from nango_dagster.store.sync_row import SyncRow
from tests.apis import URL, Served, calling, listening, served
from tests.executions import until

DOWN = "postgresql+psycopg://nango:s3cret@127.0.0.1:1/nango"


@pytest.fixture
def http(settings: Settings, db: Database) -> Iterator[TestClient]:
    with calling(settings, db) as client:
        yield client


# --- probes ---------------------------------------------------------------------------------------------------------


def test_ready_says_so_while_the_database_answers_and_needs_no_key(settings: Settings, db: Database) -> None:
    with calling(settings, client="203.0.113.7", secret_keys=("key",)) as http:
        for path in ("/ready", "/ready/", "/health"):
            answer = http.get(path)
            assert (answer.status_code, answer.json()) == (200, {"result": "ok"})
        assert http.head("/ready").status_code == http.head("/health").status_code == 200


def test_a_database_that_is_down_is_not_ready_and_nobody_learns_where_it_is(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with calling(settings, client="203.0.113.7", secret_keys=("key",), db_url=DOWN) as http:
        assert http.get("/health").status_code == 200
        answer = http.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "not_ready"
    assert answer.json()["error"]["message"] == "the database cannot be used now; the server's log says why."
    assert "127.0.0.1" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_database_that_is_silent_is_not_ready_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and never says a word, as one behind a broken network does."""
    monkeypatch.setattr(health, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://127.0.0.1:{silent.getsockname()[1]}/nango"
        readiness = health.Readiness(Store(Settings(db_url=url, home=tmp_path)))
        threads = threading.active_count()
        for _ in range(3):
            problem = asyncio.run(readiness.problem())
            assert problem == "the database has not answered within 0.2 seconds."
        assert threading.active_count() <= threads + 1


@pytest.mark.parametrize(
    "statement", ["UPDATE _nango_migrations SET version_num = '0000'", "DROP TABLE _nango_migrations"]
)
def test_a_database_without_this_releases_tables_is_not_ready(statement: str, settings: Settings, db: Database) -> None:
    with calling(settings, db) as http:
        assert http.get("/ready").status_code == 200
        with db.begin() as connection:
            connection.execute(sa.text(statement))
        answer = http.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "the database does not have the tables of this release."


# --- metrics --------------------------------------------------------------------------------------------------------

Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]


def numbers(text: str) -> Numbers:
    """Every sample by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def number(found: Numbers, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def executed(db: Database, row: SyncRow, status: str, connection_id: str = "default") -> None:
    """One execution, as a run does it."""
    worker = queue.start_worker(db, row.id, "run-1")
    (claim,) = queue.claim(db, worker, limit=1, slot=None, only=[(connection_id, "base")], force=True)
    with db.begin() as connection:
        queue.begin_execution(connection, db, claim)
        job = jobs.start(connection, db, claim, row, "run-1")
    with db.begin() as connection:
        jobs.finish(connection, db, job, Counts(added=1), jobs.End(status))
        queue.release(connection, db, claim, succeeded=status == "succeeded")
    queue.end_worker(db, worker)


def test_requests_are_counted_by_route_and_not_by_url(http: TestClient) -> None:
    for path in ("/v1/syncs/1", "/v1/syncs/2", "/v1/syncs/2/"):
        http.get(path)
    http.get("/nowhere/at/all")
    http.request("BREW", "/v1/syncs")
    http.post("/v1/syncs", json={"url": URL})
    answer = http.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    found = numbers(answer.text)
    count = "nango_http_requests_total"
    assert number(found, count, method="GET", route="/v1/syncs/{id}", status="404") == 3
    assert number(found, count, method="GET", route="none", status="404") == 1
    assert number(found, count, method="other", route="/v1/syncs", status="405") == 1
    assert number(found, count, method="POST", route="/v1/syncs", status="200") == 1
    seconds = "nango_http_request_duration_seconds_count"
    assert number(found, seconds, method="GET", route="/v1/syncs/{id}") == 3


def test_how_syncs_are_doing_is_told(settings: Settings, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_metrics, "FRESH_SECONDS", 0.0)
    one = syncs.post(db, Sync(name="one", url=URL, integration="crm", unique_key="id"), named=True)
    for name in ("acme", "globex", "initech"):
        connections.add(db, None, connections.NewConnection("crm", name))
    two = syncs.post(db, Sync(name="two", url=URL), named=True)
    executed(db, one, "succeeded", "acme")
    executed(db, one, "failed", "globex")
    executed(db, two, "succeeded")
    executed(db, two, "failed")
    late = db.clock(timedelta(hours=3))
    with db.begin() as connection:
        connection.execute(
            sa.update(schema.schedules).where(schema.schedules.c.connection_id == "initech").values(created_at=late)
        )
        connection.execute(
            sa.update(schema.connections).where(schema.connections.c.connection_id == "globex").values(auth_failures=3)
        )
    with calling(settings, db) as http:
        found = numbers(http.get("/metrics").text)
        mine = {"integration": "crm", "sync": "one"}
        executions = "nango_sync_executions"
        assert number(found, executions, **mine, status="succeeded") == 1
        assert number(found, executions, **mine, status="failed") == 1
        assert number(found, executions, **mine, status="never") == 1
        assert 10_800 <= (number(found, "nango_sync_lag_seconds", **mine) or 0) < 11_000
        assert number(found, "nango_connections_needing_reauthorisation", integration="crm") == 1
        other = {"integration": "default", "sync": "two"}
        assert number(found, executions, **other, status="failed") == 1
        assert abs((number(found, "nango_sync_last_success_timestamp_seconds", **other) or 0) - time()) < 60
        assert number(found, "nango_sync_records", **other) == 0
        assert number(found, "nango_connections_needing_reauthorisation", integration="default") == 0
        assert number(found, "nango_webhooks", state="pending") is not None
        assert number(found, "nango_webhooks", state="dead") == 0
        assert number(found, "nango_store_up") == 1
        syncs.delete(db, two.id)
        assert number(numbers(http.get("/metrics").text), executions, **other, status="failed") is None


def test_of_very_many_syncs_integrations_are_told(
    settings: Settings, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_metrics, "MOST_SYNCS", 2)
    for name in ("a", "b", "c"):
        syncs.post(db, Sync(name=name, url=URL), named=True)
    with calling(settings, db) as http:
        found = numbers(http.get("/metrics").text)
    assert number(found, "nango_sync_executions", integration="default", sync="", status="never") == 3


def test_scrapes_one_after_another_ask_the_database_once(settings: Settings, db: Database) -> None:
    asked = []
    sa.event.listen(db.engine.sqlalchemy, "before_cursor_execute", lambda *a: asked.append(a[2]))
    with calling(settings, db) as http:
        first = http.get("/metrics").text
        there = len(asked)
        assert there < 20
        for _ in range(5):
            assert "nango_store_up 1.0" in http.get("/metrics").text
    assert len(asked) == there
    assert not any("_nango_raw" in statement for statement in asked)
    assert "nango_store_up 1.0" in first


def test_metrics_are_there_while_the_database_is_not(settings: Settings) -> None:
    with calling(settings, db_url=DOWN) as http:
        http.get("/v1/syncs")
        answer = http.get("/metrics")
    assert answer.status_code == 200
    assert number(numbers(answer.text), "nango_store_up") == 0
    assert number(numbers(answer.text), "nango_http_requests_total", method="GET", route="/v1/syncs", status="503") == 1
    assert "s3cret" not in answer.text


def test_metrics_need_the_key_unless_a_setting_says_otherwise(settings: Settings, db: Database) -> None:
    with calling(settings, db, client="203.0.113.7", secret_keys=("key",)) as http:
        assert http.get("/metrics").status_code == 401
        assert http.get("/metrics", headers={"Authorization": "Bearer key"}).status_code == 200
    with calling(settings, db, client="203.0.113.7", secret_keys=("key",), metrics_without_key=True) as http:
        assert http.get("/metrics").status_code == 200
        assert http.get("/v1/syncs").status_code == 401


# --- limits ---------------------------------------------------------------------------------------------------------


def test_a_key_has_so_many_requests_in_a_minute(
    settings: Settings, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now().replace(microsecond=0).timestamp()
    monkeypatch.setattr(clock, "now", lambda: datetime.fromtimestamp(now, timezone.utc))
    keys = {"one": {"Authorization": "Bearer one"}, "two": {"Authorization": "Bearer two"}}
    with calling(settings, db, secret_keys=("one", "two"), api_rate_limit=2) as http:
        for left in ("1", "0"):
            answer = http.get("/v1/syncs", headers=keys["one"])
            assert answer.status_code == 200
            assert answer.headers["X-RateLimit-Limit"] == "2"
            assert answer.headers["X-RateLimit-Remaining"] == left
            assert 59 < int(answer.headers["X-RateLimit-Reset"]) - now < 62
        now += 20
        refused = http.post("/v1/syncs", json={"url": URL}, headers=keys["one"])
        assert refused.status_code == 429
        assert refused.json()["error"] == {
            "code": "too_many_request",
            "message": "this key has sent more than 2 requests in a minute; wait 41 seconds.",
            "method": "POST",
            "path": "/v1/syncs",
        }
        assert refused.headers["Retry-After"] == "41"
        assert refused.headers["X-RateLimit-Remaining"] == "0"
        assert http.get("/v1/syncs", headers=keys["two"]).json() == {"syncs": []}
        for path in ("/health", "/ready", "/metrics"):
            assert http.get(path, headers=keys["one"]).status_code == 200
        now += 41
        assert http.get("/v1/syncs", headers=keys["one"]).status_code == 200


def test_without_the_setting_there_is_no_limit(http: TestClient) -> None:
    assert not [name for name in http.get("/v1/syncs").headers if name.startswith("x-ratelimit")]


def test_a_clock_that_was_set_back_does_not_lock_anybody_out() -> None:
    windows = limits.Windows(1)
    assert [windows.add(0, now)[1] for now in (1000.0, 1030.0, 900.0, 901.0)] == [1, 2, 1, 2]


def test_two_headers_that_say_whose_records_are_refused(http: TestClient) -> None:
    headers = [("Connection-Id", "a"), ("Connection-Id", "b"), ("Provider-Config-Key", "crm")]
    answer = http.get("/records", params={"model": "Issue"}, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "the header Connection-Id is there more than once; wanted one."


def test_two_keys_in_one_request_are_refused(settings: Settings, db: Database) -> None:
    with calling(settings, db, secret_keys=("key",)) as http:
        for keys in (("key", "other"), ("other", "key")):
            answer = http.get("/v1/syncs", headers=[("Authorization", f"Bearer {key}") for key in keys])
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "malformed_auth_header")


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A real server; what it reads is no matter of the database."""
    settings = Settings(db_url=f"sqlite:///{tmp_path}/nango.db", home=tmp_path)
    with listening(settings) as at:
        yield at


def said(port: int, *parts: bytes) -> tuple[int, Any]:
    """The status and body of what comes back for these bytes, when the server has ended the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        with connection.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else None


CLOSE = b"Host: localhost\r\nConnection: close\r\n"
POST = b"POST /v1/syncs HTTP/1.1\r\nContent-Type: application/json\r\n" + CLOSE


def test_a_url_and_headers_that_are_too_long_are_said(port: int) -> None:
    status, body = said(
        port, b"GET /v1/syncs?name=" + b"x" * limits.MOST_URL_BYTES + b" HTTP/1.1\r\n" + CLOSE + b"\r\n"
    )
    assert (status, body["error"]["code"]) == (414, "uri_too_long")
    lines = b"".join(b"X-%d: %b\r\n" % (at, b"x" * 8000) for at in range(9))
    status, body = said(port, b"GET /v1/syncs HTTP/1.1\r\n" + lines + CLOSE + b"\r\n")
    assert (status, body["error"]["code"]) == (431, "headers_too_large")


def test_a_body_without_a_length_is_counted_as_it_comes(port: int) -> None:
    """Its sender, who goes on sending, gets the answer all the same."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        parts = (b" " * 0x10000 for _ in range(40))
        connection.request("POST", "/v1/syncs", parts, {"Content-Type": "application/json"}, encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 413
        assert json.loads(answer.read())["error"]["code"] == "request_too_large"


def test_a_body_that_does_not_end_is_not_waited_for(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_SECONDS", 0.3)
    status, body = said(port, POST, b'Content-Length: 100\r\n\r\n{"url": ')
    assert (status, body["error"]["code"]) == (408, "request_timeout")


def test_headers_that_do_not_end_are_not_waited_for(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    status, body = said(port, POST, b"X-Slow: ")
    assert (status, body["error"]["code"]) == (408, "request_timeout")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as silent:
        assert silent.recv(1) == b""


def test_headers_that_do_not_end_are_not_kept(port: int) -> None:
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET /v1/syncs HTTP/1.1\r\n")
        for at in range(10_000):
            connection.sendall(b"X-%d: %b\r\n" % (at, b"x" * 10_000))


def test_a_body_that_nobody_reads_does_not_keep_the_connection(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "REST_SECONDS", 0.3)
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    assert said(port, request)[0] == 200


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /v1/syncs/\xff\xfe HTTP/1.1", 400),
        (b"GET /v1/syncs?name=\xff HTTP/1.1", 400),
        (b"GET /v1/syncs?name=%ff%fe HTTP/1.1", 200),
        (b"GET /v1/syncs?name=a%00b HTTP/1.1", 400),
        (b"GET /v1/syncs?name=a%2500b HTTP/1.1", 200),
        (b"GET /v1/syncs/%ff%00 HTTP/1.1", 400),
        (b"GET /%00/%2e%2e/etc HTTP/1.1", 400),
        (b"GET /%2e%2e/etc HTTP/1.1", 404),
        (b"BREW /v1/syncs HTTP/1.1", 400),
        (b"TRACE /v1/syncs HTTP/1.1", 405),
        (b"OPTIONS /v1/syncs HTTP/1.1", 405),
        (b"OPTIONS * HTTP/1.1", 404),
        (b"CONNECT localhost:80 HTTP/1.1", 400),
        (b"GET http://other.example/v1/syncs HTTP/1.1", 200),
        (b"GET /v1/syncs HTTP/9.9", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"GET", 400),
        (b"GET /v1/syncs HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade", 200),
        (b"GET /v1/syncs HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", 400),
        (b"GET /v1/syncs HTTP/1.1\r\nX: \xff\xfe\x80", 200),
        (b"GET /v1/syncs HTTP/1.1\r\nX: a\x00b", 400),
        (b"GET /records?model=Issue HTTP/1.1\r\nConnection-Id: \xff\r\nProvider-Config-Key: \xff", 400),
        (b"POST /v1/syncs HTTP/1.1\r\nContent-Type: \xff\r\nContent-Length: 0", 415),
        (b"POST /v1/syncs HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0", 400),
        (b"POST /v1/syncs HTTP/1.1\r\nContent-Length: -1", 400),
    ],
)
def test_whatever_comes_is_answered_in_the_envelope(request_line: bytes, status: int, port: int) -> None:
    found, body = said(port, request_line + b"\r\n" + CLOSE + b"\r\n")
    assert found == status
    assert body == {"syncs": []} if status == 200 else set(body) == {"error"}


def test_head_is_answered_as_get_without_the_body(port: int) -> None:
    for path, status in ((b"/v1/syncs", 200), (b"/health", 200), (b"/nowhere", 404), (b"/v1/syncs/7", 404)):
        assert said(port, b"HEAD " + path + b" HTTP/1.1\r\n" + CLOSE + b"\r\n") == (status, None)


# --- several processes ----------------------------------------------------------------------------------------------


def asked(api: Served, path: str = "/v1/syncs", **headers: str) -> tuple[int, dict[str, str], str]:
    request = urllib.request.Request(api.url + path, headers={"Authorization": "Bearer key", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Which database it is makes no difference to processes."""
    return {
        "NANGO_DB_URL": f"sqlite:///{tmp_path / 'nango.db'}",
        "NANGO_HOME": str(tmp_path),
        "NANGO_SECRET_KEY": "key",
    }


def workers_of(api: Served) -> list[psutil.Process]:
    """The processes that serve; multiprocessing has another one, which keeps track of what they share."""
    there = psutil.Process(api.process.pid).children()
    living = [one for one in there if one.status() != psutil.STATUS_ZOMBIE]
    return [one for one in living if "spawn_main" in " ".join(one.cmdline())]


@pytest.mark.acceptance
def test_several_workers_count_together_and_share_the_limit(env: dict[str, str]) -> None:
    with served({**env, "NANGO_SECRET_KEY": "other,key", "NANGO_API_RATE_LIMIT": "60"}, workers=3) as api:
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: asked(api), range(100)))
        statuses = [status for status, _, _ in answers]
        assert (statuses.count(200), statuses.count(429)) == (60, 40)
        found = numbers(asked(api, "/metrics")[2])
        assert number(found, "nango_http_requests_total", method="GET", route="/v1/syncs", status="200") == 60
        assert number(found, "nango_http_requests_total", method="GET", route="none", status="429") == 40
        assert number(found, "nango_http_request_duration_seconds_count", method="GET", route="/v1/syncs") == 60
        log = api.stop()
    assert len(set(re.findall(r"Started server process \[(\d+)\]", log))) == 3
    assert "Traceback" not in log


@pytest.mark.acceptance
def test_a_worker_that_dies_is_replaced_and_one_whose_parent_died_ends(env: dict[str, str]) -> None:
    with served(env, workers=2) as api:
        before = workers_of(api)
        assert len(before) == 2
        before[0].kill()
        until(lambda: len([one for one in workers_of(api) if one.pid != before[0].pid]) == 2)
        until(lambda: all(asked(api)[0] == 200 for _ in range(5)))
        orphans = workers_of(api)
        api.process.kill()
        psutil.wait_procs(orphans, timeout=30)
        assert not [one for one in orphans if one.is_running()]


# --- connections, compression and pages for people ----------------------------------------------------------------


def test_an_idle_connection_is_kept_for_as_long_as_the_header_says(settings: Settings, db: Database) -> None:
    with listening(replace(settings, api_keep_alive=90), db) as port:
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/health")
        answer = connection.getresponse()
        answer.read()
        connection.close()
    assert answer.getheader("Keep-Alive") == "timeout=90"
    assert server_options(replace(settings, api_keep_alive=90))["timeout_keep_alive"] == 90
    assert Settings.from_env({}, dotenv=None).api_keep_alive == 75


def test_an_answer_is_compressed_for_clients_that_accept_it(settings: Settings, db: Database) -> None:
    with calling(settings, db) as http:
        plain = http.get("/openapi.json", headers={"Accept-Encoding": "identity"})
        packed = http.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers and packed.headers["Content-Encoding"] == "gzip"
    assert packed.json() == plain.json()
    assert int(packed.headers["Content-Length"]) < len(plain.content) / 2


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
def test_the_reference_for_people_needs_no_other_server(settings: Settings, db: Database, path: str) -> None:
    with calling(settings, db, secret_keys=("key",)) as http:
        page = http.get(path, auth=("", "key")).text
        urls = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page)
        assert len(urls) == 3 and not any("//" in url for url in urls)
        for url in urls:
            asset = http.get(urljoin(f"http://localhost:3003{path}", url), auth=("", "key"))
            assert asset.status_code == 200 and len(asset.content) > 100, url
        assert http.get("/docs/other.js", auth=("", "key")).status_code == 404
        assert http.get("/docs/swagger-ui.css").status_code == 401


def test_the_first_page_leads_on_also_without_a_key(settings: Settings, db: Database) -> None:
    with calling(settings, db, secret_keys=("key",), client="10.0.0.9") as http:
        page = http.get("/")
    assert page.status_code == 200 and page.headers["Content-Type"].startswith("text/html")
    assert 'href="docs"' in page.text and "Authorization: Bearer KEY" in page.text
