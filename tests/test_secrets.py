"""A secret that is known to be one is found nowhere: in no database, log, event, traceback or answer.

What somebody's own transform makes known of a record cannot be told from any other value; what the config, the
connection or a variable of the environment holds can.
"""

from __future__ import annotations

import base64
import itertools
import json
import logging
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nango_dagster.config import Sync
from nango_dagster.defs import names
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, jobs, open_database, queue, syncs
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.vault import vault_of
from tests.apis import calling
from tests.commands import Cli, write_sync
from tests.fake_api import HANG_UP, FakeApi, Received, Reply, half, html, redirect
from tests.materializing import Project, look, making_projects

pytestmark = pytest.mark.usefixtures("same_logging")

MARK = "s3cr3t"
KEY = base64.b64encode(b"k" * 32).decode()
CRM = "crm"


def secret(what: str) -> str:
    """A secret that looks different in a URL, in JSON, in HTML and in a repr."""
    return f"{MARK}/{what}+'\"=&<"


SHOP = {"NANGO_ENV_SHOP": secret("env")}

HOLDS_SECRETS: dict[str, Any] = {
    "method": "POST",
    "headers": {"X-Api-Key": f"{MARK}-header", "X-Shop": "${env.SHOP}"},
    "query_params": {"token": secret("query"), "sig": "${metadata.api_secret}", "who": "${connection_id}"},
    "body": {"auth": {"password": secret("body"), "pins": [f"{MARK}-pin"]}, "limit": 10},
    "unique_key": "id",
    "response_path": "results",
    "paging_url_path": "next",
    "retries": 0,
}


class Echo:
    """An API that fails in many ways, each time with all that it was sent in its answer."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.ways: dict[str, Callable[[dict[str, Any]], Reply]] = {
            "well": lambda said: {"results": [{"id": 1}], "next": None},
            "broken": lambda said: (500, {}, said),
            "text": lambda said: (400, {}, str(said)),
            "refused": lambda said: (401, {}, said),
            "strange": lambda said: {"items": said},
            "no-json": lambda said: str(said) + "{",
            "page": lambda said: html(f"<title>{said}</title>"),
            "half": lambda said: half(json.dumps(said).encode()),
            "silent": lambda said: HANG_UP,
            "moved": lambda said: redirect(f"http://127.0.0.2:1/login?next={said['target']}"),
            "elsewhere": lambda said: {"results": [{"id": 1}], "next": f"http://127.0.0.2:1/x?{said['target']}"},
            "again": lambda said: {"results": [{"id": 1}], "next": f"{api.url}{said['target']}"},
        }
        api.route("/contacts", self.answer)
        api.route("/account/*", self.answer)
        api.route("/token", lambda request: {"access_token": secret("access-2"), "refresh_token": secret("refresh-2")})
        api.route("/no-token", lambda request: (400, {}, {"error": "invalid_grant", "echo": request.body.decode()}))
        api.route("/connection*", lambda request: {"credentials": {"type": "API_KEY", "apiKey": secret("nango")}})

    def answer(self, request: Received) -> Reply:
        way = request.params.get("way") or request.params.get("who", "").partition(".")[0]
        said = {
            "target": request.target,
            "headers": dict(request.headers.items()),
            "query": request.params,
            "body": request.json,
        }
        return self.ways[way](said)

    @property
    def credentials(self) -> dict[str, dict[str, Any]]:
        """One of each kind."""
        application = {"client_id": "app", "client_secret": secret("client")}
        tokens = {"access_token": secret("access"), "refresh_token": secret("refresh")}
        refreshed = {**tokens, **application, "token_url": f"{self.api.url}/token"}
        expired = {"expires_at": "2020-01-01T00:00:00Z"}
        return {
            "key": {"type": "API_KEY", "apiKey": f"{MARK}-key"},
            "key-header": {"type": "API_KEY", "apiKey": f"{MARK}-key", "header": "X-Key"},
            "key-query": {"type": "API_KEY", "apiKey": secret("key"), "query": "k"},
            "basic": {"type": "BASIC", "username": "ann", "password": secret("password")},
            "basic-key": {"type": "BASIC", "username": f"{MARK}-user"},
            "bearer": {"type": "BEARER", "token": f"{MARK}-token"},
            "oauth2": {"type": "OAUTH2", **refreshed, "access_token": f"{MARK}-access"},
            "oauth2-expired": {"type": "OAUTH2", **refreshed, **expired},
            "oauth2-refused": {"type": "OAUTH2", **refreshed, **expired, "token_url": f"{self.api.url}/no-token"},
            "oauth2-cc": {"type": "OAUTH2_CC", **application, "token_url": f"{self.api.url}/token"},
            "oauth1": {
                "type": "OAUTH1",
                "oauth_token": f"{MARK}-oauth1",
                "oauth_token_secret": secret("oauth1"),
                "consumer_key": f"{MARK}-consumer",
                "consumer_secret": secret("consumer"),
            },
            "nango": {"type": "NANGO", "host": self.api.url, "secret_key": f"{MARK}-nango"},
            "nothing": {"shop_key": secret("shop")},
        }


# --- what there is ----------------------------------------------------------------------------------------------------


@pytest.fixture
def env(settings_env: dict[str, str]) -> dict[str, str]:
    return {**settings_env, **SHOP, "NANGO_ENCRYPTION_KEY": KEY, "LOG_LEVEL": "debug"}


@pytest.fixture
def given(env: dict[str, str]) -> Settings:
    return Settings.from_env(env, dotenv=None)


@pytest.fixture
def db(given: Settings) -> Iterator[Database]:
    with closing(open_database(given)) as database:
        yield database


@pytest.fixture
def echo(api: FakeApi) -> Echo:
    return Echo(api)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of all that Dagster keeps."""
    return tmp_path / "dagster"


