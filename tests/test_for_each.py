"""Lists for each record of another sync: which are read, what goes with a deleted parent, and what a kill leaves."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa

from nango_dagster.config import Sync
from nango_dagster.runs import Outcome, Wishes
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, datasets, queue, schema, syncs
from nango_dagster.store.sync_row import SyncRow
from tests.crash_worker import Workers
from tests.crashing import kill_at_random, take_for_dead
from tests.executions import PAGING, assert_nothing_runs, execute, ordered, stored
from tests.fake_api import Answer, FakeApi, Received, Reply

TRACKED: dict[str, Any] = {"unique_key": "id", "track_deletes": {"max_fraction": 1.0}}
EACH = {"sync": "issues", "path": "number", "field": "issue", "where_changed": True}


@dataclass
class Family:
    """Issues with comments behind an API; the number of an issue is not its key."""

    api: FakeApi
    issues: dict[int, dict[str, Any]] = field(default_factory=dict)
    comments: dict[int, dict[int, dict[str, Any]]] = field(default_factory=dict)
    broken: dict[int, Reply] = field(default_factory=dict)
    """By the number of an issue: what its list answers instead."""
    meanwhile: Callable[[], None] = field(default=lambda: None)
    """Called before each answer: changes while the lists are read."""

    def __post_init__(self) -> None:
        self.api.route("/issues", self.answer_issues)
        self.api.route("/comments", self.answer)

    def answer_issues(self, request: Received) -> Reply:
        self.meanwhile()
        return list(self.issues.values())

    def answer(self, request: Received) -> Reply:
        self.meanwhile()
        number = int(request.params["issue"])
        if number in self.broken:
            return self.broken[number]
        if number not in self.comments:
            return Answer(404)
        page, comments = int(request.params.get("page", 1)), list(self.comments[number].values())
        return {"results": comments[2 * page - 2 : 2 * page], "next": page + 1 if len(comments) > 2 * page else None}

    def open(self, number: int, *comments: int) -> None:
        self.issues[number] = {"id": 1000 + number, "number": number, "version": 0}
        self.comments[number] = {id_: {"id": id_, "version": 0} for id_ in comments}

    def touch(self, number: int) -> None:
        self.issues[number]["version"] += 1

    def close(self, number: int) -> None:
        del self.issues[number], self.comments[number]

    def syncs(self, *, for_each: dict[str, Any] = EACH, **fields: Any) -> list[Sync]:
        """The two syncs; `fields` are of the comments."""
        issues = Sync(name="issues", url=f"{self.api.url}/issues", retries=0, **TRACKED)
        request = {"url": f"{self.api.url}/comments", "query_params": {"issue": "${parent.number}"}, **PAGING}
        comments = {"name": "comments", "for_each": for_each, "retries": 0, **request, **TRACKED, **fields}
        return [issues, Sync(**comments)]

    def read(self) -> list[int]:
        """The issues whose lists were requested since the last call; each page is a request."""
        numbers = [int(request.params["issue"]) for request in self.api.requests if request.path == "/comments"]
        self.api.requests.clear()
        return numbers

    @property
    def expected(self) -> list[Any]:
        return ordered(
            {**comment, "issue": number} for number in self.issues for comment in self.comments[number].values()
        )


@pytest.fixture
def family(api: FakeApi) -> Family:
    found = Family(api)
    for number in (1, 2, 3):
        found.open(number, *(number * 10 + at for at in range(3)))
    return found


@dataclass
class Pair:
    """The two syncs in the store."""

    db: Database
    settings: Settings
    issues: SyncRow
    comments: SyncRow

    def run(self, *, wishes: Wishes | None = None) -> Outcome:
        """An execution of the issues, then of the comments; the outcome of the second."""
        assert execute(self.db, self.settings, self.issues).status == "succeeded"
        return execute(self.db, self.settings, self.comments, wishes=wishes)

    def assert_exact(self, family: Family) -> None:
        found = stored(self.db, self.comments)
        assert found.live == family.expected
        assert [(row["id"], row["issue"]) for row in found.mapped] == [(one["id"], one["issue"]) for one in found.live]
        assert found.live_count == len(found.live)


def make_pair(db: Database, settings: Settings, family: Family, **fields: Any) -> Pair:
    rows = syncs.register(db, family.syncs(**fields))
    return Pair(db, settings, rows["issues"], rows["comments"])


def test_only_the_lists_of_new_and_changed_parents_are_read(db: Database, settings: Settings, family: Family) -> None:
    pair = make_pair(db, settings, family)
    assert pair.run().counts.added == 9
    pair.assert_exact(family)
    assert sorted(set(family.read())) == [1, 2, 3]
    family.comments[1][19] = {"id": 19, "version": 0}  # without a change of its issue it is not seen
    outcome = pair.run()
    assert (outcome.counts.requests, outcome.stop_reason, outcome.warnings) == (0, "parents_read", ())
    family.touch(1)
    family.open(4, 40)
    del family.comments[2][20]
    family.touch(2)
    outcome = pair.run()
    assert (outcome.counts.added, outcome.counts.deleted) == (2, 1)
    assert sorted(set(family.read())) == [1, 2, 4]
    pair.assert_exact(family)


def test_without_where_changed_each_execution_reads_all_lists(db: Database, settings: Settings, family: Family) -> None:
    pair = make_pair(db, settings, family, for_each={**EACH, "where_changed": False})
    pair.run()
    family.read()
    family.comments[3].clear()
    assert pair.run().counts.deleted == 3
    assert sorted(set(family.read())) == [1, 2, 3]
    pair.assert_exact(family)


def test_a_deleted_parent_takes_its_children_along_also_without_track_deletes(
    db: Database, settings: Settings, family: Family
) -> None:
    pair = make_pair(db, settings, family, track_deletes=False)
    pair.run()
    family.close(2)
    family.read()
    outcome = pair.run()
    assert (outcome.counts.deleted, family.read()) == (3, [])
    found = stored(db, pair.comments)
    assert (found.live, [one["id"] for one in found.deleted]) == (family.expected, [20, 21, 22])
    family.open(2, 20)
    assert pair.run().counts.added == 1
    pair.assert_exact(family)


def test_a_record_of_two_lists_stays_until_both_lack_it(db: Database, settings: Settings, family: Family) -> None:
    pair = make_pair(db, settings, family)
    family.comments[2][10] = dict(family.comments[1][10])
    pair.run()
    del family.comments[1][10]
    family.touch(1)
    pair.run()
    assert 10 in [one["id"] for one in stored(db, pair.comments).live]
    family.close(2)
    pair.run()
    pair.assert_exact(family)


def test_a_changed_request_reads_all_lists_again(db: Database, settings: Settings, family: Family) -> None:
    pair = make_pair(db, settings, family)
    pair.run()
    changed = make_pair(db, settings, family, headers={"X-More": "1"})
    family.read()
    changed.run()
    assert sorted(set(family.read())) == [1, 2, 3]
    same_lists = make_pair(db, settings, family, headers={"X-More": "1"}, frequency=5)
    same_lists.run()
    assert family.read() == []
    same_lists.run(wishes=Wishes(reset=True))
    assert sorted(set(family.read())) == [1, 2, 3]


def test_a_list_that_fails_is_read_again_and_the_others_are_not(
    db: Database, settings: Settings, family: Family
) -> None:
    pair = make_pair(db, settings, family)
    family.broken[2] = Answer(500)
    outcome = pair.run()
    assert outcome.status == "failed"
    assert "1 list of 3 could not be read and will be requested again. The first: issues 1002: " in str(outcome.error)
    assert len(stored(db, pair.comments).live) == 6
    family.broken.clear()
    family.read()
    assert pair.run().status == "succeeded"
    assert set(family.read()) == {2}
    pair.assert_exact(family)


def test_an_api_that_fails_is_not_asked_for_every_list(db: Database, settings: Settings, family: Family) -> None:
    for number in range(4, 40):
        family.open(number)
    family.broken = dict.fromkeys(family.issues, Answer(503))
    pair = make_pair(db, settings, family)
    assert pair.run().status == "failed"
    assert len(family.read()) == 20


def test_refused_credentials_end_the_execution_at_once(db: Database, settings: Settings, family: Family) -> None:
    family.broken = {1: Answer(401)}
    outcome = make_pair(db, settings, family).run()
    assert outcome.status == "failed"
    assert family.read() == [1]


def test_a_list_that_lost_most_of_its_records_keeps_them_until_somebody_accepts_that(
    db: Database, settings: Settings, family: Family
) -> None:
    guarded = {"track_deletes": {"max_fraction": 0.5, "min_rows": 3}}
    pair = make_pair(db, settings, family, **guarded)
    pair.run()
    for number in (1, 2):
        del family.comments[number][number * 10]
    family.comments[2].clear()
    for number in (1, 2):
        family.touch(number)
    outcome = pair.run()
    assert outcome.status == "failed"
    assert "3 of 3 records of issues 1002 are gone, more than track_deletes.max_fraction (0.5)" in str(outcome.error)
    assert outcome.counts.deleted == 1
    family.read()
    assert pair.run().status == "failed"
    assert family.read() == [2]
    assert pair.run(wishes=Wishes(accept_deletes=True)).counts.deleted == 3
    pair.assert_exact(family)


def test_many_short_lists_that_become_empty_delete_nothing(db: Database, settings: Settings, family: Family) -> None:
    pair = make_pair(db, settings, family, track_deletes={"max_fraction": 0.5, "min_rows": 5})
    pair.run()
    for number in family.issues:
        family.comments[number].clear()
        family.touch(number)
    outcome = pair.run()
    assert (outcome.status, outcome.counts.deleted) == ("failed", 0)
    assert "9 of 9 records are gone from the source" in str(outcome.error)


def test_a_list_by_page_numbers_is_read_again_before_a_record_is_deleted(
    db: Database, settings: Settings, family: Family
) -> None:
    """A deletion while the list is read moves records to pages that were read already."""
    numbered = {"paging_page_request_path": "page"}
    (issues, comments) = family.syncs()
    fields = {name: value for name, value in comments.document().items() if not name.startswith("paging_")}
    rows = syncs.register(db, [issues, Sync(**{**fields, **numbered})])
    pair = Pair(db, settings, rows["issues"], rows["comments"])
    pair.run()
    family.read()
    del family.comments[1][10]
    family.touch(1)
    assert pair.run().counts.deleted == 1
    assert family.read() == [1, 1, 1, 1]
    pair.assert_exact(family)


def test_parents_without_a_value_are_left_out_with_a_warning(db: Database, settings: Settings, family: Family) -> None:
    pair = make_pair(db, settings, family)
    family.issues[2]["number"] = None
    outcome = pair.run()
    assert outcome.warnings == (
        "1 record of issues have no value at number, or their content was pruned; their lists were not read.",
    )
    assert set(family.read()) == {1, 3}


@pytest.mark.parametrize("state", ["STARTED", "PAUSED"])
def test_parents_that_were_never_read_are_a_warning(
    db: Database, settings: Settings, family: Family, state: str
) -> None:
    pair = make_pair(db, settings, family)
    with db.begin() as connection:
        connection.execute(sa.update(schema.schedules).values(state=state))
    outcome = execute(db, settings, pair.comments)
    assert outcome.status == "succeeded"
    why = {"STARTED": "waits for its first execution", "PAUSED": "is paused"}[state]
    assert outcome.warnings[0].startswith("the sync of the parents, issues, has read nothing yet")
    assert f": it {why}. " in outcome.warnings[0]
    assert pair.run().counts.added == 9


def test_a_parent_sync_that_is_not_stored_is_an_error(db: Database, settings: Settings, family: Family) -> None:
    comments = syncs.register(db, family.syncs()[1:])["comments"]
    outcome = execute(db, settings, comments)
    assert outcome.status == "failed"
    assert "for_each.sync is issues, and the integration default has no such sync" in str(outcome.error)


def test_emptied_parents_take_no_child_along_before_they_are_read_again(
    db: Database, settings: Settings, family: Family
) -> None:
    pair = make_pair(db, settings, family)
    pair.run()
    with db.begin() as connection:
        (dataset,) = datasets.of_sync(connection, pair.issues.id)
        datasets.mark_emptied(connection, db, dataset)
    assert execute(db, settings, pair.comments).counts.deleted == 0
    pair.run()
    pair.assert_exact(family)


def test_each_connection_has_its_own_parents(db: Database, settings: Settings, family: Family) -> None:
    body = [sync.model_copy(update={"integration": "github"}) for sync in family.syncs()]
    rows = syncs.register(db, body)
    for name in ("acme", "other"):
        connections.add(db, None, connections.NewConnection("github", name))
    from nango_dagster import runs

    def run(row: SyncRow, connection_id: str) -> Outcome:
        with runs.claimed(db, settings, row, run_id=None, connection_id=connection_id) as execution:
            return execution.run()

    assert run(rows["issues"], "acme").status == "succeeded"
    assert run(rows["comments"], "other").counts.requests == 0
    assert run(rows["comments"], "acme").counts.added == 9


# --- a simulated API, and kills between any two statements ----------------------------------------------------------


class Killed(BaseException):
    """The process is gone: no statement reaches the database any more."""


@contextmanager
def killed_after(count: int) -> Iterator[None]:
    """Let `count` statements through, and none behind them."""
    sent = 0

    def before(*_: Any) -> None:
        nonlocal sent
        sent += 1
        if sent > count:
            raise Killed

    sa.event.listen(sa.Engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", before)


def change(family: Family, chance: random.Random, ids: Iterator[int]) -> None:
    """One random change at the source."""
    number = chance.choice([*family.issues, 0])
    kind = chance.choice(["open", "close", "add", "update", "delete", "move"])
    if kind == "open" or not number:
        family.open(next(ids), *(next(ids) for _ in range(chance.randrange(4))))
        return
    if kind == "close":
        family.close(number)
        return
    comments = family.comments[number]
    some = chance.choice([*comments, 0])
    if kind == "add" or not some:
        id_ = next(ids)
        comments[id_] = {"id": id_, "version": 0}
    elif kind == "update":
        comments[some]["version"] += 1
    else:
        comment = comments.pop(some)
        if kind == "move":
            other = chance.choice([*family.issues])
            family.comments[other][some] = comment
            family.touch(other)
    family.touch(number)


@pytest.mark.parametrize("seed", range(6))
def test_after_any_changes_failures_and_kills_two_quiet_executions_make_the_rows_those_of_the_source(
    db: Database, settings: Settings, api: FakeApi, seed: int
) -> None:
    chance, ids = random.Random(seed), iter(range(1, 10_000))
    family = Family(api)
    pair = make_pair(db, settings, family, for_each={**EACH, "where_changed": bool(seed % 2)})

    def meanwhile() -> None:
        if chance.random() < 0.3:
            change(family, chance, ids)

    family.meanwhile = meanwhile
    for _ in range(8):
        for _ in range(chance.randrange(6)):
            change(family, chance, ids)
        family.broken = {number: Answer(500) for number in family.issues if chance.random() < 0.2}
        for row in (pair.issues, pair.comments):
            if chance.random() < 0.2:
                continue
            try:
                with killed_after(chance.choice([1_000_000, chance.randrange(1, 80)])):
                    execute(db, settings, row)
            except Killed:
                take_for_dead(db)
                queue.reap(db)
    family.broken, family.meanwhile = {}, lambda: None
    for _ in range(2):
        assert pair.run().status == "succeeded"
    pair.assert_exact(family)
    assert_nothing_runs(db)
    with db.connect() as connection:
        links = connection.execute(sa.select(schema.children.c.parent_id, schema.children.c.external_id)).all()
    expected = [(str(1000 + number), str(id_)) for number in family.issues for id_ in family.comments[number]]
    assert sorted(map(tuple, links)) == sorted(expected)


def test_a_killed_process_of_for_each_loses_nothing(
    db: Database, settings: Settings, family: Family, workers: Workers
) -> None:
    """Parents and children change between kills at random statements; two more executions are exact."""
    pair = make_pair(db, settings, family)
    statements = {name: workers.run(name).statements for name in ("issues", "comments")}
    assert len(stored(db, pair.comments).live) == 9
    for number in range(4, 8):
        family.open(number, number * 10)
        family.touch(number - 1)
        family.comments[number - 1].popitem()
        family.close(number - 3)
        sync = "issues" if number == 5 else "comments"
        kill_at_random(workers, db, sync, statements[sync])
        execute(db, settings, pair.issues)
    for _ in range(2):
        assert pair.run().status == "succeeded"
    pair.assert_exact(family)


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_a_round_that_was_killed_goes_on_with_the_lists_it_had_not_read(
    db: Database, settings: Settings, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nango_dagster.runs.children.COMMIT_LISTS", 1)
    pair = make_pair(db, settings, family, for_each={**EACH, "where_changed": False})
    pair.run()
    family.read()
    family.broken = {3: Answer(503)}
    pair.run()
    family.broken = {2: Answer(401)}
    execute(db, settings, pair.comments)
    family.read()
    family.broken = {}
    execute(db, settings, pair.comments)
    assert sorted(set(family.read())) == [2, 3]
