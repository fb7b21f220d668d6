"""Tokens, rows and errors of one connection never reach another one, also if both are executed at the same time."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl

import pytest

from nango_dagster import runs
from nango_dagster.config import Sync
from nango_dagster.runs import Outcome
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, jobs, syncs, tables
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.vault import vault_of
from tests.executions import PAGING
from tests.fake_api import FakeApi, Received, Reply

KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
NAMES = [f"c{number:02}" for number in range(10)]


@dataclass
class Accounts:
    """An API with an account for each name: a token that runs out at random, pages of its own, sometimes an error."""

    api: FakeApi
    chance: random.Random
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 1))
    refused: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.api.route("/items", self.page)
        self.api.route("/token", self.refresh)
        self.broken = set(self.chance.sample(NAMES, 2))

    def credentials(self, name: str) -> dict[str, Any]:
        return {
            "type": "OAUTH2",
            "access_token": f"s3cr3t-{name}-1",
            "refresh_token": f"s3cr3t-refresh-{name}-1",
            "token_url": f"{self.api.url}/token",
            "client_id": "app",
        }

    def page(self, request: Received) -> Reply:
        """One of three pages of whoever the token says, if the header says the same one."""
        with self.lock:
            word = request.headers["Authorization"].removeprefix("Bearer s3cr3t-")
            name, _, number = word.rpartition("-")
            if request.params["account"] != name:
                return 500, {}, f"{request.params['account']} came with the token of {name}"
            page = int(request.params.get("page", 1))
            if self.chance.random() < 0.2:
                self.tokens[name] += self.tokens[name] == int(number)
            if int(number) != self.tokens[name]:
                return 401, {}, {"error": f"{word} has run out"}
            if page == 3 and name in self.broken:
                return 422, {}, {"error": f"the account {name} is closed", "token": word}
            records = [{"id": f"{name}-{page}-{position}", "account": name} for position in range(4)]
            return {"results": records, "next": page + 1 if page < 3 else None}

    def refresh(self, request: Received) -> Reply:
        with self.lock:
            form = dict(parse_qsl(request.body.decode()))
            name = form["refresh_token"].removeprefix("s3cr3t-refresh-").rpartition("-")[0]
            self.tokens[name] += 1
            number = self.tokens[name]
            return {"access_token": f"s3cr3t-{name}-{number}", "refresh_token": f"s3cr3t-refresh-{name}-{number}"}


def execute(db: Database, settings: Settings, row: SyncRow, name: str) -> Outcome:
    with runs.claimed(db, settings, row, connection_id=name) as execution:
        return execution.run()


@pytest.mark.parametrize("seed", range(3))
def test_connections_that_run_side_by_side_see_only_what_is_theirs(
    db: Database, settings: Settings, api: FakeApi, seed: int
) -> None:
    settings = replace(settings, encryption_keys=(KEY,))
    accounts = Accounts(api, random.Random(seed))
    sync = Sync(
        name="items",
        url=api.url + "/items",
        integration="github",
        unique_key="id",
        retries=0,
        query_params={"account": "${connection_id}"},
        **PAGING,
    )
    row = syncs.register(db, [sync])["items"]
    for name in NAMES:
        connections.add(
            db, vault_of(settings), connections.NewConnection("github", name, credentials=accounts.credentials(name))
        )
    order = NAMES * 2
    accounts.chance.shuffle(order)
    turns = {name: threading.Lock() for name in NAMES}

    def run(name: str) -> Outcome:
        with turns[name]:
            return execute(db, settings, row, name)

    with ThreadPoolExecutor(6) as pool:
        outcomes = dict(zip(order, pool.map(run, order), strict=True))
    for name, outcome in outcomes.items():
        pages = 2 if name in accounts.broken else 3
        rows = list(tables.rows(db, row.id, sync, [(name, "base")]))
        if outcome.status == "succeeded" or name in accounts.broken:
            assert {one["account"] for one in rows} == {name}
        assert len(rows) <= 4 * pages
        if outcome.status == "succeeded":
            assert len(rows) == 12
        assert "came with the token of" not in (outcome.error or "")
        kept = connections.credentials(db, vault_of(settings), "github", name) or {}
        assert kept["refresh_token"].startswith(f"s3cr3t-refresh-{name}-")
    for job in jobs.list_jobs(db, row.id):
        said = f"{job.error_message} {job.error_stack}"
        assert "s3cr3t" not in said
        assert not [name for name in NAMES if name != job.connection_id and name in said]
