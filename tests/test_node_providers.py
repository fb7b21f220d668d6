"""The providers of a Nango project: what they add to requests, when they want them again, and whom they let in."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from nango_dagster.errors import ConfigError
from nango_dagster.http import Request, Response, Verdict
from nango_dagster.node.providers import Source
from nango_dagster.node.signing import Signer
from nango_dagster.scripts.retry_rules import RetryRule
from nango_dagster.settings import Settings
from nango_dagster.store import Database
from tests.fake_api import FakeApi, Received, noted
from tests.node_project import NodeProject

ON_SQLITE = pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
FILE = "node_modules/@nangohq/providers/providers.yaml"
PROVIDERS = """
crm:
    auth_mode: BASIC
    proxy:
        base_url: URL/v1
        headers:
            x-version: ${connectionConfig.version} || 2026-01-01
            x-token: ${base64(${connectionConfig.tenant}+${credentials.username}:${credentials.password})}
            x-stamp: ${sha256Hex(${method} ${path} ${now:YYYY})}
        body: { account: '${connectionConfig.tenant}', auth: { user: '${credentials.username}' } }
        retry: { at: [x-reset], remaining: x-left, error_code: ['403', 5xx] }
keyed: { auth_mode: API_KEY, proxy: { base_url: URL, body: { key: '${apiKey}' } } }
signed: { auth_mode: TWO_STEP, proxy: { base_url: URL, headers: { x-sig: '${ed25519Sign(a, b)}' } } }
plain: { auth_mode: TWO_STEP, proxy: { base_url: URL } }
open: { auth_mode: NONE, proxy: { base_url: URL } }
"""


@pytest.fixture
def project(db: Database, settings: Settings, api: FakeApi, node_root: Path) -> NodeProject:
    project = NodeProject(db, settings, api, node_root)
    project.file(FILE, PROVIDERS.replace("URL", api.url))
    return project


@pytest.fixture
def providers(tmp_path: Path) -> dict[str, dict[str, Any]]:
    path = tmp_path / "providers.yaml"
    path.write_text(PROVIDERS.replace("URL", "https://api.example.com"))
    return Source(path).settings(["keyed", "signed", "plain", "open"])


def signed(provider: dict[str, Any], held: dict[str, Any], method: str = "GET", body: Any = None) -> Request:
    """A request as a provider completes it for a connection with these credentials."""
    request = Request(method, "https://api.example.com/x", {}, (), body)
    return Signer("items", provider)(request, {"credentials": held})


@ON_SQLITE
def test_a_request_has_what_its_provider_and_its_integration_add(project: NodeProject) -> None:
    held = {"type": "BASIC", "username": "ann", "password": "pw"}
    project.connect(credentials=held, config={"tenant": "t1"})
    declared = "crm: { headers: { X-Own: 'yes', X-Version: '2' }, concurrency: 3 }"
    (project.folder / "integrations.yaml").write_text(declared)
    received: list[Received] = []
    project.api.route("/v1/items", noted(received, {}))
    outcome = project.outcome("""
        await nango.post({ endpoint: '/items', data: { id: 1 } });
        await nango.get({ endpoint: '/items', headers: { 'x-token': 'own' } });
        """)
    assert outcome.status == "succeeded", outcome.error
    assert project.stored().sync.concurrency == 3
    post, get = received
    assert post.json == {"account": "t1", "auth": {"user": "ann"}, "id": 1}
    assert post.headers["Authorization"] == "Basic YW5uOnB3"
    assert post.headers["x-token"] == "dDErYW5uOnB3" and get.headers["x-token"] == "own"
    assert (post.headers["X-Own"], post.headers["X-Version"], len(post.headers["x-stamp"] or "")) == ("yes", "2", 64)
    assert get.body == b""


@ON_SQLITE
def test_a_request_is_sent_again_where_the_provider_or_the_call_says_so(project: NodeProject) -> None:
    project.connect(credentials={"type": "BASIC", "username": "ann"})
    (project.folder / "integrations.yaml").write_text("crm: {}")
    moment = str(datetime.now(timezone.utc).timestamp())
    project.api.script("/v1/spent", (403, {"X-Left": "0", "X-Reset": moment}, {}), {"ok": True})
    project.api.script("/v1/refused", (403, {"X-Left": "5"}, {}), {"ok": True})
    project.api.script("/v1/odd", (409, {"X-Wait": "0.01"}, {}), {"ok": True})
    outcome = project.outcome("""
        await nango.get({ endpoint: '/spent', retries: 1 });
        await nango.get({ endpoint: '/odd', retries: 1, retryOn: [409], retryHeader: { after: 'x-wait' } });
        try { await nango.get({ endpoint: '/refused', retries: 1 }); } catch (error) {
            await nango.batchSave([{ id: String(error.response.status) }], 'Item');
        }
        """)
    assert (outcome.status, project.ids(), outcome.counts.retries) == ("succeeded", ["403"], 2), outcome.error
    assert outcome.seconds < 2  # the waits that the headers name


def test_a_wait_may_stand_in_the_text_of_an_error() -> None:
    in_body = {"path": "error.message", "strategy": "at", "value": r"/limit exceeded\. +Retry after (.+)/"}
    body = b'{"error": {"message": "User-rate limit exceeded.  Retry after 2026-01-01T00:00:00Z"}}'
    rule = RetryRule.of({"in_body": in_body})
    assert rule.verdict(Response(429, {}, body, "")) == Verdict("retry", wait=0.0)
    assert rule.verdict(Response(429, {}, b"no JSON", "")) is None  # its status says enough


def test_a_key_goes_where_the_provider_places_it_and_nowhere_else(providers: dict[str, dict[str, Any]]) -> None:
    request = signed(providers["keyed"], {"type": "API_KEY", "apiKey": "k1"}, "POST", b'{"id": 1}')
    assert (request.body, request.headers) == ({"key": "k1", "id": 1}, {})


@pytest.mark.parametrize(("provider", "sentence"), [("plain", "TWO_STEP.*they have user"), ("signed", "ed25519Sign")])
def test_a_request_that_would_lack_the_credentials_is_not_sent(
    providers: dict[str, dict[str, Any]], provider: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        signed(providers[provider], {"user": "s3cr3t"})
    assert "s3cr3t" not in str(caught.value)


def test_a_connection_without_credentials_and_an_api_without_them_are_allowed(
    providers: dict[str, dict[str, Any]],
) -> None:
    assert signed(providers["plain"], {}).headers == {}
    assert signed(providers["open"], {"user": "ann"}).headers == {}
    token = signed(providers["plain"], {"type": "TWO_STEP", "token": "t1"})
    assert token.headers == {"Authorization": "Bearer t1"}


@pytest.mark.parametrize(
    ("held", "headers"),
    [
        ({"type": "BILL", "dev_key": "k1", "session_id": "s1"}, {"devKey": "k1", "sessionId": "s1"}),
        ({"type": "APP", "access_token": "t1"}, {"Authorization": "Bearer t1"}),
    ],
    ids=["bill", "app"],
)
def test_credentials_of_nango_sign_as_their_type_says(held: dict[str, Any], headers: dict[str, str]) -> None:
    assert signed({"auth_mode": held["type"]}, held).headers == headers


def test_a_token_pair_signs_with_the_realm_of_the_account() -> None:
    held = {"type": "TBA", "token_id": "a", "token_secret": "b", "consumer_key": "c", "consumer_secret": "d"}
    header = signed({"auth_mode": "TBA"}, {**held, "realm": "12-3"}).headers["Authorization"]
    assert header.startswith('OAuth realm="12-3", oauth_consumer_key="c"') and "HMAC-SHA256" in header


@pytest.mark.parametrize(
    "text",
    [
        "a:\n    auth_mode: BASIC\n\n# more\n    proxy: { base_url: 'https://a.example' }\nx:\n\n'b': { alias: a }",
        "a: &a\n    auth_mode: BASIC\n    proxy: { base_url: 'https://a.example' }\nb:\n    <<: *a\n",
    ],
)
def test_the_settings_of_an_alias_are_those_of_its_provider(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    settings = Source(tmp_path / "p.yaml").settings(["b", "c"])
    assert settings["b"]["auth_mode"] == "BASIC" and settings["b"]["base_urls"] == ["https://a.example"]
    assert "c" not in settings
