"""For each wrong request the answer is a sentence that says what is wrong, and the server goes on."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from starlette.testclient import TestClient

from nango_dagster.api import store as api_store
from nango_dagster.api.input.bodies import MOST_BYTES
from nango_dagster.config import Sync, sync_schema
from nango_dagster.settings import Settings
from nango_dagster.store import Database, open_database, schema
from tests.apis import URL, calling
from tests.strategies import json_values

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def http(settings: Settings, db: Database) -> Iterator[TestClient]:
    with calling(settings, db) as client:
        yield client


def refusal(answer: Any) -> tuple[int, str, str]:
    """An error's status, code and sentence."""
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


# --- who may come in ------------------------------------------------------------------------------------------------


def with_key(key: str) -> dict[str, str]:
    return {"Authorization": key}


def test_each_of_several_keys_opens_every_route(settings: Settings, db: Database) -> None:
    with calling(settings, db, client="203.0.113.7", secret_keys=("old-key", "new-key")) as http:
        for key in ("Bearer old-key", "bearer new-key", "Bearer   new-key "):
            for path in ("/v1/syncs", "/docs", "/openapi.json"):
                assert http.get(path, headers=with_key(key)).status_code == 200
            assert http.post("/v1/syncs", json={"url": URL}, headers=with_key(key)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_auth_header"),
        ({"Authorization": ""}, "malformed_auth_header"),
        ({"Authorization": "Bearer"}, "malformed_auth_header"),
        ({"Authorization": "Bearer  "}, "malformed_auth_header"),
        ({"Authorization": "Basic bmV3LWtleTo="}, "malformed_auth_header"),
        ({"Authorization": "new-key"}, "malformed_auth_header"),
        ({"Authorization": "Bearer old-key new-key"}, "malformed_auth_header"),
        ({"Authorization": "Bearer new-ke"}, "unknown_account"),
        ({"Authorization": "Bearer new-key2"}, "unknown_account"),
        ({"Authorization": "Bearer NEW-KEY"}, "unknown_account"),
        ({"Authorization": b"Bearer \xff\xfe"}, "unknown_account"),
    ],
)
def test_without_the_right_key_nothing_is_answered(
    headers: dict[str, Any], code: str, settings: Settings, db: Database
) -> None:
    with calling(settings, db, secret_keys=("old-key", "new-key")) as http:
        for method, path in (("GET", "/v1/syncs"), ("POST", "/v1/syncs/"), ("GET", "/nowhere")):
            answer = http.request(method, path, headers=headers, content=b"{" if method == "POST" else b"")
            assert refusal(answer)[:2] == (401, code)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert "new-key" not in answer.text


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/openapi.json"])
def test_a_browser_asks_for_the_key_as_a_password_and_shows_the_reference(
    path: str, settings: Settings, db: Database
) -> None:
    with calling(settings, db, client="203.0.113.7", secret_keys=("old-key", "new:kéy")) as http:
        asked = http.get(path)
        assert refusal(asked)[:2] == (401, "missing_auth_header")
        assert asked.headers["WWW-Authenticate"].startswith('Basic realm="')
        assert http.get(path, auth=("anybody", "new:kéy")).status_code == 200
        assert http.get(path, auth=("", "old-key")).status_code == 200
        for wrong in ("Basic", "Basic !", "Basic bmV3", http_basic("old-key", ""), http_basic("", "old-key2")):
            refused = http.get(path, headers=with_key(wrong))
            assert refused.status_code == 401 and refused.headers["WWW-Authenticate"].startswith("Basic ")
        # Nowhere else: a script of the page could use what the browser sends by itself.
        refused = http.get("/v1/syncs", auth=("", "old-key"))
        assert refusal(refused)[:2] == (401, "malformed_auth_header")


def http_basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_probe_needs_no_key_and_no_database(settings: Settings) -> None:
    down = "postgresql+psycopg://127.0.0.1:1/nango"
    with calling(settings, client="203.0.113.7", secret_keys=("key",), db_url=down) as http:
        answer = http.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"result": "ok"})


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Host": "attacker.example:3003"}, "the Host header names another machine"),
        ({"Host": "localhost.attacker.example"}, "the Host header names another machine"),
        ({"Host": "[::"}, "the Host header names another machine"),
        ({"Origin": "https://attacker.example"}, "the Origin header names another site"),
        ({"Origin": "null"}, "the Origin header names another site"),
    ],
)
def test_without_a_key_no_web_page_gets_in(headers: dict[str, str], said: str, http: TestClient) -> None:
    """A page in the browser of whoever develops here may send requests to localhost."""
    status, code, message = refusal(http.get("/v1/syncs", headers=headers))
    assert (status, code) == (403, "forbidden")
    assert said in message


