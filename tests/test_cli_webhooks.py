"""`webhooks`: what has not arrived is shown, and what is dead is tried again."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
import sqlalchemy as sa

from nango_dagster.store import Database, outbox, schema
from tests.commands import Cli
from tests.delivering import put

pytestmark = pytest.mark.usefixtures("same_logging")
ERROR = "https://app.example.com answered 500 Internal Server Error."


@pytest.fixture
def cli(settings_env: dict[str, str]) -> Cli:
    return Cli(settings_env)


def ids(db: Database) -> dict[str, int]:
    return {one.delivery.connection_id: one.delivery.id for one in outbox.listed(db)}


def test_what_waits_and_what_is_dead_is_listed_with_the_reason(cli: Cli, db: Database) -> None:
    put(db, "acme", added=1200, variant="eu")
    put(db, "bolt", kind="failure", error="no.", target="secondary", state="dead", attempts=12, last_error=ERROR)
    put(db, "core", kind="auth", sync_name="", model="", variant="", state="dead")
    said = cli.good("webhooks", "list").stdout
    acme, bolt, core = sorted(line for line in said.splitlines() if any(n in line for n in ("acme", "bolt", "core")))
    for word in ("pending", "issues: 1,200 added, 0 updated, 0 deleted", "acme (eu)", "primary"):
        assert word in acme
    for word in ("dead", "issues: failed", "secondary", "12", ERROR):
        assert word in bolt
    assert "github: credentials refused" in core
    assert said.endswith("1 webhook waiting, 2 dead\n")
    assert "acme" not in cli.good("webhooks", "list", "--dead").stdout
    assert len(cli.good("webhooks", "list", "--limit", "2", "--json").json) == 2


def test_machines_are_told_all_of_it(cli: Cli, db: Database) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    put(db, "acme", created_at=at, next_try_at=at, attempts=2, last_error=ERROR)
    (found,) = cli.good("webhooks", "list", "--json").json
    assert found == {
        "id": ids(db)["acme"],
        "delivery_id": "d-acme",
        "state": "pending",
        "kind": "changes",
        "integration": "github",
        "connection_id": "acme",
        "variant": "base",
        "sync": "issues",
        "model": "Issue",
        "target": "primary",
        "added": 1,
        "updated": 0,
        "deleted": 0,
        "tries": 2,
        "next_try_at": "2026-01-02T03:04:05+00:00",
        "last_error": ERROR,
        "created_at": "2026-01-02T03:04:05+00:00",
    }


def test_where_nothing_waits_it_says_so(cli: Cli, db: Database) -> None:
    assert cli.good("webhooks", "list").stdout == "no webhooks wait\n"
    assert cli.good("webhooks", "redeliver", "--all").stdout == "no webhook is dead\n"


def test_dead_ones_are_tried_again_all_or_some(cli: Cli, db: Database) -> None:
    put(db, "a", "b", "c", "d", state="dead", attempts=12)
    put(db, "waits", attempts=3)
    some = [str(ids(db)[name]) for name in ("a", "waits")]
    said = cli.good("webhooks", "redeliver", *some).stdout
    assert said == "1 of 2 were dead and are tried again; the others wait.\n"
    assert outbox.depth(db) == {"pending": 2, "dead": 3}
    assert cli.good("webhooks", "redeliver", str(ids(db)["b"])).stdout == "1 webhook will be tried again.\n"
    gone = cli("webhooks", "redeliver", str(ids(db)["c"]), "999", "998")
    assert (gone.status, gone.stderr) == (
        1,
        "no webhook has the id 998, 999; it is delivered or never existed. Nothing was done.\n",
    )
    assert cli.good("webhooks", "redeliver", "--all", "--json").json == {"redelivered": 2}
    with db.connect() as connection:
        of = schema.webhooks.c
        rows = connection.execute(sa.select(of.connection_id, of.state, of.attempts).order_by(of.id)).all()
    assert [tuple(row) for row in rows] == [(name, "pending", 0) for name in "abcd"] + [("waits", "pending", 3)]


@pytest.mark.parametrize("arguments", [(), ("1", "--all")])
def test_which_ones_has_to_be_said(cli: Cli, arguments: tuple[str, ...]) -> None:
    said = cli("webhooks", "redeliver", *arguments)
    assert (said.status, said.stderr) == (
        1,
        "give either ids of `webhooks list --dead` or --all. Nothing was done.\n",
    )
