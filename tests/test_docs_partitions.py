"""The page's asset after several syncs of one customer works as the page says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, queue, syncs
from tests.executions import Source, items
from tests.fake_api import FakeApi
from tests.materializing import MakeProject, look, making_projects
from tests.test_docs import blocks


@pytest.fixture
def make(settings: Settings, tmp_path: Path) -> Iterator[MakeProject]:
    with making_projects(settings, home=tmp_path / "dagster") as make:
        yield make


def the_page_s_asset() -> dg.AssetsDefinition:
    (block,) = (block for block in blocks("python") if "def open_deals(" in block.text)
    names: dict[str, Any] = {}
    exec(block.text, names)
    asset = names["open_deals"]
    assert isinstance(asset, dg.AssetsDefinition)
    return asset


def test_an_asset_after_two_syncs_runs_for_the_customers_whose_rows_have_changed(
    make: MakeProject, db: Database, api: FakeApi
) -> None:
    of_customer = {"integration": "crm", "unique_key": "id", "query_params": {"who": "${connection_id}"}}
    people, sales = Source(api, items(1, 2), path="/contacts"), Source(api, items(7, 8, contact_id=2), path="/deals")
    contacts, deals = people.sync(name="contacts", **of_customer), sales.sync(name="deals", **of_customer)
    project = make(contacts, deals, own=dg.Definitions(assets=[the_page_s_asset()]))
    rows = syncs.register(db, [contacts, deals])
    for name in ("ann", "bob"):
        connections.add(db, None, connections.NewConnection("crm", name))
    look(project)

    cursor = None

    def wanted() -> set[str | None]:
        """The customers that the automation condition asks for now."""
        nonlocal cursor
        found = dg.evaluate_automation_conditions(defs=project.defs, instance=project.instance, cursor=cursor)
        cursor = found.cursor
        return {*found.get_requested_partitions(dg.AssetKey("open_deals"))}

    assert wanted() == set()
    assert project.scheduled(contacts).success
    assert wanted() == set()
    assert project.scheduled(deals).success
    assert wanted() == {"ann", "bob"}
    for name in ("ann", "bob"):
        result = project.materialize("open_deals", partition=name)
        assert result.success
        assert list(result.output_for_node("open_deals")["name_of_contact"]) == ["item 2", "item 2"]
    wanted()
    people.broken[1] = lambda request: {"results": items(1, 2, 3)} if request.params["who"] == "bob" else people.page(1)
    queue.trigger(db, rows["contacts"].id)
    assert project.scheduled(contacts).success
    assert wanted() == {"bob"}
