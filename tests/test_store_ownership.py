"""Two projects may share a database: neither changes the other's syncs without saying so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from nango_dagster.config import Sync
from nango_dagster.errors import Refused
from nango_dagster.settings import Settings
from nango_dagster.store import Database, ownership, syncs
from tests.apis import URL
from tests.commands import Cli, write_sync


@pytest.fixture
def crm(db: Database) -> Iterator[Database]:
    """The database, as the project crm uses it."""
    yield replace(db, project="crm")


@pytest.fixture
def shop(db: Database) -> Iterator[Database]:
    """The database, as the project `shop` opens it."""
    yield replace(db, project="shop")


def items(url: str = URL) -> Sync:
    return Sync(name="items", url=url)


def test_another_project_cannot_change_a_sync(crm: Database, shop: Database) -> None:
    row = syncs.register(crm, [items()])["items"]
    assert row.owner == "crm"
    with pytest.raises(Refused) as refused:
        syncs.register(shop, [items(f"{URL}/other"), Sync(name="orders", url=URL)])
    assert str(refused.value) == (
        "sync items belongs to project crm; this project, shop, has another config for it. Rename the sync here, or use"
        " another schema (NANGO_DB_SCHEMA); if both are the same project, set NANGO_PROJECT=crm; to take the sync and "
        "its rows over: nango-dagster adopt items"
    )
    assert {(one.name, one.owner, one.sync.url) for one in syncs.all(crm)} == {
        ("items", "crm", URL),
        ("orders", "shop", URL),
    }


def test_the_same_config_in_both_projects_is_one_sync(crm: Database, shop: Database) -> None:
    row = syncs.register(crm, [items()])["items"]
    again = syncs.register(shop, [items()])["items"]
    assert (again.id, again.owner, again.updated_at) == (row.id, "crm", row.updated_at)


def test_several_code_locations_of_one_project_register_their_own_syncs(crm: Database) -> None:
    for name in ("alpha", "beta", "alpha"):
        syncs.register(crm, [Sync(name=name, url=URL)])
    assert [(row.name, row.owner) for row in syncs.all(crm)] == [("alpha", "crm"), ("beta", "crm")]


def test_a_sync_that_is_renamed_elsewhere_stays_where_it_is(crm: Database, shop: Database) -> None:
    syncs.register(crm, [items()])
    with pytest.raises(Refused, match="belongs to project crm"):
        syncs.register(shop, [Sync(name="things", renamed_from="items", url=URL)])
    assert [row.name for row in syncs.all(crm)] == ["items"]


def test_an_adopted_sync_keeps_its_id_and_follows_its_new_project(crm: Database, shop: Database) -> None:
    row = syncs.register(crm, [items()])["items"]
    ownership.adopt(shop, row)
    adopted = syncs.register(shop, [items(f"{URL}/other")])["items"]
    assert (adopted.id, adopted.owner) == (row.id, "shop")
    with pytest.raises(Refused, match="belongs to project shop"):
        syncs.register(crm, [items()])


def test_a_posted_sync_belongs_to_nobody(crm: Database, shop: Database) -> None:
    posted = syncs.post(crm, items(), named=True)
    assert posted.owner is None
    assert syncs.post(shop, items(f"{URL}/other"), named=True).id == posted.id


def test_a_process_without_a_project_takes_no_sync_over(db: Database, crm: Database) -> None:
    syncs.register(crm, [items()])
    nobody = replace(db, project="")
    assert syncs.register(nobody, [items(f"{URL}/other")])["items"].owner == "crm"


def test_the_project_is_named_after_the_folder_of_the_configs() -> None:
    folder = {"NANGO_SYNC_CONFIGS": "/srv/crm/sync_configs"}
    assert Settings.from_env(folder, dotenv=None).project == "crm"
    assert Settings.from_env({**folder, "NANGO_PROJECT": "sales"}, dotenv=None).project == "sales"


def test_the_command_line_names_the_project_and_adopts(settings_env: dict[str, str], db: Database) -> None:
    write_sync("items", url=URL)
    syncs.register(replace(db, project="crm"), [items(f"{URL}/other")])
    cli = Cli({**settings_env, "NANGO_PROJECT": "shop"})
    (listed,) = cli.good("list", "--json").json
    assert listed["project"] == "crm" and "crm" in cli.good("list").stdout
    said = cli("run", "items")
    assert said.status == 1 and "items belongs to project crm; this project, shop," in said.stderr
    assert cli.good("adopt", "items", "--json").json == {
        "name": "items",
        "integration": listed["integration"],
        "project": "shop",
        "previous_project": "crm",
    }
    assert cli.good("list", "--json").json[0]["project"] == "shop"
