"""The example of unified contacts: two APIs, one model and one table, and each sync changes its own rows alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import sqlalchemy as sa

from nango_dagster import runs
from nango_dagster.config import read_dir
from nango_dagster.runs import Wishes
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, syncs, tables
from nango_dagster.store.sync_row import SyncRow
from nango_dagster.vault import vault_of
from tests.conftest import ROOT
from tests.fake_api import FakeApi, Received

Row = tuple[str, str, str, str, str | None]


@dataclass
class Unified:
    """The two syncs of the example with a connection each, at a local server."""

    db: Database
    settings: Settings
    rows: dict[str, SyncRow]

    def run(self, name: str, variant: str = "base", **wishes: bool) -> None:
        claim = runs.claimed(self.db, self.settings, self.rows[name], connection_id="acme", variant=variant)
        with claim as execution:
            outcome = replace(execution, wishes=Wishes(**wishes)).run()
        assert outcome.status == "succeeded" and not outcome.unfit, outcome.error

    def contacts(self) -> list[Row]:
        """Integration, variant, key, name and email of the live rows."""
        columns = "_nango_integration, _nango_variant, id, name, email"
        query = f"SELECT {columns} FROM unified_contact WHERE _nango_deleted_at IS NULL ORDER BY 1, 2, 3"
        with self.db.connect() as connection:
            return [(row[0], row[1], row[2], row[3], row[4]) for row in connection.execute(sa.text(query))]


@pytest.fixture
def hubspot(api: FakeApi) -> list[dict[str, Any]]:
    people = [
        {
            "id": str(number),
            "properties": {"firstname": "Ann", "lastname": f"Lee {number}", "email": f"ann{number}@example.com"},
            "updatedAt": "2024-05-01T10:00:00Z",
        }
        for number in (1, 2, 3)
    ]

    def reply(request: Received) -> Any:
        at = int(request.params.get("after", 0))
        following = {"paging": {"next": {"after": str(at + 2)}}} if at + 2 < len(people) else {}
        return {"results": people[at : at + 2], **following}

    api.route("/crm/v3/objects/contacts", reply)
    return people


@pytest.fixture
def pipedrive(api: FakeApi) -> list[dict[str, Any]]:
    people: list[dict[str, Any]] = [
        {
            "id": 1,
            "name": "Bob",
            "emails": [{"value": "b@example.com", "primary": False}, {"value": "bob@example.com", "primary": True}],
            "update_time": "2024-05-02T10:00:00Z",
        },
        {"id": 2, "name": "Eve", "emails": [], "update_time": "2024-05-02T10:00:00Z"},
    ]
    api.route("/api/v2/persons", lambda request: {"data": people, "additional_data": {"next_cursor": None}})
    return people


@pytest.fixture
def unified(
    db: Database, settings: Settings, api: FakeApi, hubspot: list[dict[str, Any]], pipedrive: list[dict[str, Any]]
) -> Unified:
    folder = ROOT / "examples" / "unified"
    configs = read_dir(folder)
    assert configs.errors == ()
    settings = replace(settings, configs=folder, encryption_keys=("a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=",))
    rows = syncs.register(db, [sync.model_copy(update={"base_url": api.url}) for sync in configs.syncs])
    for integration in ("hubspot", "pipedrive"):
        credentials = {"type": "BEARER", "token": f"{integration}-token"}
        new = connections.NewConnection(integration, "acme", credentials=credentials)
        connections.add(db, vault_of(settings), new)
    return Unified(db, settings, rows)


def test_contacts_of_two_apis_are_rows_of_one_table(unified: Unified, api: FakeApi) -> None:
    unified.run("hubspot_contacts")
    unified.run("pipedrive_persons")
    assert unified.contacts() == [
        ("hubspot", "base", "1", "Ann Lee 1", "ann1@example.com"),
        ("hubspot", "base", "2", "Ann Lee 2", "ann2@example.com"),
        ("hubspot", "base", "3", "Ann Lee 3", "ann3@example.com"),
        ("pipedrive", "base", "1", "Bob", "bob@example.com"),
        ("pipedrive", "base", "2", "Eve", None),
    ]
    sent = {request.headers["Authorization"] for request in api.requests}
    assert sent == {"Bearer hubspot-token", "Bearer pipedrive-token"}
    with unified.db.connect() as connection:
        found = tables.registered(connection, "unified_contact") or []
    assert [(column.name, column.type.value) for column in sorted(found, key=lambda column: column.name)] == [
        *[("email", "string"), ("id", "string"), ("name", "string"), ("phone", "string"), ("updated_at", "timestamp")]
    ]


def test_deletions_resets_and_rebuilds_of_one_sync_leave_the_rows_of_the_other(
    unified: Unified, hubspot: list[dict[str, Any]]
) -> None:
    unified.run("hubspot_contacts")
    unified.run("pipedrive_persons")
    connections.add_variant(unified.db, unified.rows["pipedrive_persons"].id, "acme", "eu")
    unified.run("pipedrive_persons", "eu")
    others = [row for row in unified.contacts() if row[0] == "pipedrive"]
    assert [row[1] for row in others] == ["base", "base", "eu", "eu"]

    def own() -> list[str]:
        rows = unified.contacts()
        assert [row for row in rows if row[0] == "pipedrive"] == others
        return [row[2] for row in rows if row[0] == "hubspot"]

    del hubspot[0]
    unified.run("hubspot_contacts")
    assert own() == ["2", "3"]
    unified.run("hubspot_contacts", reset=True, empty_cache=True)
    assert own() == ["2", "3"]
    changed = unified.rows["hubspot_contacts"].sync.model_copy(update={"metadata": {"origin": "crm"}})
    unified.rows |= syncs.register(unified.db, [changed])
    unified.run("hubspot_contacts")  # maps all of its records again
    assert own() == ["2", "3"]
    syncs.delete(unified.db, unified.rows["hubspot_contacts"].id)
    assert own() == []