def test_with_a_key_no_web_page_may_read_an_answer(settings: Settings, db: Database) -> None:
    page = {"Origin": "https://app.example"}
    with calling(settings, db, secret_keys=("key",)) as http:
        read = http.get("/v1/syncs", headers={**page, **with_key("Bearer key")})
        asked = http.options("/v1/syncs", headers={**page, "Access-Control-Request-Method": "GET"})
    assert (read.status_code, asked.status_code) == (200, 401)
    assert not [name for name in (*read.headers, *asked.headers) if name.startswith("access-control")]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "127.0.0.1:3003"},
        {"Host": "[::1]:3003"},
        {"Host": "nango.localhost"},
        {"Origin": "http://localhost:3000"},
    ],
)
def test_without_a_key_this_machine_gets_in(headers: dict[str, str], http: TestClient) -> None:
    assert http.get("/v1/syncs", headers=headers).status_code == 200


def test_without_a_key_no_other_machine_gets_in(settings: Settings, db: Database) -> None:
    with calling(settings, db, client="203.0.113.7") as http:
        status, code, message = refusal(http.get("/v1/syncs"))
    assert (status, code) == (403, "forbidden")
    assert message == (
        "203.0.113.7 is another machine, and without a key only this machine may use the API; set NANGO_SECRET_KEY."
    )


# --- bodies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is empty"),
        (b" \n", "the body is empty"),
        (b'{"url": ', "Expecting value in line 1, column 9"),
        (b'{"url": "https://a.example",}', "in line 1, column"),
        (b"url=https://a.example", "in line 1, column 1"),
        (b'{"url": "\xff"}', "it is not UTF-8"),
        (b'{"max_total": NaN}', "NaN is no number in JSON"),
        (b'{"max_total": -Infinity}', "-Infinity is no number in JSON"),
        (b'{"max_total": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
        (b'{"headers": {"A": "1", "A": "2"}}', '"A" stands twice in one object'),
        (b"[" * 400_000, "it is nested deeper than 100 levels"),
        (b'{"a":' * 100_000, "it is nested deeper than 100 levels"),
    ],
)
def test_a_body_that_is_no_json_is_said(body: bytes, said: str, http: TestClient) -> None:
    status, code, message = refusal(http.post("/v1/syncs", content=body, headers=JSON))
    assert (status, code) == (400, "invalid_json")
    assert said in message


@pytest.mark.parametrize("body", ["[]", "null", "7", '"url"', "true"])
def test_a_body_that_is_no_object_is_said(body: str, http: TestClient) -> None:
    status, code, message = refusal(http.post("/v1/syncs", content=body, headers=JSON))
    assert (status, code) == (400, "invalid_body")
    assert "the body is no JSON object" in message


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ('"friendly_name": "a\\u0000b"', "friendly_name"),
        ('"friendly_name": "\\ud83d"', "friendly_name"),
        ('"metadata": {"a": [{"b": "\\ud83d"}]}', "metadata.a[0].b"),
        ('"headers": {"\\u0000": "a"}', "headers.\\x00"),
    ],
)
def test_a_text_that_no_database_stores_is_said(fields: str, name: str, http: TestClient) -> None:
    answer = http.post("/v1/syncs", content=f'{{"url": "{URL}", {fields}}}', headers=JSON)
    status, code, message = refusal(answer)
    assert (status, code) == (400, "invalid_body")
    assert message.startswith(f"{name} holds a character that cannot be stored")


def test_a_value_that_is_nested_too_deeply_is_said(http: TestClient) -> None:
    value: Any = 1
    for _ in range(150):
        value = [value]
    status, code, message = refusal(http.post("/v1/syncs", json={"url": URL, "metadata": {"a": value}}))
    assert (status, code, message) == (400, "invalid_body", '"metadata" is nested deeper than 100 levels.')


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"])
def test_a_body_that_calls_itself_something_else_is_refused(kind: str, http: TestClient) -> None:
    for method, path in (("POST", "/v1/syncs"), ("PUT", "/v1/syncs/1")):
        answer = http.request(method, path, content=json.dumps({"url": URL}), headers={"Content-Type": kind})
        assert refusal(answer) == (
            415,
            "invalid_content_type",
            f'Content-Type is "{kind}"; wanted application/json.',
        )


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON", None])
def test_json_is_known_by_its_name_or_taken_on_trust(kind: str | None, http: TestClient) -> None:
    headers = {"Content-Type": kind} if kind else {}
    assert http.post("/v1/syncs", content=json.dumps({"url": URL}), headers=headers).status_code == 200


def test_a_body_that_is_too_large_is_refused_whether_announced_or_not(http: TestClient) -> None:
    body = json.dumps({"url": URL, "metadata": {"a": "x" * MOST_BYTES}}).encode()
    said = (413, "request_too_large", "the body is larger than 1,000,000 bytes; nothing here needs so much.")
    assert refusal(http.post("/v1/syncs", content=body, headers=JSON)) == said
    parts = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    assert refusal(http.post("/v1/syncs", content=parts, headers=JSON)) == said
    assert refusal(http.post("/v1/syncs", content=b"{}", headers={**JSON, "Content-Length": "9" * 30})) == said


