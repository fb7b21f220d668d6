"""`records`: what people see of a sync's changes on the terminal, and machines with --json."""

from __future__ import annotations

from typing import Any

import pytest

from nango_dagster.store import Database
from nango_dagster.store.changes import Cursor
from tests.commands import Cli, write_sync
from tests.writing import Target

pytestmark = pytest.mark.usefixtures("same_logging")


@pytest.fixture
def cli(settings_env: dict[str, str], db: Database) -> Cli:
    """The command line with a sync of which 1 was added, 2 updated and 3 deleted."""
    fields: dict[str, Any] = {"url": "https://api.example.com/items", "unique_key": "id", "track_deletes": True}
    write_sync("items", **fields)
    target = Target(db, **fields)
    target.write([{"id": 1}, {"id": 2}, {"id": 3, "text": "long " * 100}])
    target.write([{"id": 1}, {"id": 2, "name": "new"}])
    return Cli(settings_env)


def failure(cli: Cli, *arguments: str) -> str:
    said = cli(*arguments)
    assert said.status == 1
    return said.stderr


def test_the_last_changes_are_shown_the_newest_first(cli: Cli) -> None:
    lines = cli.good("records", "items").stdout.splitlines()
    assert lines[0] == "Items of default (base): 2 records"
    assert [line.split()[1:3] for line in lines[2:5]] == [["deleted", "3"], ["updated", "2"], ["added", "1"]]
    assert '{"id":2,"name":"new"}' in lines[3]
    assert lines[2].rstrip().endswith("…")


def test_they_can_be_narrowed_and_followed(cli: Cli) -> None:
    found = cli.good("records", "items", "--filter", "added,updated", "--json").json
    assert (found["model"], found["connection_id"], found["next_cursor"]) == ("Items", "default", None)
    assert [(one["id"], one["action"]) for one in found["records"]] == [("2", "updated"), ("1", "added")]
    assert found["records"][0]["record"] == {"id": 2, "name": "new"}
    first = found["records"][1]["cursor"]
    page = cli.good("records", "items", "--after", first, "--limit", "1", "--json").json
    assert [one["id"] for one in page["records"]] == ["2"]
    assert Cursor.read(page["next_cursor"]).external_id == "2"
    assert (
        f"More follow: --after {page['next_cursor']}"
        in cli.good("records", "items", "--after", first, "--limit", "1").stdout
    )


def test_what_is_not_there_is_said(cli: Cli, db: Database) -> None:
    assert 'the cursor "x" is none of ours' in failure(cli, "records", "items", "--after", "x")
    assert '--filter has "gone"; wanted added, updated, deleted' in failure(cli, "records", "items", "--filter", "gone")
    assert "it has records of default (base)" in failure(cli, "records", "items", "--connection", "acme")
    write_sync("new", url="https://api.example.com/new")
    assert "new has stored nothing yet" in failure(cli, "records", "new")
    Target(db, connection="acme", url="https://api.example.com/items", unique_key="id").write([{"id": 1}])
    said = failure(cli, "records", "items")
    assert "records of acme (base), default (base); select one with --connection and --variant." in said
    assert "acme (base): 1 record" in cli.good("records", "items", "--connection", "acme").stdout
