"""TypeScript sync scripts: what each member of `nango` does, and what is stored and kept when a script ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from nango_dagster.settings import Settings
from nango_dagster.store import Database
from tests.fake_api import FakeApi, Received, Reply
from tests.node_project import NodeProject


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all tests of the module, so that they share a warm Node process."""
    return tmp_path_factory.mktemp("nango-integrations")


@pytest.fixture
def project(db: Database, settings: Settings, api: FakeApi, root: Path) -> NodeProject:
    project = NodeProject(db, settings, api, root)
    project.connect()
    return project


def offsets(request: Received) -> Reply:
    """A list of five items, in pages of two."""
    at = int(request.params.get("offset", 0))
    return {"items": [{"id": str(n), "name": f"item {n}"} for n in range(at, min(at + 2, 5))]}


def test_a_script_pages_through_a_list_and_saves_it(project: NodeProject) -> None:
    project.api.route("/items", offsets)
    outcome = project.outcome("""
        for await (const page of nango.paginate({
            endpoint: '/items',
            paginate: { type: 'offset', offset_name_in_request: 'offset', response_path: 'items', limit: 2,
                        limit_name_in_request: 'limit' },
        })) await nango.batchSave(page, 'Item');
        """)
    assert (outcome.status, outcome.counts.added) == ("succeeded", 5), outcome.error
    assert project.ids() == ["0", "1", "2", "3", "4"]
    sync = project.stored().sync
    assert (sync.description, sync.frequency, sync.model) == ("The items of the CRM.", 120, "Item")


def test_an_error_names_the_line_of_the_typescript_file(project: NodeProject) -> None:
    outcome = project.outcome("const value: number = 1;\nthrow new Error(`no ${value}`);")
    assert outcome.status == "failed"
    assert "crm/syncs/items.ts:10" in outcome.error and "no 1" in outcome.error
