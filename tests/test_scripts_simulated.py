"""The simulated API drives Python scripts: whatever fails, and wherever a process is killed, no record is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nango_dagster import runs
from nango_dagster.config import from_document
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, syncs
from tests.changing_source import ChangingSource
from tests.crash_worker import Workers
from tests.crashing import kill_at_random
from tests.fake_api import FakeApi
from tests.test_incremental_simulated import STORIES, Killed, Story, killed_after, stored_versions

SCRIPTS = '''
from datetime import datetime, timedelta

PAGING = {"type": "cursor", "cursor_path_in_response": "next", "cursor_name_in_request": "after",
          "response_path": "results"}


def full(nango):
    """The whole list in each execution."""
    for page in nango.paginate("/items", paginate=PAGING):
        yield page


def pieces(nango):
    """The whole list, two pages in each execution."""
    after = nango.checkpoint.get("after")
    for _ in range(2):
        answer = nango.get("/items", params={"after": after}).data
        yield answer["results"]
        after = answer["next"]
        if after is None:
            nango.clear_checkpoint()
            return
        nango.save_checkpoint(after=after)


def window(nango):
    """The same with a deletion window of its own."""
    after = nango.checkpoint.get("after")
    nango.track_deletes_start()
    for _ in range(2):
        answer = nango.get("/items", params={"after": after}).data
        nango.batch_save(answer["results"])
        after = answer["next"]
        if after is None:
            nango.track_deletes_end()
            nango.clear_checkpoint()
            return
        nango.save_checkpoint(after=after)


def models(nango):
    """Two models, each with a window, and records that are merged."""
    with nango.track_deletes("Even"), nango.track_deletes("Odd"):
        for page in nango.paginate("/items", paginate=PAGING):
            for record in page:
                model = "Odd" if record["id"] % 2 else "Even"
                nango.batch_save([{"id": record["id"]}], model)
                nango.batch_update([record], model)


def changes(nango):
    """The changes since the last time, and the deletions that the API tells."""
    since = newest = nango.checkpoint.get("since")
    for page in nango.paginate("/items", params={"since": since}, paging_cursor_request_path="after",
                               paging_cursor_metadata_response_path="next", response_path="results"):
        nango.batch_delete([record["id"] for record in page if record.get("deleted")])
        yield [record for record in page if not record.get("deleted")]
        stamps = [record["updated_at"] for record in page if record.get("updated_at", "2099") < "2099"]
        newest = max([newest or "", *stamps])
    if newest:
        moment = datetime.fromisoformat(newest.replace("Z", "+00:00")) - timedelta(minutes=4)
        nango.save_checkpoint(since=max(since or "", moment.isoformat().replace("+00:00", "Z")))
'''
ALL: dict[str, Any] = {"max_fraction": 1.0}
FIELDS: dict[str, dict[str, Any]] = {
    "full": {"track_deletes": ALL},
    "pieces": {"track_deletes": ALL},
    "window": {"track_deletes": None},
    "models": {"models": {name: {"type": "object", "properties": {"id": {}}} for name in ("Even", "Odd")}},
    "changes": {},
}


class ScriptStory(Story):
    """A source, a script that reads it, and what happens to both."""

    def __init__(self, db: Database, settings: Settings, source: ChangingSource, name: str, number: int) -> None:
        self.db, self.settings, self.source, self.name = db, settings, source, name
        fields: dict[str, Any] = {"name": f"items-{number}", "integration": f"crm{number}", "retries": 0}
        fields |= {"script": f"simulated:{name}", "base_url": source.api.url, **FIELDS[name]}
        self.row = syncs.register(db, [from_document(fields)])[fields["name"]]
        self.variant = "base" if number % 2 else "other"
        connections.add(db, None, connections.NewConnection(f"crm{number}", "acme"))
        if self.variant != "base":
            connections.add_variant(db, self.row.id, "acme", self.variant)

    def execute(self, kill: int | None = None) -> None:
        wishes = runs.Wishes(accept_deletes=True)
        of = (self.db, self.settings, self.row)
        with runs.claimed(*of, connection_id="acme", variant=self.variant) as execution:
            try:
                with killed_after(self.db, kill):
                    replace(execution, wishes=wishes).run()
            except Killed:
                pass

    def end(self) -> None:
        """The source becomes quiet; a list in pieces takes several executions."""
        for _ in range(7 if self.name in ("pieces", "window") else 2):
            self.source.pass_time(4000)
            self.source.begin(set(), {})
            self.execute()


@pytest.fixture
def folder(settings: Settings) -> Iterator[None]:
    settings.configs.mkdir(parents=True, exist_ok=True)
    (settings.configs / "simulated.py").write_text(SCRIPTS)
    yield


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", FIELDS)
def test_after_the_source_became_quiet_the_rows_are_those_of_the_source(
    db: Database, settings: Settings, api: FakeApi, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    examples = 5 if db.engine.name == "sqlite" else 2
    number = 0

    @hypothesis_settings(
        max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )
    @given(story=STORIES, skew=st.sampled_from([-60, 0, 60]))
    def check(story: list[tuple[Any, ...]], skew: int) -> None:
        nonlocal number
        number += 1
        source = ChangingSource(api, skew=skew, late=False, tombstones=name == "changes")

        def simulated_now(database: Database, connection: sa.Connection) -> datetime:
            return source.now

        monkeypatch.setattr(Database, "now", simulated_now)
        told = ScriptStory(db, settings, source, name, number)
        for event in story:
            told.tell(event)
        told.end()
        assert told.stored() == source.live()

    check()


@pytest.mark.usefixtures("folder")
def test_a_killed_process_of_a_script_loses_nothing(
    db: Database, settings: Settings, settings_env: dict[str, str], api: FakeApi, tmp_path: Path
) -> None:
    """Checkpoints and a deletion window survive kills at random statements; two more executions are exact."""
    source = ChangingSource(api, late=False, size=6)
    for id in range(1, 12):
        source.put(id)
    fields = {"name": "items", "script": "simulated:window", "base_url": api.url, "track_deletes": None}
    row = syncs.register(db, [from_document(fields)])["items"]
    with Workers(tmp_path, {**settings_env, "NANGO_SYNC_CONFIGS": str(settings.configs.absolute())}) as workers:
        counted = workers.run("items")
        assert counted.status == "succeeded", counted
        for change in range(1, 4):
            source.pass_time(600)
            source.delete(change)
            source.put(change + 5)
            source.put(change + 20)
            kill_at_random(workers, db, "items", counted.statements)
    for _ in range(2):
        with runs.claimed(db, settings, row) as execution:
            outcome = replace(execution, wishes=runs.Wishes(accept_deletes=True)).run()
        assert outcome.status == "succeeded", outcome.error
    assert stored_versions(db, row) == source.live()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["pieces", "window", "changes"])
def test_a_kill_between_any_two_statements_loses_nothing(
    db: Database, settings: Settings, api: FakeApi, name: str
) -> None:
    """The kills are spread over the statements of an execution; each is followed by changes at the source."""
    source = ChangingSource(api, late=False, tombstones=name == "changes")
    for id in range(1, 12):
        source.put(id)
    told = ScriptStory(db, settings, source, name, 1)
    for kill in range(1, 60, 7 if db.engine.name == "sqlite" else 15):
        source.pass_time(600)
        source.delete(1 + kill % 11)
        source.put(1 + kill % 5)
        source.begin(set(), {})
        told.execute(kill)
    told.end()
    assert told.stored() == source.live()
