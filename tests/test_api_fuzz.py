"""Random requests: no 500, no hang, answers as in the reference, and no row changed by a refused call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import pytest
import requests
import schemathesis
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, reject
from hypothesis import settings as examples
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from nango_dagster.api.gate.key import PROBES
from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, syncs
from tests.apis import URL, listening
from tests.executions import execute
from tests.fake_api import FakeApi
from tests.strategies import json_values

# A valid request may name an object that does not exist; and a list of one text is a text in a URL.
NO_CHECKS = [positive_data_acceptance, negative_data_rejection]
KEY = {"Authorization": "Bearer key"}
PATIENCE = 10  # seconds; a call takes a few milliseconds


def budget(calls: int) -> examples:
    """So many calls of each route, always the same; what fails is told as it is, which is short enough."""
    return examples(
        max_examples=calls,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@dataclass
class Store:
    """A database with one of everything, made anew when a call has taken something away."""

    db: Database
    settings: Settings
    source: str
    sync_id: int = 0
    rows: str = ""
    tables: Sequence[str] = ()

    def fill(self) -> None:
        """Make what is not there."""
        sync = Sync(name="issues", url=self.source, integration="crm", model="Issue", unique_key="id")
        self.sync_id = syncs.post(self.db, sync, named=True).id
        connections.add(self.db, None, connections.NewConnection("crm", "acme", metadata={"plan": "pro"}))
        connections.add_variant(self.db, self.sync_id, "acme", "eu")
        with self.db.connect() as connection:
            self.tables = sorted(sa.inspect(connection).get_table_names())
        self.rows = self.digest()

    def check(self, refused: bool) -> None:
        """No row has changed, if the call was refused."""
        if refused:
            assert self.digest() == self.rows
        else:
            self.fill()

    def digest(self) -> str:
        """The hash of every row of every table."""
        found = hashlib.sha256()
        with self.db.engine.driver() as connection:  # hundreds of calls, and twenty tables after each
            for name in self.tables:
                rows = connection.execute(f'SELECT * FROM "{name}"').fetchall()
                found.update(repr((name, sorted(map(repr, rows)))).encode())
        return found.hexdigest()


@pytest.fixture
def store(settings: Settings, db: Database, api: FakeApi) -> Store:
    api.route("/issues", [{"id": 1, "title": "one"}, {"id": 2, "title": None}])
    single = syncs.post(db, Sync(name="single", url=f"{api.url}/issues", unique_key="id"), named=True)
    execute(db, settings, single)
    found = Store(db, settings, f"{api.url}/issues")
    found.fill()
    return found


@pytest.fixture
def base(store: Store) -> Iterator[str]:
    with listening(replace(store.settings, secret_keys=("key",), allow_private_hosts=True), store.db) as port:
        url = f"http://127.0.0.1:{port}"
        reference(url)  # what an API writes down when it opens the store, its rule for URLs, is no call's doing
        store.fill()
        yield url


def reference(base: str) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{base}/openapi.json", headers=KEY, timeout=PATIENCE).json()
    return found


# --- what the reference says ----------------------------------------------------------------------------------------


@pytest.mark.acceptance
@pytest.mark.long
def test_every_route_answers_as_the_reference_says(store: Store, base: str) -> None:
    """Schemathesis sends what the reference allows, and what it does not."""
    for found in schemathesis.openapi.from_dict(reference(base)).get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]  # an error has one, too, and raises there
        takes_anything = bool(operation.query or operation.headers or operation.path_parameters or operation.body)
        for mode in schemathesis.GenerationMode if takes_anything else [schemathesis.GenerationMode.POSITIVE]:
            known = st.booleans() if mode is schemathesis.GenerationMode.POSITIVE else st.just(False)

            @budget(6)
            @given(case=operation.as_strategy(generation_mode=mode), is_known=known)
            def call(case: Any, is_known: bool) -> None:
                if is_known:
                    _name_what_is_there(case, store)
                answer = case.call(base_url=base, headers=KEY, timeout=PATIENCE)
                store.check(refused=answer.status_code >= 400)
                case.validate_response(answer, excluded_checks=NO_CHECKS)

            call()


def _name_what_is_there(case: Any, store: Store) -> None:
    """Have a generated case speak of the connection and the sync that there are."""
    names = {
        "provider_config_key": "crm",
        "Provider-Config-Key": "crm",
        "connection_id": "acme",
        "Connection-Id": "acme",
        "syncs": ["issues"],
        "sync_name": "issues",
        "sync_id": store.sync_id,
        "name": "issues",
        "id": "acme" if "connection" in case.path else store.sync_id,
        "key": "crm",
        "model": "Issue",
    }
    for part in (case.path_parameters, case.query, case.headers, case.body):
        if isinstance(part, MutableMapping):
            for name in set(part) & set(names):
                part[name] = "issues" if name == "syncs" and part is case.query else names[name]


# --- every parameter of every route ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """A call that is answered with 2xx as it stands."""

    method: str
    path: str
    places: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None

    @property
    def label(self) -> str:
        return f"{self.method} {self.path}"

    def spots(self) -> list[tuple[str, str]]:
        """Each parameter, and one that there is not."""
        parts = {"places": self.places, "query": {**self.query, "odd": ""}, "headers": self.headers}
        if self.body is not None:
            parts["body"] = {**self.body, "odd": ""}
        return [(part, name) for part, names in parts.items() for name in names]

    def having(self, part: str, name: str, value: Any) -> Call:
        changed: dict[str, Any] = {part: {**getattr(self, part), name: value}}
        return replace(self, **changed)

    def send(self, base: str, content: bytes | None = None) -> requests.Response:
        path = self.path.format(**{name: quote(str(value), safe="") for name, value in self.places.items()})
        data = content if content is not None else None if self.body is None else json.dumps(self.body).encode()
        headers: dict[str, Any] = {**KEY, **({"Content-Type": "application/json"} if data is not None else {})}
        headers |= {name: str(value).encode() for name, value in self.headers.items()}
        return requests.request(
            self.method, base + path, params=self.query, headers=headers, data=data, timeout=PATIENCE
        )


ACCOUNT = {"provider_config_key": "crm", "connection_id": "acme"}
WHOSE = {"Connection-Id": "acme", "Provider-Config-Key": "crm"}
API_KEY = {"type": "API_KEY", "apiKey": "k"}
WHOM = {**ACCOUNT, "syncs": ["issues"]}
OPTIONS = {"modified_after": "2024-01-15", "filter": "added", "limit": 5, "ids": "1", "variant": "base"}


def calls(store: Store) -> list[Call]:
    """One of each route."""
    id_ = {"id": store.sync_id}
    variant = {"name": "issues", "variant": "new"}
    one = {"provider_config_key": "crm"}
    return [
        Call("GET", "/records", query={"model": "Issue", **OPTIONS}, headers=WHOSE),
        Call("PATCH", "/records/prune", headers=WHOSE, body={"model": "Issue", "until_cursor": "x", "limit": 5}),
        Call("POST", "/v1/syncs", body={"url": store.source, "name": "other", "metadata": {"a": 1}}),
        Call("PUT", "/v1/syncs", body={"sync_id": store.sync_id, "action": "pause"}),
        Call("GET", "/v1/syncs", query={"name": "a", "url": URL, "friendly_name": "b", "metadata": "{}"}),
        Call("GET", "/v1/syncs/{id}", id_),
        Call("PUT", "/v1/syncs/{id}", id_, body={"url": store.source, "integration": "crm", "unique_key": "id"}),
        Call("DELETE", "/v1/syncs/{id}", id_),
        Call("POST", "/sync/trigger", headers=WHOSE, body={**WHOM, "opts": {"reset": True, "emptyCache": False}}),
        *(Call("POST", f"/sync/{name}", body=WHOM) for name in ("start", "pause", "cancel")),
        Call("PUT", "/sync/update-connection-frequency", body={**ACCOUNT, "sync_name": "issues", "frequency": None}),
        Call("POST", "/sync/{name}/variant/{variant}", variant, body=ACCOUNT),
        Call("DELETE", "/sync/{name}/variant/{variant}", {**variant, "variant": "eu"}, body=ACCOUNT),
        Call("GET", "/sync/status", query={**ACCOUNT, "syncs": "issues"}),
        Call("GET", "/integrations"),
        Call("GET", "/integrations/{key}", {"key": "crm"}, query={"include": "webhook"}),
        Call("GET", "/integrations/{key}/functions", {"key": "crm"}, query={"search": "a", "page": 0, "limit": 5}),
        Call("GET", "/integrations/{key}/functions/{name}", {"key": "crm", "name": "issues"}, query={"type": "sync"}),
        Call("GET", "/integrations/{key}/functions/{name}/code", {"key": "crm", "name": "issues"}),
        Call("GET", "/scripts/config", query={"format": "nango"}),
        *(Call("POST", f"/sync/deploy{end}") for end in ("", "/confirmation")),
        *(
            Call(method, "/proxy/{path}", {"path": "items"}, headers=WHOSE)
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        ),
        Call("GET", "/connections", query={"connectionId": "acme", "search": "a", "limit": 1, "page": 0}),
        Call(
            "POST", "/connections", body={**ACCOUNT, "credentials": {"type": "API_KEY", "apiKey": "k"}, "metadata": {}}
        ),
        Call("GET", "/connections/{id}", {"id": "acme"}, query={**one, "force_refresh": "false"}),
        Call(
            "PATCH",
            "/connections/{id}",
            {"id": "acme"},
            query=one,
            body={"webhook_url_override": "https://a.example/hook"},
        ),
        Call("DELETE", "/connections/{id}", {"id": "acme"}, query=one),
        Call("POST", "/connections/metadata", body={**ACCOUNT, "metadata": {"a": 1}}),
        Call("PATCH", "/connections/metadata", body={**ACCOUNT, "metadata": {"a": 1}}),
        Call("GET", "/environment-variables"),
        Call("GET", "/health"),
        Call("GET", "/ready"),
        Call("GET", "/metrics"),
    ]


def test_each_route_is_called(store: Store, base: str) -> None:
    described = {f"{method.upper()} {path}" for path, found in reference(base)["paths"].items() for method in found}
    assert {call.label for call in calls(store)} == described


HOSTILE = st.one_of(
    st.sampled_from(["", " ", "\0", "a\0b", "%00", "../..", "*", "::", "issues::", ",", "null", "-1", "1e9", "9" * 30]),
    st.sampled_from(
        ["x" * 300, "x" * 5000, "'; DROP TABLE _nango_syncs; --", "\u202e", "\U0001f600", "ａｃｍｅ", "[]"]
    ),
    st.text(st.characters(exclude_categories=["Cs"])),
)
ANY_JSON: st.SearchStrategy[Any] = st.one_of(
    HOSTILE,
    st.sampled_from([None, True, 0, -1, 2**63, 10**30, 1.5, 1e308, [], {}, [[]], [None], [{}], "\ud800", ["\udfff\0"]]),
    json_values,
    st.lists(HOSTILE, max_size=3),
    st.dictionaries(HOSTILE, HOSTILE, max_size=2),
)
PARTS = {"body": ANY_JSON, "query": st.one_of(HOSTILE, st.lists(HOSTILE, min_size=2, max_size=3))}


@pytest.mark.acceptance
@pytest.mark.long
def test_no_parameter_of_any_route_is_too_much(store: Store, base: str) -> None:
    for position, one in enumerate(calls(store)):
        _fuzz(store, base, position, one)


def _fuzz(store: Store, base: str, position: int, one: Call) -> None:
    spots = one.spots()

    @budget(5 * len(spots))
    @given(data=st.data())
    def call(data: st.DataObject) -> None:
        part, name = data.draw(st.sampled_from(spots))
        value = data.draw(PARTS.get(part, HOSTILE))
        changed = calls(store)[position].having(part, name, value)
        answer = _check(store, lambda: changed.send(base))
        if name == "odd" and value is not None and one.path not in PROBES:
            assert answer.status_code == 400

    @budget(6)
    @given(content=st.one_of(st.binary(), ANY_JSON.map(lambda value: json.dumps(value).encode())))
    def call_with(content: bytes) -> None:
        _check(store, lambda: calls(store)[position].send(base, content))

    call()
    if one.body is not None:
        call_with()


def _check(store: Store, send: Callable[[], requests.Response]) -> requests.Response:
    try:
        answer = send()
    except (requests.exceptions.InvalidHeader, UnicodeError):
        reject()  # no client sends that
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert set(answer.json()) == {"error"}
    store.check(refused=answer.status_code >= 400)
    return answer
