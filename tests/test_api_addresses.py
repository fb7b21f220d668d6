"""A URL that arrives over HTTP does not lead into the network that the server stands in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from nango_dagster import runs
from nango_dagster.auth import OVER_HTTP
from nango_dagster.config import Sync
from nango_dagster.errors import StoreUnavailable
from nango_dagster.runs.access import reach_of
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, open_database, syncs
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.vault import vault_of
from tests.apis import URL, calling
from tests.fake_api import FakeApi

KEY = {"Authorization": "Bearer key"}
ENCRYPTION_KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
PRIVATE = [
    "http://127.0.0.1/items",
    "http://10.1.2.3:8080/items",
    "http://192.168.0.1/items",
    "https://me:pw@172.16.0.1/items",
    "http://[::1]/items",
    "http://[fd12::1]:80/items",
    "http://[::ffff:10.0.0.1]/items",
    "http://0.0.0.0/items",
    "http://127.1/items",
    "http://2130706433/items",
    "http://0x7f.0.0.1/items",
    "http://localhost:3000/items",
    "http://LOCALHOST./items",
    "http://api.localhost/items",
    "http://100.64.0.1/items",
    "http://127.0.0.1?x=https://api.example.com",
]
LINK_LOCAL = [
    "http://169.254.169.254/latest/meta-data",
    "http://[fe80::1%25eth0]/items",
    "http://[::ffff:169.254.169.254]/items",
    "http://100.100.100.200/items",
    "http://[fd00:ec2::254]/items",
]
PUBLIC = [
    URL,
    "https://203.0.114.7/items",
    "http://[2606:4700::1111]/items",
    "https://${env.HOST}/items",
    "https://10.example.com",
]


@pytest.fixture
def guarded(settings: Settings) -> Settings:
    return replace(settings, secret_keys=("key",))


def post(http: TestClient, **body: Any) -> tuple[int, str]:
    answer = http.post("/v1/syncs", json={"url": URL, **body}, headers=KEY)
    return answer.status_code, answer.json().get("error", {}).get("message", "")


def test_a_private_address_is_refused_at_once(guarded: Settings, db: Database) -> None:
    with calling(guarded, db) as http:
        for url in [*PRIVATE, *LINK_LOCAL]:
            status, message = post(http, url=url)
            assert status == 400, url
            assert message.startswith("url: ")
            assert "address, and the URL or its host came over HTTP" in message
            assert "pw" not in message
        for url in PUBLIC:
            assert post(http, url=url)[0] == 200, url


def test_the_error_says_which_setting_allows_it(guarded: Settings, db: Database) -> None:
    with calling(guarded, db) as http:
        assert post(http, url="http://10.0.0.1") == (
            400,
            "url: 10.0.0.1 is a private address, and the URL or its host came over HTTP or from a connection; "
            "set NANGO_ALLOW_PRIVATE_HOSTS=1 to allow it, or use a config file.",
        )


def test_hosts_that_may_see_credentials_are_checked_too(guarded: Settings, db: Database) -> None:
    with calling(guarded, db) as http:
        status, message = post(http, allowed_origins=["https://files.example.com", "http://10.0.0.1:8080"])
    assert status == 400
    assert message.startswith("allowed_origins: 10.0.0.1 is a private address")


def test_a_change_is_checked_too(guarded: Settings, db: Database) -> None:
    with calling(guarded, db) as http:
        post(http)
        answer = http.put("/v1/syncs/1", json={"url": "http://10.0.0.1"}, headers=KEY)
    assert answer.status_code == 400


def test_private_addresses_can_be_allowed_and_those_of_cloud_metadata_cannot(guarded: Settings, db: Database) -> None:
    with calling(guarded, db, allow_private_hosts=True) as http:
        for url in PRIVATE:
            assert post(http, url=url)[0] == 200, url
        for url in LINK_LOCAL:
            status, message = post(http, url=url)
            assert status == 400, url
            assert "it is never allowed" in message


def test_without_a_key_whoever_posts_sits_at_this_machine(settings: Settings, db: Database) -> None:
    with calling(settings, db) as http:
        assert [post(http, url=url)[0] for url in PRIVATE] == [200] * len(PRIVATE)
        assert [post(http, url=url)[0] for url in LINK_LOCAL] == [400] * len(LINK_LOCAL)


# --- processes without the API's key ----------------------------------------------------------------------------


def posted(db: Database, url: str) -> SyncRow:
    return syncs.post(db, Sync(name="orders", url=url, unique_key="id", retries=0), named=True)


def test_a_run_that_has_no_key_refuses_what_the_api_with_a_key_would(
    guarded: Settings, settings: Settings, db: Database, api: FakeApi
) -> None:
    api.route("/items", [{"id": 1}])
    row = posted(db, f"{api.url}/items")
    with calling(guarded, db):
        pass
    status, error = ended(db, settings, row)
    assert (status, api.requests) == ("failed", [])
    assert "127.0.0.1 is a private address" in error


def test_a_token_url_over_http_leads_a_run_without_a_key_to_no_private_address(
    guarded: Settings, settings: Settings, db: Database, api: FakeApi
) -> None:
    here = replace(settings, encryption_keys=(ENCRYPTION_KEY,))
    held = {"type": "OAUTH2_CC", "token_url": f"{api.url}/token", "client_id": "app", "client_secret": "s3cret"}
    connections.add(db, vault_of(here), connections.NewConnection("crm", "acme", credentials={**held, OVER_HTTP: True}))
    with calling(guarded, db):
        pass
    status, error = executed(db, here, f"{api.url}/items")
    assert (status, api.requests) == ("failed", [])
    assert "127.0.0.1 is a private address" in error


def test_what_the_api_allows_every_process_may(
    guarded: Settings, settings: Settings, db: Database, api: FakeApi
) -> None:
    api.route("/items", [{"id": 1}])
    row = posted(db, f"{api.url}/items")
    with calling(guarded, db, allow_private_hosts=True):
        assert ended(db, settings, row) == ("succeeded", "")
        assert ended(db, guarded, row) == ("succeeded", "")
    with calling(guarded, db):
        assert ended(db, settings, row)[0] == "failed"


def test_an_api_without_a_key_does_not_take_back_what_one_with_a_key_has_said(
    guarded: Settings, settings: Settings, db: Database
) -> None:
    with calling(guarded, db), calling(settings, db) as http:
        assert post(http, url="http://10.0.0.1")[0] == 400
    with calling(settings, db, allow_private_hosts=True) as http:
        assert post(http, url="http://10.0.0.1")[0] == 200
    assert reach_of(db, settings) == "public"


def test_the_rule_is_told_before_the_first_request_also_where_the_database_was_down_at_the_start(
    guarded: Settings, settings: Settings
) -> None:
    with calling(guarded, db_url="postgresql+psycopg://127.0.0.1:1/nango") as http:
        assert post(http)[0] == 503
        store = http.app.state.service.store  # type: ignore[attr-defined]
        store._settings, store._failed = guarded, (float("-inf"), StoreUnavailable(""))
        assert post(http)[0] == 200
    database = open_database(settings)
    assert reach_of(database, settings) == "public"
    database.close()


# --- a host that a file leaves to its connections ---------------------------------------------------------------------


def executed(db: Database, settings: Settings, url: str, connection_id: str = "acme") -> tuple[str, str]:
    """How an execution of a file's sync ended, and its error."""
    row = syncs.register(db, [Sync(name="items", url=url, integration="crm", unique_key="id", retries=0)])["items"]
    return ended(db, settings, row, connection_id)