class Search:
    """Looks for the mark in all that is kept, and in all that was said."""

    def __init__(self, db: Database, given: Settings, home: Path) -> None:
        self.db = db
        self.given = given
        self.home = home

    def __call__(self, *said: str) -> None:
        for number, text in enumerate(said):
            self._check(f"text {number}", text.encode())
        for place, content in [*self._tables(), *self._files()]:
            self._check(place, content)

    def _check(self, place: str, content: bytes) -> None:
        for mark in (MARK.encode(), *map(_in_base64, (f"ann:{MARK}", f"{MARK}"))):
            at = content.find(mark)
            assert at < 0, f"{place}: {content[max(0, at - 300) : at + 60].decode(errors='replace')}"

    def _tables(self) -> Iterator[tuple[str, bytes]]:
        """Every row of our own database."""
        with self.db.connect() as connection:
            metadata = sa.MetaData()
            metadata.reflect(connection)
            assert "_nango_connections" in metadata.tables
            for name, table in metadata.tables.items():
                for row in connection.execute(sa.select(table)):
                    yield name, str(dict(row._mapping)).encode()

    def _files(self) -> Iterator[tuple[str, bytes]]:
        """Every file, and what SQLite files hold compressed; Dagster's run storage, events and logs are among them."""
        folders = [self.home, self.given.home]
        if self.db.engine.name == "sqlite":
            folders.append(Path(str(self.db.engine.url.database)).parent)
        for file in {file for folder in folders for file in folder.rglob("*") if file.is_file()}:
            if "sync_configs" in file.parts or file.suffix in (".py", ".pyc"):  # the user's own
                continue
            yield str(file), file.read_bytes()
            if file.suffix == ".db":
                yield from _blobs(file)


def _in_base64(text: str) -> bytes:
    return base64.b64encode(text.encode())[:8]


