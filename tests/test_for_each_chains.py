"""Syncs with `for_each` over parents of every kind: children themselves, incremental, deleted and added again."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest

from nango_dagster.config import Sync
from nango_dagster.runs import Outcome, Wishes
from nango_dagster.settings import Settings
from nango_dagster.store import Database, syncs
from nango_dagster.store.sync_row import SyncRow
from tests.executions import execute, stored
from tests.fake_api import Answer, FakeApi, Received, Reply

TRACKED: dict[str, Any] = {"unique_key": "id", "track_deletes": {"max_fraction": 1.0}, "retries": 0}


SQLITE = pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)


class Tree:
    """Teams, the boards of each team, and the cards of each board, behind an API with one URL for each list."""

    def __init__(self, db: Database, settings: Settings, api: FakeApi) -> None:
        self.db, self.settings, self.api = db, settings, api
        self.lists: dict[str, list[dict[str, Any]]] = {"/teams": []}
        """The records by the path of their list; a list that is missing is answered with 404."""
        self.requested: list[str] = []
        api.route("/*", self.answer)
        self.rows: dict[str, SyncRow] = {}

    def answer(self, request: Received) -> Reply:
        path = unquote(request.target.partition("?")[0])
        self.requested.append(path)
        rows = self.lists.get(path)
        if rows is None:
            return Answer(404, {}, {"error": f"no {path}"})
        since = request.params.get("since")
        return [row for row in rows if since is None or row["at"] >= since]

    def declare(self, **fields: Any) -> None:
        """The three syncs; the fields of `boards` and `cards` are those of for_each."""
        url = self.api.url
        teams = {"name": "teams", "url": f"{url}/teams", **TRACKED, **fields.get("teams", {})}
        each = {"path": "id", "where_changed": True}
        boards = {"name": "boards", "url": f"{url}/teams/${{parent.id}}/boards", **TRACKED}
        boards["unique_key"] = fields.get("key", "id")
        boards |= {"for_each": {"sync": "teams", "field": "team", **each, **fields.get("boards", {})}}
        cards = {"name": "cards", "url": f"{url}/teams/${{parent.team}}/boards/${{parent.id}}/cards", **TRACKED}
        cards |= {"for_each": {"sync": "boards", "field": "board", **each}, **fields.get("cards", {})}
        self.rows = dict(syncs.register(self.db, [Sync(**body) for body in (teams, boards, cards)]))

    def run(self, *names: str, wishes: Wishes | None = None) -> Outcome:
        """Execute syncs in turn; the outcome of the last one, which may have failed."""
        self.requested.clear()
        for name in names or ("teams", "boards", "cards"):
            outcome = execute(self.db, self.settings, self.rows[name], wishes=wishes)
        return outcome

    def live(self, name: str) -> dict[Any, Any]:
        """The parent of each live record, by its id."""
        field = {"teams": "at", "boards": "team", "cards": "board"}[name]
        return {record["id"]: record.get(field) for record in stored(self.db, self.rows[name]).live}


@pytest.fixture
def tree(db: Database, settings: Settings, api: FakeApi) -> Tree:
    tree = Tree(db, settings, api)
    tree.lists["/teams"] = [{"id": "a", "at": "1"}, {"id": "b", "at": "1"}]
    for team in "ab":
        tree.lists[f"/teams/{team}/boards"] = [{"id": f"{team}1"}, {"id": f"{team}2"}]
        for board in "12":
            tree.lists[f"/teams/{team}/boards/{team}{board}/cards"] = [{"id": f"{team}{board}x"}]
    return tree


def test_children_of_children_follow_their_parents_and_go_with_them(tree: Tree) -> None:
    tree.declare()
    assert tree.run().counts.added == 4
    assert tree.live("cards") == {"a1x": "a1", "a2x": "a2", "b1x": "b1", "b2x": "b2"}
    tree.lists["/teams"][0]["at"] = "2"
    tree.lists["/teams/a/boards"] = [{"id": "a1", "name": "new"}, {"id": "a3"}]
    tree.lists["/teams/a/boards/a3/cards"] = [{"id": "a3x"}]
    tree.lists["/teams/a/boards/a1/cards"] = []
    assert tree.run().status == "succeeded"
    assert [path for path in tree.requested if "cards" in path] == [
        "/teams/a/boards/a1/cards",
        "/teams/a/boards/a3/cards",
    ]
    assert tree.live("cards") == {"a3x": "a3", "b1x": "b1", "b2x": "b2"}
    del tree.lists["/teams"][0]
    tree.run()
    assert tree.live("boards") == {"b1": "b", "b2": "b"} and tree.live("cards") == {"b1x": "b1", "b2x": "b2"}


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_parent_that_is_deleted_and_added_again_has_its_children_again(tree: Tree, is_seen: bool) -> None:
    tree.declare()
    tree.run()
    team = tree.lists["/teams"].pop(0)
    tree.run(*(["teams", "boards", "cards"] if is_seen else ["teams"]))
    tree.lists["/teams"].append(team)
    tree.lists["/teams/a/boards"] = [{"id": "a2"}, {"id": "a9"}]
    tree.lists["/teams/a/boards/a9/cards"] = [{"id": "a9x"}]
    assert tree.run().status == "succeeded"
    assert tree.live("boards") == {"a2": "a", "a9": "a", "b1": "b", "b2": "b"}
    assert sorted(tree.live("cards")) == ["a2x", "a9x", "b1x", "b2x"]


@SQLITE
def test_an_incremental_sync_may_be_the_parent(tree: Tree) -> None:
    block = {"field": "at", "request_path": "since", "full_refresh": "every day"}
    tree.declare(teams={"sync_type": "incremental", "incremental": block})
    tree.run()
    tree.lists["/teams"].append({"id": "c", "at": "2"})
    tree.lists["/teams/c/boards"] = [{"id": "c1"}]
    tree.lists["/teams/c/boards/c1/cards"] = [{"id": "c1x"}]
    tree.run()
    assert [path for path in tree.requested if path.endswith("boards")] == ["/teams/c/boards"]
    assert sorted(tree.live("cards")) == ["a1x", "a2x", "b1x", "b2x", "c1x"]


def test_a_reset_of_the_children_alone_reads_all_lists_and_a_deleted_parent_still_takes_its_children(
    tree: Tree,
) -> None:
    tree.declare()
    tree.run()
    tree.run("boards", wishes=Wishes(reset=True))
    assert tree.requested == ["/teams/a/boards", "/teams/b/boards"]
    tree.run("boards", wishes=Wishes(empty_cache=True))
    assert sorted(tree.live("boards")) == ["a1", "a2", "b1", "b2"]
    del tree.lists["/teams"][1]
    tree.run()
    assert sorted(tree.live("cards")) == ["a1x", "a2x"]


@SQLITE
@pytest.mark.parametrize("id_", ["a/b", "a b+c", "ü?x=1&y#z", "100%", "%2F", "..", ".", "a;b", "{x}", "$5"])
def test_a_value_of_the_parent_is_one_part_of_the_path(tree: Tree, id_: str) -> None:
    tree.lists["/teams"] = [{"id": id_, "at": "1"}]
    tree.lists[f"/teams/{id_}/boards"] = [{"id": "x"}]
    tree.declare()
    outcome = tree.run("teams", "boards")
    if id_ in (".", ".."):
        assert outcome.status == "failed"
        assert not any(path in ("/boards", "/teams/boards") for path in tree.requested), tree.requested
    else:
        assert outcome.error is None and tree.live("boards") == {"x": id_}


@SQLITE
def test_a_parent_without_a_list_fails_the_execution_unless_a_rule_says_that_it_is_empty(tree: Tree) -> None:
    tree.declare()
    tree.run()
    del tree.lists["/teams/a/boards/a1/cards"]
    tree.lists["/teams"][0]["at"] = "2"
    tree.lists["/teams/a/boards"][0]["name"] = tree.lists["/teams/a/boards"][1]["name"] = "new"
    tree.lists["/teams/a/boards/a2/cards"].append({"id": "a2y"})
    outcome = tree.run()
    assert outcome.status == "failed" and "boards a1" in str(outcome.error) and "404" in str(outcome.error)
    assert sorted(tree.live("cards")) == ["a1x", "a2x", "a2y", "b1x", "b2x"]
    tree.run("cards")
    assert tree.requested == ["/teams/a/boards/a1/cards"]
    tree.declare(cards={"responses": [{"status": 404, "action": "empty"}]})
    assert tree.run("cards").status == "succeeded"
    assert sorted(tree.live("cards")) == ["a2x", "a2y", "b1x", "b2x"]


@SQLITE
def test_a_record_of_two_lists_has_a_row_for_each_with_the_value_of_its_parent_in_the_key(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it each execution writes the record twice, which the warning of repeated records tells."""
    monkeypatch.setattr("nango_dagster.runs.children.COMMIT_RECORDS", 1)
    tree.lists["/teams/b/boards"] = [{"id": "a1"}, {"id": "b2"}]
    tree.declare(boards={"where_changed": False})
    tree.run("teams", "boards")
    outcome = tree.run("boards")
    assert outcome.counts.updated == 2 and "1 records came more than once" in " ".join(outcome.warnings)
    tree.declare(boards={"where_changed": False}, key=["team", "id"])
    tree.run("boards")
    outcome = tree.run("boards")
    assert (outcome.counts.unchanged, outcome.counts.updated, outcome.warnings) == (4, 0, ())
    del tree.lists["/teams/b/boards"][0]
    assert tree.run("boards").counts.deleted == 1
    assert tree.live("boards") == {"a1": "a", "a2": "a", "b2": "b"}
