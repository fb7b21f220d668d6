"""OAuth 2: tokens are refreshed before they run out, once, whoever else uses the connection; none is lost."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
import traceback
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import sqlalchemy as sa

from nango_dagster import runs
from nango_dagster.auth import OAuth2, TokenStore
from nango_dagster.auth.kinds import can_refresh
from nango_dagster.auth.oauth2 import expiry, is_expired
from nango_dagster.config import Sync
from nango_dagster.errors import ApiError, AuthenticationFailed, Cancelled, ConfigError
from nango_dagster.runs import Outcome
from nango_dagster.runs.access import access_of, note, of_connection
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, credential_state, syncs
from nango_dagster.store.queue import Claim
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.vault import vault_of
from tests.conftest import ROOT
from tests.executions import PAGING, Source, assert_exact, items, last_job
from tests.fake_api import FakeApi, Received, Reply

KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="


class TokenServer:
    """A token endpoint that rotates its refresh tokens, and counts."""

    def __init__(self, api: FakeApi, *, expires_in: Any = 3600) -> None:
        self.api = api
        self.expires_in = expires_in
        self.number = 1
        self.answer: Callable[[Received], Reply] = self.give
        api.route("/token", lambda request: self.answer(request))

    def give(self, request: Received) -> Reply:
        form = dict(parse_qsl(request.body.decode(), strict_parsing=True))
        if form["grant_type"] == "refresh_token" and form["refresh_token"] != f"s3cr3t-refresh-{self.number}":
            return 400, {}, {"error": "invalid_grant", "echo": form}
        self.number += 1
        answer = {"access_token": self.token, "token_type": "bearer", "expires_in": self.expires_in}
        if form["grant_type"] == "refresh_token":
            answer["refresh_token"] = f"s3cr3t-refresh-{self.number}"
        return {name: value for name, value in answer.items() if value is not None}

    @property
    def token(self) -> str:
        """The access token that is good now."""
        return f"s3cr3t-access-{self.number}"

    @property
    def requests(self) -> list[Received]:
        return [request for request in self.api.requests if request.path == "/token"]

    @property
    def forms(self) -> list[dict[str, str]]:
        return [dict(parse_qsl(request.body.decode())) for request in self.requests]

    def credentials(self, **changes: Any) -> dict[str, Any]:
        """The first credentials of a connection: a valid token without an expiry."""
        return {
            "type": "OAUTH2",
            "access_token": "s3cr3t-access-1",
            "refresh_token": "s3cr3t-refresh-1",
            "token_url": f"{self.api.url}/token",
            "client_id": "app",
            "client_secret": "s3cr3t-client",
            **changes,
        }


@dataclass
class Kept:
    """Credentials kept in this process."""

    given: Mapping[str, Any] | None
    owner: str | None = None
    ended: list[Mapping[str, Any] | None] = field(default_factory=list)

    def begin(self, owner: str, seconds: float) -> bool:
        self.owner = self.owner or owner
        return self.owner == owner

    def end(self, owner: str, new: Mapping[str, Any] | None) -> bool:
        self.ended.append(new)
        if self.owner != owner:
            return False
        self.owner = None
        self.given = new or self.given
        return True

    @property
    def store(self) -> TokenStore:
        return TokenStore(lambda: self.given, self.begin, self.end)


def made(given: Mapping[str, Any], kept: Kept | None = None, **options: Any) -> OAuth2:
    return OAuth2(given, (kept or Kept(given)).store, name="items", **options)


@pytest.fixture
def server(api: FakeApi) -> TokenServer:
    return TokenServer(api)


# --- when -----------------------------------------------------------------------------------------------------------


def test_a_token_is_used_until_shortly_before_its_end(server: TokenServer) -> None:
    source = made(server.credentials(expires_at=time.time() + 120))
    assert source.credentials(fresh=False)["access_token"] == "s3cr3t-access-1"
    source = made(server.credentials(expires_at=time.time() + 30))
    assert source.credentials(fresh=False)["access_token"] == "s3cr3t-access-2"
    assert source.credentials(fresh=False)["access_token"] == "s3cr3t-access-2"
    assert len(server.requests) == 1


def test_a_token_of_a_short_life_is_not_refreshed_for_each_request(server: TokenServer) -> None:
    server.expires_in = 40
    source = made(server.credentials(expires_at=time.time() - 1))
    tokens = {source.credentials(fresh=False)["access_token"] for _ in range(5)}
    assert tokens == {"s3cr3t-access-2"}
    assert len(server.forms) == 1


def test_a_token_whose_end_nobody_knows_is_refreshed_after_it_was_refused(server: TokenServer) -> None:
    server.expires_in = None
    source = made(server.credentials())
    assert source.credentials(fresh=False)["access_token"] == "s3cr3t-access-1"
    assert source.credentials(fresh=True)["access_token"] == "s3cr3t-access-2"
    assert "expires_at" not in source.credentials(fresh=False)


def test_a_token_that_cannot_be_refreshed_is_left_to_the_api(server: TokenServer) -> None:
    source = made({"type": "OAUTH2", "access_token": "t1", "expires_at": "2001-01-01T00:00:00Z"})
    assert source.credentials(fresh=True)["access_token"] == "t1"
    assert server.requests == []


@pytest.mark.parametrize(
    ("at", "found"),
    [
        ("2022-11-01T10:00:00.000Z", 1667296800.0),
        ("2022-11-01T10:00:00", 1667296800.0),
        ("2022-11-01T11:00:00+01:00", 1667296800.0),
        (1667296800, 1667296800.0),
        ("1667296800", 1667296800.0),
        (1667296800000, 1667296800.0),
        ("soon", None),
        (None, None),
        (True, None),
    ],
)
def test_the_end_of_a_token_is_read_as_servers_write_it(at: Any, found: float | None) -> None:
    assert expiry({"expires_at": at}) == found


def test_who_has_nothing_to_refresh_with_does_not_try() -> None:
    assert can_refresh({"type": "OAUTH2_CC", "token_url": "x"})
    assert not can_refresh({"type": "OAUTH2", "token_url": "x"})
    assert not can_refresh({"type": "BEARER", "refresh_token": "r", "token_url": "x"})
    assert is_expired({"type": "OAUTH2_CC"}) and not is_expired({"access_token": "t"})


# --- what is asked and kept -----------------------------------------------------------------------------------------


def test_a_refresh_sends_a_form_and_keeps_what_comes_back(server: TokenServer) -> None:
    given = server.credentials(scope=["a", "b"], raw={"x": 1})
    kept = Kept(given)
    made(given, kept).credentials(fresh=True)
    (request,) = server.requests
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert server.forms == [
        {
            "grant_type": "refresh_token",
            "refresh_token": "s3cr3t-refresh-1",
            "scope": "a b",
            "client_id": "app",
            "client_secret": "s3cr3t-client",
        }
    ]
    assert kept.given is not None
    assert (kept.given["access_token"], kept.given["refresh_token"]) == ("s3cr3t-access-2", "s3cr3t-refresh-2")
    assert 3500 < (expiry(kept.given) or 0) - time.time() <= 3600
    assert kept.given["raw"] == {"x": 1}


def test_a_client_may_show_itself_in_the_header(server: TokenServer) -> None:
    made(server.credentials(token_auth="basic")).credentials(fresh=True)
    (request,) = server.requests
    assert request.headers["Authorization"] == f"Basic {b64encode(b'app:s3cr3t-client').decode()}"
    assert server.forms == [{"grant_type": "refresh_token", "refresh_token": "s3cr3t-refresh-1"}]


def test_client_credentials_get_their_first_token_when_it_is_needed(server: TokenServer) -> None:
    given = server.credentials(type="OAUTH2_CC", scopes="read")
    del given["access_token"], given["refresh_token"]
    kept = Kept(given)
    source = made(given, kept)
    assert [source.credentials(fresh=False)["access_token"] for _ in range(2)] == ["s3cr3t-access-2"] * 2
    assert server.forms[0]["grant_type"] == "client_credentials" and server.forms[0]["scope"] == "read"
    assert "refresh_token" not in (kept.given or {})


def test_a_refresh_token_that_does_not_change_stays(server: TokenServer) -> None:
    server.answer = lambda request: {"access_token": "s3cr3t-access-2", "expires_in": "60"}
    assert made(server.credentials()).credentials(fresh=True)["refresh_token"] == "s3cr3t-refresh-1"


@pytest.mark.parametrize("seconds", [0, -5, "soon", None, True, [], "NaN", 1e400])
def test_a_time_that_makes_no_sense_is_no_time(server: TokenServer, seconds: Any) -> None:
    server.answer = lambda request: {"access_token": "s3cr3t-access-2", "expires_in": seconds}
    assert "expires_at" not in made(server.credentials()).credentials(fresh=True)


def test_a_token_may_last_for_ever(server: TokenServer) -> None:
    server.answer = lambda request: {"access_token": "s3cr3t-access-2", "expires_in": 10**20}
    assert not is_expired(made(server.credentials()).credentials(fresh=True))


def test_a_token_that_another_has_refreshed_is_taken_over(server: TokenServer) -> None:
    given = server.credentials()
    kept = Kept({**given, "access_token": "s3cr3t-access-2"})
    assert made(given, kept).credentials(fresh=True)["access_token"] == "s3cr3t-access-2"
    assert (server.requests, kept.ended, kept.owner) == ([], [None], None)


def test_who_waits_for_another_gets_what_that_one_kept(server: TokenServer) -> None:
    given = server.credentials()
    kept = Kept(given, owner="another")
    source = made(given, kept)
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(source.credentials(fresh=True)))
    waiting.start()
    kept.given = {**given, "access_token": "s3cr3t-access-2"}
    waiting.join(timeout=20)
    assert [one["access_token"] for one in found] == ["s3cr3t-access-2"]
    assert server.requests == []


def test_a_wait_for_another_can_be_cancelled(server: TokenServer) -> None:
    given = server.credentials()
    with pytest.raises(Cancelled):
        made(given, Kept(given, owner="another"), cancelled=lambda: True).credentials(fresh=True)


def test_other_credentials_that_came_meanwhile_are_used(server: TokenServer) -> None:
    given = server.credentials()
    kept = Kept({"type": "API_KEY", "apiKey": "k1"})
    assert made(given, kept).credentials(fresh=True) == {"type": "API_KEY", "apiKey": "k1"}
    with pytest.raises(ConfigError, match="items: no new access token: the connection has no credentials any more"):
        made(given, Kept(None)).credentials(fresh=True)


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        (
            (400, {}, {"error": "invalid_grant"}),
            AuthenticationFailed,
            'answered 400 Bad Request: "{"error": "invalid_g',
        ),
        ((401, {}, {"error": "invalid_client"}), AuthenticationFailed, "answered 401 Unauthorized"),
        ({"error": "bad_refresh_token"}, AuthenticationFailed, "answered without an access_token: "),
        ("no JSON", AuthenticationFailed, 'answered without an access_token: "no JSON".'),
        ((404, {}, ""), AuthenticationFailed, "answered 404 Not Found"),
    ],
)
def test_a_refused_refresh_is_a_sentence(server: TokenServer, reply: Reply, kind: type[Exception], said: str) -> None:
    server.answer = lambda request: reply
    given = server.credentials()
    kept = Kept(given)
    with pytest.raises(kind) as caught:
        made(given, kept).credentials(fresh=True)
    assert str(caught.value).startswith("items: no new access token: POST ") and said in str(caught.value)
    assert (kept.given, kept.owner) == (given, None)


def test_an_answer_that_makes_no_sense_tells_no_new_secret(server: TokenServer) -> None:
    server.answer = lambda request: {"refresh_token": "s3cr3t-new", "error": "odd"}
    with pytest.raises(AuthenticationFailed, match="odd") as caught:
        made(server.credentials()).credentials(fresh=True)
    assert "s3cr3t" not in str(caught.value)


def test_what_the_token_endpoint_echoes_is_starred(server: TokenServer) -> None:
    server.answer = lambda request: (400, {}, f"{request.body.decode()} {request.headers} s3cr3t-access-1")
    for changes in ({}, {"token_auth": "basic"}):
        with pytest.raises(AuthenticationFailed) as caught:
            made(server.credentials(**changes)).credentials(fresh=True)
        said = "".join(traceback.format_exception(caught.value))
        assert "s3cr3t" not in said and "***" in said


def test_a_token_endpoint_that_is_down_does_not_say_that_credentials_are_wrong(server: TokenServer) -> None:
    given = server.credentials(token_url="http://127.0.0.1:1/token")
    with pytest.raises(ApiError) as caught:
        made(given, cancelled=lambda: False).credentials(fresh=True)
    assert not isinstance(caught.value, AuthenticationFailed)
    assert "refuses connections on port 1 after 3 tries" in str(caught.value)


# --- with the store -------------------------------------------------------------------------------------------------


@pytest.fixture
def sealed(settings: Settings) -> Settings:
    return replace(settings, encryption_keys=(KEY,))


class Guarded(Source):
    """A list that only the present token opens, from some request on."""

    def __init__(self, server: TokenServer, records: list[Any], *, ends_after: int = 10**9) -> None:
        super().__init__(server.api, records)
        self.server = server
        self.left = ends_after
        self.good = server.token

    def answer(self, request: Received) -> Reply:
        if self.left == 0:
            self.good = f"s3cr3t-access-{self.server.number + 1}"
            self.left = 10**9
        if request.headers["Authorization"] != f"Bearer {self.good}":
            return 401, {}, {"error": f"expired: {request.headers['Authorization']}"}
        self.left -= 1
        return super().answer(request)


def registered(db: Database, source: Source, **fields: Any) -> SyncRow:
    sync = Sync(
        name="items",
        url=f"{source.api.url}/items",
        integration="github",
        unique_key="id",
        retries=0,
        **PAGING,
        **fields,
    )
    return syncs.register(db, [sync])["items"]


def execute(db: Database, settings: Settings, row: SyncRow, connection_id: str = "acme") -> Outcome:
    with runs.claimed(db, settings, row, connection_id=connection_id) as execution:
        return execution.run()


def test_a_token_that_ends_in_the_middle_of_a_sync_is_refreshed_and_kept(
    db: Database, sealed: Settings, server: TokenServer
) -> None:
    source = Guarded(server, items(*range(12)), ends_after=2)
    row = registered(db, source)
    connections.add(db, vault_of(sealed), connections.NewConnection("github", "acme", credentials=server.credentials()))
    outcome = execute(db, sealed, row)
    assert (outcome.status, outcome.counts.retries) == ("succeeded", 1), outcome.error
    assert_exact(db, row, source.records)
    kept = connections.credentials(db, vault_of(sealed), "github", "acme") or {}
    assert (kept["access_token"], kept["refresh_token"]) == ("s3cr3t-access-2", "s3cr3t-refresh-2")
    assert execute(db, sealed, row).status == "succeeded"
    assert len(server.requests) == 1


def test_a_token_that_has_run_out_is_refreshed_before_the_first_request(
    db: Database, sealed: Settings, server: TokenServer
) -> None:
    source = Guarded(server, items(1, 2))
    source.good = "s3cr3t-access-2"
    row = registered(db, source)
    connections.add(
        db, vault_of(sealed), connections.NewConnection("github", "acme", credentials=server.credentials(expires_at=1))
    )
    outcome = execute(db, sealed, row)
    assert (outcome.status, outcome.counts.retries) == ("succeeded", 0), outcome.error


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer ${access_token}"}])
def test_an_etag_stays_valid_when_the_token_is_refreshed_and_not_for_another_account(
    db: Database, sealed: Settings, server: TokenServer, headers: dict[str, str]
) -> None:
    good = 2

    def answer(request: Received) -> Reply:
        if request.headers["Authorization"] != f"Bearer s3cr3t-access-{good}":
            return 401, {}, {}
        is_known = request.headers.get("If-None-Match") == '"v1"'
        return (304, {}, "") if is_known else (200, {"ETag": '"v1"'}, items(1, 2))

    server.api.route("/list", answer)
    sync = Sync(name="items", url=f"{server.api.url}/list", integration="github", unique_key="id", headers=headers)
    row = syncs.register(db, [sync])["items"]
    credentials = server.credentials(type="OAUTH2_CC", access_token=None)
    connections.add(db, vault_of(sealed), connections.NewConnection("github", "acme", credentials=credentials))
    assert execute(db, sealed, row).stop_reason == "single_page"
    good = 3
    assert [execute(db, sealed, row).stop_reason for _ in range(2)] == ["not_modified", "not_modified"]
    assert [form["grant_type"] for form in server.forms] == ["client_credentials", "client_credentials"]
    good = 4
    other = connections.NewConnection("github", "acme", credentials={**credentials, "client_id": "another"})
    connections.add(db, vault_of(sealed), other)
    assert execute(db, sealed, row).stop_reason == "single_page"


def test_a_refused_refresh_ends_the_execution_and_nothing_tells_the_secrets(
    db: Database, sealed: Settings, server: TokenServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    source = Guarded(server, items(*range(9)), ends_after=1)
    server.answer = lambda request: (400, {}, f"no: {request.body.decode()}")
    row = registered(db, source)
    connections.add(db, vault_of(sealed), connections.NewConnection("github", "acme", credentials=server.credentials()))
    outcome = execute(db, sealed, row)
    assert outcome.status == "failed" and isinstance(outcome.cause, AuthenticationFailed)
    assert (outcome.error or "").startswith("items: no new access token: POST ")
    assert_exact(db, row, source.records[:3])
    job = last_job(db, row)
    assert "s3cr3t" not in f"{outcome} {job} {caplog.text}" and "s3cr3t" not in everything_in(db)


def everything_in(db: Database) -> str:
    with db.connect() as connection:
        names = sa.inspect(connection).get_table_names(schema=db.schema if db.engine.name == "postgresql" else None)
        return str([connection.execute(sa.text(f'SELECT * FROM "{name}"')).all() for name in names])


def test_who_refreshes_keeps_the_others_waiting_for_the_one_token(
    db: Database, sealed: Settings, server: TokenServer
) -> None:
    refused = threading.Event()

    def give_once_another_waits(request: Received) -> Reply:
        assert refused.wait(timeout=20)
        return server.give(request)

    server.answer = give_once_another_waits
    connections.add(db, vault_of(sealed), connections.NewConnection("github", "acme", credentials=server.credentials()))

    def begin(owner: str, seconds: float) -> bool:
        begun = credential_state.begin_refresh(db, "github", "acme", owner, seconds)
        if not begun:
            refused.set()
        return begun

    def refresh() -> None:
        store = TokenStore(
            lambda: connections.credentials(db, vault_of(sealed), "github", "acme"),
            begin,
            lambda owner, new: credential_state.end_refresh(db, vault_of(sealed), "github", "acme", owner, new),
        )
        found.append(OAuth2(server.credentials(), store, name="items").credentials(fresh=True)["access_token"])

    found: list[str] = []
    threads = [threading.Thread(target=refresh) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert found == ["s3cr3t-access-2"] * 4
    assert len(server.requests) == 1


def test_credentials_that_are_replaced_during_a_refresh_stay(
    db: Database, sealed: Settings, server: TokenServer
) -> None:
    vault = vault_of(sealed)
    others = server.credentials(access_token="s3cr3t-other")

    def give_after_they_changed(request: Received) -> Reply:
        connections.add(db, vault, connections.NewConnection("github", "acme", credentials=others))
        return server.give(request)

    server.answer = give_after_they_changed
    connections.add(db, vault, connections.NewConnection("github", "acme", credentials=server.credentials()))
    sync = Sync(name="items", url=server.api.url, integration="github")
    access = of_connection(db, sealed, sync, "acme")
    assert access.variables(fresh=True)["access_token"] == "s3cr3t-other"
    assert connections.credentials(db, vault, "github", "acme") == others


REFRESH = """
import sys, urllib.request
from nango_dagster.config import Sync
from nango_dagster.runs.access import of_connection
from nango_dagster.settings import Settings
from nango_dagster.store import open_database
settings = Settings.from_env(dotenv=None)
sync = Sync(name="items", url="https://api.example.com/items", integration="github")
database = open_database(settings)
access = of_connection(database, settings, sync, "acme")
assert access.variables()["access_token"] == "s3cr3t-access-1"
urllib.request.urlopen(sys.argv[1], timeout=60).read()
print(access.variables(fresh=True)["access_token"])
database.close()
"""


def test_processes_that_refresh_at_once_send_one_request(
    settings_env: dict[str, str], db: Database, sealed: Settings, server: TokenServer, tmp_path: Path
) -> None:
    gate = threading.Barrier(3)
    server.api.route("/gate", lambda request: {"waited": gate.wait(timeout=60)})
    connections.add(db, vault_of(sealed), connections.NewConnection("github", "acme", credentials=server.credentials()))
    env = {**settings_env, "NANGO_ENCRYPTION_KEY": KEY, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", REFRESH, f"{server.api.url}/gate"]
    ran = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, cwd=tmp_path) for _ in range(3)]
    said = [process.communicate(timeout=120)[0].strip() for process in ran]
    assert said == ["s3cr3t-access-2"] * 3
    assert len(server.requests) == 1
    kept = connections.credentials(db, vault_of(sealed), "github", "acme") or {}
    assert kept["refresh_token"] == "s3cr3t-refresh-2"


# --- what an execution asks the database ----------------------------------------------------------------------------


def claim_of(row: SyncRow, connection_id: str = "acme", **changes: Any) -> Claim:
    values: dict[str, Any] = {
        "schedule_id": 1,
        "sync_id": row.id,
        "connection_id": connection_id,
        "variant": "base",
        "worker_id": 1,
        "fence": 1,
        "reset": False,
        "empty_cache": False,
        "losses": 0,
        "checkpoint": None,
    }
    return Claim(**{**values, **changes})


def statements(db: Database, work: Callable[[], Any]) -> int:
    """How many statements some work sends."""
    said: list[str] = []

    def note_down(*arguments: Any) -> None:
        said.append(arguments[2])

    sa.event.listen(db.engine.sqlalchemy, "before_cursor_execute", note_down)
    work()
    sa.event.remove(db.engine.sqlalchemy, "before_cursor_execute", note_down)
    return len([statement for statement in said if not statement.startswith("BEGIN")])


def test_an_execution_asks_the_database_once_for_its_access(
    db: Database, sealed: Settings, server: TokenServer
) -> None:
    connections.add(
        db,
        vault_of(sealed),
        connections.NewConnection("github", "acme", credentials=server.credentials(), metadata={"a": 1}),
    )
    row = registered(db, Source(server.api), query_params={"since": "${last_sync_date}", "a": "${metadata.a}"})
    assert statements(db, lambda: access_of(db, sealed, row, claim_of(row)).variables()) == 1
    plain = Sync(name="plain", url=server.api.url, headers={"X": "${env.TEAM}"})
    row = syncs.register(db, [plain])["plain"]
    assert statements(db, lambda: access_of(db, sealed, row, claim_of(row, "default")).variables()) == 0


def test_a_sync_may_ask_for_what_is_new_since_it_last_succeeded(
    db: Database, sealed: Settings, server: TokenServer
) -> None:
    source = Source(server.api, items(1, 2))
    connections.add(db, None, connections.NewConnection("github", "acme"))
    row = registered(db, source, query_params={"since": "${last_sync_date}"})
    source.broken[1] = (500, {}, "")
    assert execute(db, sealed, row).status == "failed"
    source.broken.clear()
    assert [execute(db, sealed, row).status for _ in range(2)] == ["succeeded"] * 2
    since = [request.params["since"] for request in server.api.requests]
    assert since[:2] == ["1970-01-01T00:00:00Z"] * 2
    began = datetime.fromisoformat(since[2].replace("Z", "+00:00"))
    assert 60 <= (datetime.now(timezone.utc) - began).total_seconds() < 120, "a minute before it began"
    short = registered(db, source, query_params={"since": "${last_sync_date}"}, max_pages=1)
    source.records += items(3, 4)
    assert execute(db, sealed, short).stop_reason == "max_pages"
    assert execute(db, sealed, row).checkpoint is not None
    cut, whole = [request.params["since"] for request in server.api.requests if "page" not in request.params][-2:]
    assert cut == whole, "what max_pages cut short is asked for again"


def test_a_connection_that_is_not_there_is_answered_with_how_to_make_it(db: Database, sealed: Settings) -> None:
    row = syncs.register(db, [Sync(name="items", url="https://api.example.com", integration="github")])["items"]
    with pytest.raises(ConfigError) as caught:
        access_of(db, sealed, row, claim_of(row))
    assert str(caught.value) == (
        "items: github has no connection 'acme'; make it with: nango-dagster connections add --integration github "
        "--connection acme"
    )


def test_refusals_are_counted_and_forgotten_only_where_there_were_some(
    db: Database, sealed: Settings, server: TokenServer
) -> None:
    connections.add(db, vault_of(sealed), connections.NewConnection("github", "acme", credentials=server.credentials()))
    row = registered(db, Source(server.api))
    claim = claim_of(row)

    def failures() -> int:
        kept = connections.get(db, "github", "acme")
        assert kept is not None
        return kept.auth_failures

    access = access_of(db, sealed, row, claim)
    assert statements(db, lambda: note(db, row, claim, None, access)) == 0
    assert statements(db, lambda: note(db, row, claim, ApiError("500"), access)) == 0
    note(db, row, claim, AuthenticationFailed("401"), access)
    note(db, row, claim, AuthenticationFailed("401"), None)
    assert failures() == 2
    note(db, row, claim, None, access_of(db, sealed, row, claim))
    assert failures() == 0