def _blobs(file: Path) -> Iterator[tuple[str, bytes]]:
    with closing(sqlite3.connect(file)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    if isinstance(value, bytes) and value[:1] == b"\x78":
                        yield f"{file}:{table}", zlib.decompress(value)


@pytest.fixture
def search(db: Database, given: Settings, home: Path) -> Search:
    return Search(db, given, home)


def add_connections(db: Database, given: Settings, echo: Echo) -> list[str]:
    """A connection of each kind of credentials for each way to fail; on PostgreSQL every fifth, and those in use."""
    step = 1 if db.engine.name == "sqlite" else 5  # coprime to the number of kinds, so that none is left out
    used = ("broken.bearer", "broken.oauth1", "well.basic", "well.oauth2")
    made = [
        connections.NewConnection(CRM, f"{way}.{kind}", held, {"api_secret": secret("metadata"), "org": "acme"}, None)
        for number, (way, (kind, held)) in enumerate(itertools.product(echo.ways, echo.credentials.items()))
        if number % step == 0 or f"{way}.{kind}" in used
    ]
    connections.add_all(db, vault_of(given), made)
    return [one.connection_id for one in made]


def row_of(db: Database, name: str) -> SyncRow:
    row = syncs.by_name(db, name)
    assert row is not None
    return row


# --- searching --------------------------------------------------------------------------------------------------------


def test_a_search_finds_what_is_there(search: Search, db: Database, home: Path) -> None:
    search("nothing")
    with pytest.raises(AssertionError):
        search(f"token={secret('x')}")
    home.mkdir()
    (home / "0.out").write_bytes(base64.b64encode(f"{MARK}-user:".encode()))
    with pytest.raises(AssertionError):
        search()


def test_no_secret_of_many_connections_is_kept_or_told(
    db: Database,
    given: Settings,
    env: dict[str, str],
    echo: Echo,
    home: Path,
    search: Search,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Scheduled, dispatched and launched; each kind of credentials with each way to fail."""
    caplog.set_level(logging.DEBUG)
    fields = {**HOLDS_SECRETS, "url": f"{echo.api.url}/contacts?api_key={MARK}-in-url", "integration": CRM}
    sync = Sync(name="contacts", **fields)
    with making_projects(given, home=home) as make:
        project: Project = make(sync)
        syncs.register(db, [sync])
        who = add_connections(db, given, echo)
        look(project)
        assert not project.scheduled(sync).success
        assert {job.connection_id for job in jobs.list_jobs(db, limit=1000)} == {*who}
        queue.trigger(db, row_of(db, "contacts").id)
        assert not project.run(names.DISPATCH_JOB).success
        assert not project.materialize("crm/contacts", partition="broken.bearer").success
        assert project.materialize("crm/contacts", partition="well.basic").success
        control = project.defs.resolve_job_def(names.CONTROL_JOB)
        form = {"action": "trigger", "sync": "contacts", "integration": CRM}
        assert control.execute_in_process(instance=project.instance, run_config=form, raise_on_error=False).success
    failed = [job for job in jobs.list_jobs(db, limit=1000) if job.status == "failed"]
    assert len(failed) > 0.6 * len(who) and any("***" in (job.error_message or "") for job in failed)
    write_sync("contacts", **fields)
    cli = Cli(env)
    answers = [
        cli(*command, "--json").stdout
        for command in (
            ["status", "contacts"],
            ["connections", "list"],
            ["connections", "show", "--integration", CRM, "--connection", "well.oauth2"],
            ["connections", "metadata", "--integration", CRM, "--connection", "well.oauth2"],
            ["dry-run", "contacts", "--connection", "broken.oauth1"],
        )
    ]
    assert "acme" in answers[2]
    search(caplog.text, *answers, *capfd.readouterr())


def test_no_secret_of_a_posted_or_written_sync_is_kept_or_told(
    db: Database,
    given: Settings,
    echo: Echo,
    home: Path,
    search: Search,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    userinfo = echo.api.url.replace("://", f"://ann:{MARK}-in-userinfo@")
    fields = {**HOLDS_SECRETS, "query_params": {"token": secret("query")}}
    written = [Sync(name=way, **{**fields, "url": f"{userinfo}/account/{way}?way={way}"}) for way in echo.ways]
    said: list[str] = []
    with making_projects(given, home=home) as make, calling(given, db) as http:
        project: Project = make(*written)
        for way in echo.ways:
            body = {**fields, "headers": {"X-Api-Key": f"{MARK}-posted"}, "url": f"{userinfo}/account/p?way={way}"}
            answer = http.post("/v1/syncs", json={"name": f"posted-{way}", **body})
            assert answer.status_code == 200, answer.text
            said.append(answer.text)
        project.scheduled(written[1])
        assert not project.run(names.DISPATCH_JOB).success
        for sync in written[:3]:
            project.sync(sync)
        said += [http.get("/v1/syncs").text, http.get("/v1/jobs").text]
        said += [http.get(f"/v1/syncs/{row_of(db, 'posted-broken').id}").text]
    posted = row_of(db, "posted-well")
    assert posted.sync.headers == {"X-Api-Key": f"{MARK}-posted"} and posted.sync.query_params == fields["query_params"]
    assert {job.sync_name for job in jobs.list_jobs(db, limit=1000)} >= {"broken", "posted-broken", "posted-well"}
    search(caplog.text, *said, *capfd.readouterr())


LEAKY = """
import os

def leak(record):
    raise ValueError("no answer from https://prices.example.com/?key=" + os.environ["NANGO_ENV_SHOP"] + " KNOWN")
"""


def leaky(test: str, known: str, *, at_import: bool) -> str:
    """A transform that tells the value of a variable, and one more."""
    module = f"leaky_{test}_{known.partition('-')[2]}"
    Path(f"{module}.py").write_text(LEAKY.replace("KNOWN", known) + "leak({})\n" * at_import)
    return f"{module}:leak"


@pytest.mark.parametrize("where", ["in the function", "at its import"])
def test_no_secret_that_a_transform_raises_is_kept_or_told(
    db: Database,
    given: Settings,
    echo: Echo,
    home: Path,
    search: Search,
    where: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As long as the sync uses it: a variable of the environment, the connection's credentials."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("NANGO_ENV_SHOP", SHOP["NANGO_ENV_SHOP"])
    many_leaks, one_leaks = (
        leaky(home.parent.name, known, at_import=where == "at its import")
        for known in (f"{MARK}-token", f"{MARK}-header")
    )
    fields = {**HOLDS_SECRETS, "transform": many_leaks}
    many = Sync(name="contacts", url=f"{echo.api.url}/contacts", integration=CRM, **fields)
    fields = {**HOLDS_SECRETS, "transform": one_leaks, "query_params": {}}
    one = Sync(name="account", url=f"{echo.api.url}/account/x?way=well", **fields)
    with making_projects(given, home=home) as make:
        project: Project = make(many, one)
        syncs.register(db, [many, one])
        held = connections.NewConnection(CRM, "well.x", echo.credentials["bearer"], {"api_secret": f"{MARK}-m"}, None)
        connections.add_all(db, vault_of(given), [held])
        for sync in (many, one):
            project.scheduled(sync)
        queue.trigger(db, row_of(db, "contacts").id)
        project.run(names.DISPATCH_JOB)
    assert len(jobs.list_jobs(db)) == 3
    assert "prices.example.com" in caplog.text  # but the sentence itself is told
    search(caplog.text, *capfd.readouterr())
