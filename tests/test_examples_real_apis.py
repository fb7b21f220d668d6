"""The examples of real APIs read a server that behaves as the API's documentation says, errors included."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nango_dagster.auth import Access
from nango_dagster.config import Sync, placeholders, read_dir
from nango_dagster.errors import AuthenticationFailed
from nango_dagster.fetch import Fetch
from tests import real_apis
from tests.fake_api import FakeApi, Received
from tests.test_examples import CASES, EXAMPLES, example, records


@dataclass(frozen=True)
class RealApi:
    """An example, the paths that its API serves, and the server."""

    file: str
    paths: tuple[str, ...]
    reply: Callable[[FakeApi, Received], real_apis.Reply]
    keys: list[Any]
    complaint: str
    """A part of the API's sentence about wrong credentials, which the error quotes."""
    wait: dict[str, str] | None = None
    """The headers of the answer to too many requests, where they say how long to wait."""

    def __str__(self) -> str:
        return self.file


def keys(text: str) -> list[str]:
    return [text.format(number) for number in range(real_apis.RECORDS)]


NUMBERS = list(range(real_apis.RECORDS))
QUERY = "/services/data/v62.0/query"
LIST_FOLDER = "/2/files/list_folder"
APIS = [
    RealApi("salesforce-accounts", (QUERY, f"{QUERY}/*"), real_apis.salesforce, keys("001{}"), "Session expired"),
    RealApi(
        "microsoft-graph-users", ("/v1.0/users/delta",), real_apis.graph, keys("u{}"), "expired", {"Retry-After": "0"}
    ),
    RealApi(
        "shopify-orders",
        ("/admin/api/2025-01/orders.json",),
        real_apis.shopify,
        NUMBERS,
        "Invalid API key",
        {"Retry-After": "0.1"},
    ),
    RealApi(
        "zendesk-tickets",
        ("/api/v2/incremental/tickets/cursor.json",),
        real_apis.zendesk,
        NUMBERS,
        "authenticate",
        {"Retry-After": "0"},
    ),
    RealApi(
        "notion-pages",
        ("/v1/databases/secret/query",),
        real_apis.notion,
        keys("n{}"),
        "API token is invalid",
        {"Retry-After": "0"},
    ),
    RealApi("airtable-records", ("/v0/secret/Tasks",), real_apis.airtable, keys("rec{}"), "Authentication required"),
    RealApi(
        "jira-issues",
        ("/rest/api/3/search/jql",),
        real_apis.jira,
        keys("{}"),
        "must be authenticated",
        {"Retry-After": "0"},
    ),
    RealApi("stripe-customers", ("/v1/customers",), real_apis.stripe, keys("cus_{}"), "Invalid API Key"),
    RealApi("intercom-companies", ("/companies/scroll",), real_apis.intercom, keys("c{}"), "Access Token Invalid"),
    RealApi(
        "bigcommerce-products",
        ("/stores/secret/v3/catalog/products",),
        real_apis.bigcommerce,
        NUMBERS,
        "not authorized",
    ),
    RealApi(
        "dropbox-files",
        (LIST_FOLDER, f"{LIST_FOLDER}/continue"),
        real_apis.dropbox,
        keys("id:{}"),
        "expired",
        {"Retry-After": "0"},
    ),
]


def at(api: FakeApi, sync: Sync) -> Sync:
    """The sync with another scheme and host, also in its next request; without a limit of its speed."""

    def moved(url: str) -> str:
        scheme, _, rest = url.partition("://")
        return api.url + rest[rest.index("/") :] if scheme == "https" else url

    changes: dict[str, Any] = {"url": moved(sync.url), "rate_limit": None}
    following = getattr(sync, "next_request", None)
    if following is not None and following.url:
        changes["next_request"] = following.model_copy(update={"url": moved(following.url)})
    return sync.model_copy(update=changes)


def fetch(api: FakeApi, real: RealApi, secret: str = "secret") -> Fetch:
    sync = example(real.file)
    names = {name for text in (sync.url, *sync.headers.values()) for name in placeholders(text)}
    return Fetch(at(api, sync), access=Access(sync, dict.fromkeys(names, secret)))


@pytest.fixture(params=APIS, ids=str)
def real(request: pytest.FixtureRequest, api: FakeApi) -> RealApi:
    """An API and its server."""
    real: RealApi = request.param
    for path in real.paths:
        api.route(path, lambda received: real.reply(api, received))
    return real


def test_an_example_reads_the_whole_list_page_by_page(api: FakeApi, real: RealApi) -> None:
    pages = fetch(api, real)
    name = str(example(real.file).unique_key)
    assert [record[name] for record in records(pages)] == real.keys
    assert pages.stop is not None and pages.stop.complete
    assert pages.pages >= 3


def test_wrong_credentials_end_with_the_sentence_of_the_api(api: FakeApi, real: RealApi) -> None:
    for path in real.paths:
        api.route(path.replace("secret", "wrong"), lambda received: real.reply(api, received))
    with pytest.raises(AuthenticationFailed, match=real.complaint):
        list(fetch(api, real, secret="wrong"))
    assert len(api.requests) == 1


def test_too_many_requests_are_tried_again_and_no_record_is_lost(api: FakeApi, real: RealApi) -> None:
    refused: list[Received] = []

    def reply(received: Received) -> Any:
        # The second page is refused once, before the API has read the request.
        if len(api.requests) == 2 and not refused:
            refused.append(api.requests.pop())
            return 429, real.wait or {}, {"error": "Too many requests"}
        return real.reply(api, received)

    for path in real.paths:
        api.route(path, reply)
    pages = fetch(api, real)
    name = str(example(real.file).unique_key)
    assert [record[name] for record in records(pages)] == real.keys
    assert len(refused) == 1


def test_all_examples_can_be_loaded_side_by_side(tmp_path: Path) -> None:
    """Those in `incremental` are other configs of the same APIs, some of the same name."""
    assert read_dir(EXAMPLES / "incremental").errors == ()
    for file in EXAMPLES.glob("*.yaml"):
        shutil.copy(file, tmp_path)
    configs = read_dir(tmp_path)
    assert configs.errors == ()
    tested = {case.file.rpartition(":")[2] for case in CASES} | {real.file for real in APIS}
    of_tests_of_their_own = {
        *("changing-list-upserted", "changing-list-overwritten"),
        *("github-issues", "github-issue-comments"),
    }
    assert {sync.name for sync in configs.syncs} == tested | of_tests_of_their_own


def test_there_are_twenty_seven_examples_and_the_integration_of_two() -> None:
    assert len(list(EXAMPLES.glob("*.yaml"))) == 28


def test_a_list_of_one_page_is_complete_without_a_doubt(
    api: FakeApi, real: RealApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real_apis, "RECORDS", 1)
    pages = fetch(api, real)
    assert len(list(records(pages))) == 1
    assert pages.stop is not None and pages.stop.complete and pages.paging_doubt is None
