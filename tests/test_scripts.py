"""Sync scripts in Python: what each member of `nango` does, and what is stored and kept when a script ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nango_dagster.settings import Settings
from nango_dagster.store import Database
from tests.fake_api import FakeApi, Received, Reply
from tests.script_project import ScriptProject


@pytest.fixture
def project(db: Database, settings: Settings, api: FakeApi) -> ScriptProject:
    return ScriptProject(db, settings, api)


def pages(*several: list[dict[str, Any]]) -> Any:
    """An API of pages 1, 2, ... with the number of the next one."""

    def answer(request: Received) -> Reply:
        number = int(request.params.get("page", 1))
        return {"items": several[number - 1], "next": number + 1 if number < len(several) else None}

    return answer


def test_a_script_saves_the_pages_that_it_yields(project: ScriptProject) -> None:
    """Records that it does not look at are stored as the API sent them."""
    project.api.route("/items", pages([{"id": 1, "price": 1.10}], [{"id": 2}]))
    project.write("""
        @sync(integration="crm", base_url=API)
        def items(nango):
            '''The items of the CRM.'''
            for page in nango.paginate("/items", response_path="items",
                                       paging_cursor_request_path="page",
                                       paging_cursor_metadata_response_path="next"):
                yield page
        """)
    project.connect()
    outcome = project.run(connection_id="acme")
    assert (outcome.status, outcome.counts.added, outcome.counts.pages) == ("succeeded", 2, 2), outcome.error
    assert project.ids() == ["1", "2"]
    assert json.loads(project.texts()["1"]) == {"id": 1, "price": 1.10}
    assert project.row().sync.description == "The items of the CRM."