def test_a_large_body_is_stored(http: TestClient) -> None:
    value = "x" * 900_000
    answer = http.post("/v1/syncs", json={"url": URL, "body": {"a": value}})
    assert answer.status_code == 200
    assert http.get("/v1/syncs/1").json()["config"]["body"] == {"a": value}


# --- routes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1", "/v1/sync", "/v1/syncs/1/2", "/v2/syncs", "/record", "/v1//syncs", "/%ff"])
def test_a_route_that_is_not_there_is_not_found(path: str, http: TestClient) -> None:
    status, code, message = refusal(http.get(path))
    assert (status, code) == (404, "not_found")
    assert message.endswith("/docs lists the endpoints.")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/syncs", "GET, POST, PUT"),
        ("PATCH", "/v1/syncs/", "GET, POST, PUT"),
        ("POST", "/v1/syncs/1", "DELETE, GET, PUT"),
        ("POST", "/health", "GET"),
        ("POST", "/docs", "GET"),
        ("POST", "/openapi.json", "GET"),
        ("PUT", "/connection", "GET, POST"),
        ("PUT", "/connections/a/b", "DELETE, GET, PATCH"),
        ("OPTIONS", "/records", "GET"),
    ],
)
def test_a_method_that_is_not_there_is_said(method: str, path: str, allowed: str, http: TestClient) -> None:
    answer = http.request(method, path)
    assert refusal(answer)[:2] == (405, "method_not_allowed")
    assert answer.headers["Allow"] == allowed