def ended(db: Database, settings: Settings, row: SyncRow, connection_id: str | None = None) -> tuple[str, str]:
    """How an execution of a sync ended, and its error."""
    with runs.claimed(db, settings, row, connection_id=connection_id) as execution:
        outcome = execution.run()
    return outcome.status, outcome.error or ""


@pytest.mark.parametrize(
    ("url", "metadata"),
    [
        ("http://${metadata.host}/items", lambda port: {"host": f"127.0.0.1:{port}"}),
        ("${metadata.base}/items", lambda port: {"base": f"http://127.0.0.1:{port}"}),
        ("http://127.0.0.1:${metadata.port}/items", lambda port: {"port": port}),
        ("http://127.0.0.${metadata.number}:${env.PORT}/items", lambda port: {"number": 1}),
        ("http://${metadata.user}@127.0.0.1:${env.PORT}/items", lambda port: {"user": "me"}),
        ("http://${connection_id}:${env.PORT}/items", lambda port: {}),
    ],
)
def test_metadata_that_was_posted_does_not_lead_a_files_sync_into_the_network(
    url: str, metadata: Any, guarded: Settings, db: Database, api: FakeApi
) -> None:
    api.route("/items", [{"id": 1}])
    port = api.url.rpartition(":")[2]
    settings = replace(guarded, env={"PORT": port})
    name = "127.0.0.1" if "connection_id" in url else "acme"
    body = {"provider_config_key": "crm", "connection_id": name, "metadata": metadata(port)}
    with calling(settings, db) as http:
        assert http.post("/connections", json=body, headers=KEY).status_code == 201
    status, error = executed(db, settings, url, name)
    assert (status, api.requests) == ("failed", [])
    assert "127.0.0.1 is a private address, and the URL or its host came over HTTP or from a connection" in error
    assert executed(db, replace(settings, allow_private_hosts=True), url, name)[0] == "succeeded"


@pytest.mark.parametrize(
    "url", ["${env.API}/items", "${env.API}/items?of=${metadata.of}&for=${connection_id}", "HERE/items#${metadata.of}"]
)
def test_a_host_that_the_file_or_the_settings_say_is_the_operators_own(
    url: str, guarded: Settings, db: Database, api: FakeApi
) -> None:
    api.route("/items", [{"id": 1}])
    connections.add(db, None, connections.NewConnection("crm", "acme", metadata={"of": "http://10.0.0.1/"}))
    settings = replace(guarded, env={"API": api.url})
    assert executed(db, settings, url.replace("HERE", api.url)) == ("succeeded", "")