def test_the_reference_describes_syncs_as_the_config_does(settings: Settings, db: Database) -> None:
    with calling(settings, db) as http:
        reference = http.get("/openapi.json").json()
        assert "swagger" in http.get("/docs").text
    paths = reference["paths"]
    assert {path: sorted(paths[path]) for path in paths if path.startswith("/v1/") or path == "/health"} == {
        "/v1/syncs": ["get", "post", "put"],
        "/v1/syncs/{id}": ["delete", "get", "put"],
        "/health": ["get"],
    }
    assert {"/records", "/sync/trigger", "/sync/status", "/connections", "/environment-variables"} <= paths.keys()
    body = paths["/v1/syncs"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/Sync"}
    schemas = reference["components"]["schemas"]
    assert set(schemas["Sync"]["properties"]) == set(sync_schema()["properties"]) - {"transform", "script", "base_url"}
    assert schemas["Sync"]["properties"]["paging_request_path"]["deprecated"] is True
    referred = set(_references(reference))
    assert referred <= {f"#/components/schemas/{name}" for name in schemas}
    assert "security" not in reference


def test_the_reference_asks_for_the_key_where_there_is_one(settings: Settings, db: Database) -> None:
    with calling(settings, db, secret_keys=("key",)) as http:
        reference = http.get("/openapi.json", headers=with_key("Bearer key")).json()
    assert reference["components"]["securitySchemes"]["key"] == {"type": "http", "scheme": "bearer"}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


# --- the store ------------------------------------------------------------------------------------------------------


def test_a_store_that_is_down_is_said_without_its_password_and_found_when_it_is_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(api_store, "PATIENCE", 0.0)
    down = replace(settings, db_url="postgresql+psycopg://nango:s3cret@127.0.0.1:1/nango")
    with calling(down) as http:
        for method, path in (
            ("GET", "/v1/syncs"),
            ("POST", "/v1/syncs"),
            ("PUT", "/v1/syncs/1"),
            ("DELETE", "/v1/syncs/1"),
        ):
            answer = http.request(method, path, json={"url": URL} if method in ("POST", "PUT") else None)
            status, code, message = refusal(answer)
            assert (status, code) == (503, "store_unavailable")
            assert message == "the database cannot be used now; the server's log says why."
        http.app.state.service.store._settings = settings  # type: ignore[attr-defined]
        assert http.get("/v1/syncs").json() == {"syncs": []}
    assert "Requests are answered with 503 until it is back" in caplog.text
    assert "cannot reach the database postgresql+psycopg://nango:***@127.0.0.1:1/nango" in caplog.text
    assert "s3cret" not in caplog.text


def test_those_who_ask_while_the_store_is_down_do_not_wait_one_after_another(settings: Settings) -> None:
    with calling(settings, db_url="postgresql+psycopg://127.0.0.1:1/nango") as http:
        first = refusal(http.get("/v1/syncs"))
        http.app.state.service.store._settings = settings  # type: ignore[attr-defined]
        assert refusal(http.get("/v1/syncs")) == first


def test_a_store_of_a_newer_release_is_said(settings: Settings) -> None:
    database = open_database(settings)
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE _nango_migrations SET version_num = '9999'"))
    database.close()
    with calling(settings) as http:
        status, code, message = refusal(http.get("/v1/syncs"))
    assert (status, code) == (503, "store_unavailable")
    assert "made by a newer release" in message


def test_a_mistake_of_ours_is_logged_and_told_without_a_stack(
    settings: Settings, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with calling(settings, db) as http:
        http.post("/v1/syncs", json={"url": URL, "headers": {"Authorization": "s3cret"}})
        with db.begin() as connection:
            connection.execute(sa.update(schema.syncs).values(config="no json, and a s3cret"))
        answer = http.get("/v1/syncs/1")
        assert refusal(answer) == (
            500,
            "server_error",
            "an internal error occurred; the log of the server has the details.",
        )
        assert http.get("/health").status_code == 200
    assert "GET '/v1/syncs/1': json.decoder.JSONDecodeError" in caplog.text
    assert "nango_dagster/store/syncs.py" in caplog.text
    assert "s3cret" not in caplog.text


def test_what_the_database_says_of_a_row_is_not_logged(
    settings: Settings, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with calling(settings, db) as http:
        with db.begin() as connection:
            connection.execute(sa.text("ALTER TABLE _nango_syncs RENAME COLUMN body_hash TO gone"))
        answer = http.post("/v1/syncs", json={"url": URL, "name": "a", "headers": {"Authorization": "s3cret"}})
        assert refusal(answer)[:2] == (500, "server_error")
    assert "sqlalchemy.exc" in caplog.text
    assert "s3cret" not in caplog.text


def test_the_log_has_a_line_for_each_request_and_no_query(http: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="nango_dagster.api.gate.guard")
    http.get("/v1/syncs", params={"url": f"{URL}?token=s3cret"})
    http.get("/health")
    ours = [record.message for record in caplog.records if record.name == "nango_dagster.api.gate.guard"]
    assert len(ours) == 1
    assert ours[0].startswith("GET '/v1/syncs' 200 ")


# --- anything at all ------------------------------------------------------------------------------------------------

FIELDS = st.sampled_from([*Sync.model_fields, *sync_schema()["properties"], "integration", "script", "models"])
TEXTS = st.one_of(
    st.text(),
    st.sampled_from(
        ["***", "${env.A}", "${", "every 5 minutes", "* * * * *", "http://[", "https://a.example:x/", "a.b[0]"]
    ),
)
VALUES = st.one_of(TEXTS, json_values, st.dictionaries(TEXTS, TEXTS, max_size=3), st.integers())
URLS = st.one_of(
    st.sampled_from(
        [URL, f"{URL}?token=***", "https://***@a.example", "http://[::1]/", "http://[v1.a]/", "http://127.1/"]
    ),
    TEXTS.map(lambda text: f"https://{text}"),
    VALUES,
)
BODIES = st.builds(lambda fields, url: {**fields, "url": url}, st.dictionaries(FIELDS, VALUES, max_size=4), URLS)
FUZZ = examples(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@FUZZ
@given(body=BODIES)
def test_no_body_is_too_much_for_the_server(http: TestClient, body: dict[str, Any]) -> None:
    content = json.dumps(body)
    posted = http.post("/v1/syncs", content=content, headers=JSON)
    answers = [posted]
    if posted.status_code == 200:
        sync_id = posted.json()["sync_id"]
        assert http.post("/v1/syncs", content=content, headers=JSON).json()["sync_id"] == sync_id
        answers.append(http.get(f"/v1/syncs/{sync_id}"))
        assert answers[-1].status_code == 200
    answers.append(http.put("/v1/syncs/1", content=content, headers=JSON))
    for answer in answers:
        assert answer.status_code in (200, 400, 404, 409), answer.text
        assert (answer.status_code == 200) == ("error" not in answer.json())
    assert http.get("/v1/syncs").status_code == 200


@FUZZ
@given(content=st.one_of(st.binary(), st.text().map(str.encode), json_values.map(json.dumps).map(str.encode)))
def test_no_bytes_are_too_much_for_the_server(http: TestClient, content: bytes) -> None:
    answer = http.post("/v1/syncs", content=content, headers=JSON)
    assert answer.status_code == 400
    assert refusal(answer)[1] in ("invalid_json", "invalid_body")


@FUZZ
@given(query=st.dictionaries(st.sampled_from(["name", "url", "friendly_name", "metadata", "x"]), TEXTS, max_size=3))
def test_no_query_is_too_much_for_the_server(http: TestClient, query: dict[str, str]) -> None:
    answer = http.get("/v1/syncs", params={name: text.encode(errors="replace") for name, text in query.items()})
    assert answer.status_code in (200, 400)
