"""One execution, from its claim to its job's end: what it stores, what it says, and who else may do it meanwhile."""

from __future__ import annotations

import re
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dagster import AssetKey

from nango_dagster import runs
from nango_dagster.defs import checks
from nango_dagster.errors import ConfigError, Refused, StoreUnavailable
from nango_dagster.runs import Wishes
from nango_dagster.settings import Settings
from nango_dagster.store import Database, jobs, open_database, queue, schema, syncs
from tests.executions import (
    Source,
    assert_exact,
    assert_nothing_runs,
    execute,
    items,
    last_job,
    stored,
    until,
)
from tests.fake_api import FakeApi

RUN_ID = "0f6e3c1a-7e0b-4c58-9d5d-2f3b1c9a8e77"


@pytest.fixture
def source(api: FakeApi) -> Source:
    """Seven items on three pages."""
    return Source(api, items(*range(1, 8)))


# --- what an execution does ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{"unique_key": "id"}, {}], ids=["upsert", "overwrite"])
def test_every_record_of_every_page_is_stored_and_mapped(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = source.registered(db, **fields)
    outcome = execute(db, settings, row)
    assert (outcome.status, outcome.complete, outcome.stop_reason) == ("succeeded", True, "no_cursor")
    assert (outcome.counts.added, outcome.counts.pages, outcome.live_count) == (7, 3, 7)
    assert_exact(db, row, source.records)
    assert_nothing_runs(db)


@pytest.mark.parametrize("fields", [{"unique_key": "id"}, {}], ids=["upsert", "overwrite"])
def test_an_execution_that_finds_nothing_new_writes_no_row(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = source.registered(db, **fields)
    execute(db, settings, row)
    before = _times(db)
    outcome = execute(db, settings, row)
    assert (outcome.counts.unchanged, outcome.changed) == (7, False)
    assert _times(db) == before


def _times(db: Database) -> list[Any]:
    with db.connect() as connection:
        of = schema.raw.c
        raw = connection.execute(sa.select(of.external_id, of.last_modified_at).order_by(of.external_id)).all()
        return [*raw, *connection.execute(sa.select(schema.datasets.c.last_modified_at)).all()]


@pytest.mark.parametrize("fields", [{"unique_key": "id", "track_deletes": True}, {}], ids=["upsert", "overwrite"])
def test_what_changed_came_or_went_is_counted_and_the_rows_are_the_sources(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = source.registered(db, **fields)
    execute(db, settings, row)
    source.records = [*items(2, 3, 4), *items(5, name="changed"), *items(8, 9)]
    counts = execute(db, settings, row).counts
    if fields:
        assert (counts.added, counts.updated, counts.deleted, counts.unchanged) == (2, 1, 3, 3)
    else:
        assert (counts.added, counts.updated, counts.deleted, counts.unchanged) == (3, 0, 4, 3)
    assert_exact(db, row, source.records)


def test_without_track_deletes_what_has_gone_from_the_source_stays(
    db: Database, settings: Settings, source: Source
) -> None:
    row = source.registered(db, unique_key="id")
    execute(db, settings, row)
    source.records = source.records[:2]
    assert execute(db, settings, row).counts.deleted == 0
    assert_exact(db, row, items(*range(1, 8)))


# --- the job ------------------------------------------------------------------------------------------------------


def test_a_job_says_when_and_how_it_ended_and_what_it_did(db: Database, settings: Settings, source: Source) -> None:
    row = source.registered(db, unique_key="id", friendly_name="My items")
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    outcome = execute(db, settings, row, run_id=RUN_ID)
    job = last_job(db, row)
    assert job.id == outcome.job_id
    assert job.ended_at is not None and before < job.started_at <= job.ended_at
    assert (job.status, job.attempt, job.run_id, job.sync_name) == ("succeeded", 1, RUN_ID, "My items")
    assert (job.connection_id, job.variant, job.model) == ("default", "base", "Items")
    assert (job.added, job.fetched, job.pages, job.requests, job.retries) == (7, 7, 3, 3, 0)
    assert (job.updated_row_count, job.stop_reason) == (7, "no_cursor")
    assert (job.error_message, job.error_stack, job.warnings) == (None, None, [])


def test_a_failed_job_carries_the_sentence_the_stack_and_its_attempt(
    db: Database, settings: Settings, source: Source
) -> None:
    row = source.registered(db, unique_key="id")
    source.broken[2] = (400, {}, {"error": "no"})
    for attempt in (1, 2, 3):
        outcome = execute(db, settings, row, run_id=f"run{attempt}")
        job = last_job(db, row)
        assert (outcome.status, job.status, job.attempt, job.run_id) == ("failed", "failed", attempt, f"run{attempt}")
    assert job.error_message == outcome.error
    assert job.error_message is not None and "page=2 answered 400 Bad Request" in job.error_message
    assert job.error_stack is not None and "ApiError" in job.error_stack
    assert (job.ended_at is not None, job.updated_row_count, job.stop_reason, job.pages) == (True, None, None, 1)
    source.broken.clear()
    execute(db, settings, row)
    assert last_job(db, row).attempt == 4
    execute(db, settings, row)
    assert last_job(db, row).attempt == 1
    assert_nothing_runs(db)


def test_an_execution_that_cannot_end_well_at_the_very_end_says_why(
    db: Database, settings: Settings, source: Source
) -> None:
    """Somebody's trigger in the database refuses the closing transaction; the old rows stay."""
    row = source.registered(db)
    execute(db, settings, row)
    _refuse(db, "DELETE", "_nango_sync_1")
    source.records = items(1, 2, 10)
    outcome = execute(db, settings, row)
    job = last_job(db, row)
    assert (outcome.status, job.status, job.added, job.deleted) == ("failed", "failed", 0, 0)
    assert job.error_message is not None and "we keep it as it is" in job.error_message
    assert_exact(db, row, items(*range(1, 8)))
    assert_nothing_runs(db)


def _refuse(db: Database, verb: str, table: str) -> None:
    """A trigger that lets nobody delete from a table, or insert into it."""
    with db.begin() as connection:
        if db.engine.name == "postgresql":
            connection.exec_driver_sql(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'we keep it as it is'; END $$"
            )
            connection.exec_driver_sql(
                f"CREATE TRIGGER keep BEFORE {verb} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        else:
            refuse = "SELECT RAISE(ABORT, 'we keep it as it is');"
            connection.exec_driver_sql(f"CREATE TRIGGER keep BEFORE {verb} ON {table} BEGIN {refuse} END")


def test_a_transform_that_does_not_exist_fails_the_job_with_a_sentence(
    db: Database, settings: Settings, source: Source
) -> None:
    row = source.registered(db, unique_key="id", transform="nowhere:nothing")
    outcome = execute(db, settings, row)
    assert outcome.status == "failed"
    assert outcome.error == "transform: 'nowhere:nothing' cannot be loaded: No module named 'nowhere'."
    assert_nothing_runs(db)


def test_a_transform_whose_module_raises_fails_the_job_with_a_sentence(
    db: Database, settings: Settings, source: Source
) -> None:
    Path("raising_transform.py").write_text("1 / 0\n")
    row = source.registered(db, unique_key="id", transform="raising_transform:clean")
    outcome = execute(db, settings, row)
    assert outcome.status == "failed"
    assert outcome.error == "transform: 'raising_transform:clean' cannot be loaded: division by zero."
    assert_nothing_runs(db)


def test_an_error_holds_no_secret(db: Database, settings: Settings, source: Source) -> None:
    row = source.registered(db, unique_key="id", query_params={"api_key": "s3cr3t"}, headers={"Authorization": "t0k3n"})
    source.broken[1] = (400, {}, "bad key s3cr3t or token t0k3n")
    execute(db, settings, row)
    job = last_job(db, row)
    assert job.error_message is not None and "answered 400" in job.error_message
    assert "s3cr3t" not in f"{job}" and "t0k3n" not in f"{job}"


# --- who may do it ------------------------------------------------------------------------------------------------


def test_a_second_run_is_told_who_is_at_it_and_since_when(db: Database, settings: Settings, source: Source) -> None:
    row = source.registered(db, unique_key="id")
    with runs.claimed(db, settings, row, run_id=RUN_ID) as execution:
        with pytest.raises(Refused) as info:
            execute(db, settings, row)
        assert execution.run().status == "succeeded"
    (schedule,) = queue.schedules(db, [row.id])
    assert schedule.last_started_at is not None
    assert str(info.value).startswith("items: default is being synced by run 0f6e3c1a since ")
    assert str(info.value).endswith("; nothing was done.")
    assert len(jobs.list_jobs(db, row.id)) == 1


def test_of_a_run_that_may_have_died_it_is_said_when_that_is_certain(
    db: Database, settings: Settings, source: Source
) -> None:
    row = source.registered(db, unique_key="id")
    worker = queue.start_worker(db, row.id, "killed")
    queue.claim(db, worker, limit=1, slot=None, force=True)
    with db.begin() as connection:
        connection.execute(sa.update(schema.workers).values(heartbeat_at=db.clock(timedelta(seconds=60))))
    with pytest.raises(Refused) as info:
        execute(db, settings, row)
    said = r"nothing was done\. It was last heard from \d\d seconds ago: 90 seconds, and it is taken for dead\.$"
    assert re.search(said, str(info.value))
    queue.end_worker(db, worker)


def test_a_claim_that_is_never_begun_leaves_no_job_and_is_free_again(
    db: Database, settings: Settings, source: Source
) -> None:
    row = source.registered(db, unique_key="id")
    with runs.claimed(db, settings, row):
        pass
    assert jobs.list_jobs(db, row.id) == []
    assert_nothing_runs(db)
    assert execute(db, settings, row).status == "succeeded"


def test_an_execution_whose_lease_was_lost_before_it_began_does_nothing(
    db: Database, settings: Settings, source: Source
) -> None:
    row = source.registered(db, unique_key="id")
    with runs.claimed(db, settings, row, run_id="first") as execution:
        _take_for_dead(db)
        assert execute(db, settings, row, run_id="second").status == "succeeded"
        requests = len(source.api.requests)
        outcome = execution.run()
    assert (outcome.status, outcome.job_id) == ("lost", 0)
    assert len(source.api.requests) == requests
    assert [job.run_id for job in jobs.list_jobs(db, row.id)] == ["second"]
    assert_nothing_runs(db)


def _take_for_dead(db: Database) -> None:
    """Let everybody's last heartbeat have been long ago."""
    with db.begin() as connection:
        connection.execute(sa.update(schema.workers).values(heartbeat_at=db.clock(timedelta(minutes=5))))


@pytest.mark.parametrize("fields", [{"unique_key": "id", "track_deletes": True}, {}], ids=["upsert", "overwrite"])
def test_an_execution_that_lost_its_lease_on_the_way_writes_nothing(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = source.registered(db, **fields)
    execute(db, settings, row)
    newest = items(*range(3, 12), name="newest")

    def overtaken(request: object) -> Any:
        """While the first run waits for page 3, a second one does it all."""
        old = source.page(3)
        source.broken.clear()
        source.records = newest
        _take_for_dead(db)
        assert execute(db, settings, row, run_id="second").status == "succeeded"
        return old

    source.records = items(*range(1, 8), name="stale")
    source.broken[3] = overtaken
    outcome = execute(db, settings, row, run_id="first")
    assert (outcome.status, outcome.error) == (
        "lost",
        "lease lost: this run was not heard from for 90 seconds and was taken for dead.",
    )
    found = assert_exact(db, row, newest)
    assert not any(record and record["name"] == "stale" for record in found.deleted)
    by_run = {job.run_id: job for job in jobs.list_jobs(db, row.id)}
    assert (by_run["first"].status, by_run["second"].status) == ("failed", "succeeded")
    assert (by_run["first"].error_message or "").startswith("run lost: run first (process ")
    assert by_run["second"].attempt == 2
    assert_nothing_runs(db)


def test_a_sync_that_is_removed_while_it_is_pulled_leaves_nothing_behind(
    db: Database, settings: Settings, source: Source
) -> None:
    from nango_dagster.store import syncs

    row = source.registered(db, unique_key="id")

    def removed(request: object) -> Any:
        assert syncs.delete(db, row.id)
        return (200, {}, source.page(3))

    source.broken[3] = removed
    outcome = execute(db, settings, row)
    assert (outcome.status, outcome.error) == (
        "lost",
        "lease lost: the sync was removed while it was being executed.",
    )
    with db.connect() as connection:
        for table in (schema.raw, schema.datasets, schema.jobs, schema.schedules, schema.workers):
            assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 0, table


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_a_file_whose_write_lock_somebody_keeps_is_a_sentence(
    settings: Settings, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nango_dagster.store.engine.BUSY_TIMEOUT", 0.02)
    db = open_database(settings)
    row = source.registered(db, unique_key="id")
    with db.begin(), pytest.raises(StoreUnavailable) as info:
        execute(db, settings, row)
    assert re.fullmatch(
        r"the database sqlite:///.*nango.db is locked: another process has held its write lock for 0.1 seconds. "
        r"Has that been stopped\?",
        str(info.value),
    )
    assert execute(db, settings, row).status == "succeeded"
    db.close()


# --- stopping -----------------------------------------------------------------------------------------------------


def test_a_cancelled_execution_ends_at_the_next_page_and_keeps_what_it_has(
    db: Database, settings: Settings, source: Source
) -> None:
    row = source.registered(db, unique_key="id", track_deletes=True)

    def cancelled(request: object) -> Any:
        """The API takes its time over page 2, and somebody cancels."""
        assert queue.cancel(db, row.id) == 1
        until(lambda: not queue.is_cancelled(db, claim), what="the claim is given back")
        return source.page(2)

    source.broken[2] = cancelled
    with runs.claimed(db, settings, row) as execution:
        claim = execution.claim
        outcome = execution.run()
    assert (outcome.status, outcome.complete) == ("cancelled", False)
    job = last_job(db, row)
    assert (job.status, job.added, job.ended_at is not None) == ("cancelled", 3, True)
    assert_exact(db, row, items(1, 2, 3))
    assert_nothing_runs(db)
    source.broken.clear()
    execute(db, settings, row)
    assert (last_job(db, row).attempt, stored(db, row).live_count) == (1, 7)


@pytest.mark.parametrize("fields", [{"unique_key": "id"}, {}], ids=["upsert", "overwrite"])
@pytest.mark.parametrize("page", [1, 3])
def test_an_interrupt_ends_the_job_as_cancelled_and_goes_on_its_way(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any], page: int
) -> None:
    row = source.registered(db, **fields)

    def interrupt(progress: runs.Progress) -> None:
        if progress.pages == page:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with runs.claimed(db, settings, row) as execution:
            execution.run(interrupt)
    job = last_job(db, row)
    kept = "the pages that were read before" if fields else "the rows that there were"
    said = f"the run was ended from outside, as by Terminate or Ctrl-C; {kept} are kept."
    assert (job.status, job.error_message) == ("cancelled", said)
    assert_nothing_runs(db)
    execute(db, settings, row)
    assert_exact(db, row, source.records)


def test_max_duration_ends_an_execution_and_keeps_the_pages_so_far(
    db: Database, settings: Settings, source: Source
) -> None:
    row = source.registered(db, unique_key="id", track_deletes=True, max_duration=0.05)
    source.broken[2] = lambda request: (threading.Event().wait(0.1), source.page(2))[1]
    outcome = execute(db, settings, row)
    assert outcome.status == "failed"
    assert outcome.error == "items: stopped after max_duration (0.05 s); the pages so far are kept."
    assert stored(db, row).live_count in (3, 6)


# --- ends that do not prove that all was seen -----------------------------------------------------------------------


@pytest.mark.parametrize("limit", [{"max_pages": 2}, {"max_total": 5}])
def test_a_limited_upsert_deletes_nothing(
    db: Database, settings: Settings, source: Source, limit: dict[str, int]
) -> None:
    row = source.registered(db, unique_key="id", track_deletes=True)
    execute(db, settings, row)
    row = source.registered(db, unique_key="id", track_deletes=True, **limit)
    outcome = execute(db, settings, row)
    assert (outcome.status, outcome.complete, outcome.stop_reason) == ("succeeded", False, next(iter(limit)))
    assert_exact(db, row, source.records)


def test_max_total_bounds_what_an_overwrite_keeps(db: Database, settings: Settings, source: Source) -> None:
    row = source.registered(db, max_total=4)
    assert execute(db, settings, row).complete
    assert_exact(db, row, items(1, 2, 3, 4))


def test_an_overwrite_that_max_pages_ends_fails_and_keeps_the_old_rows(
    db: Database, settings: Settings, source: Source
) -> None:
    row = source.registered(db)
    execute(db, settings, row)
    source.records = items(*range(20, 30))
    row = source.registered(db, max_pages=2)
    outcome = execute(db, settings, row)
    assert (outcome.status, outcome.stop_reason) == ("failed", "max_pages")
    assert outcome.error == (
        "items: the list was not read to its end (max_pages), and without a unique_key only a whole list can replace "
        "the rows there are; they were kept."
    )
    assert_exact(db, row, items(*range(1, 8)))


@pytest.mark.parametrize("fields", [{"unique_key": "id", "track_deletes": True}, {}], ids=["upsert", "overwrite"])
def test_an_empty_page_of_a_list_that_says_it_has_more_deletes_nothing(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    fields = {**fields, "paging_has_more_response_path": "next"}
    row = source.registered(db, **fields)
    execute(db, settings, row)
    source.broken[2] = {"results": [], "next": 2}
    outcome = execute(db, settings, row)
    assert (outcome.complete, outcome.stop_reason, outcome.counts.deleted) == (False, "more_left", 0)
    assert outcome.status == ("succeeded" if "unique_key" in fields else "failed")
    assert_exact(db, row, source.records)


# --- wishes -------------------------------------------------------------------------------------------------------


def test_mass_deletion_is_refused_until_somebody_accepts_it(db: Database, settings: Settings, api: FakeApi) -> None:
    source = Source(api, items(*range(30)), size=10)
    row = source.registered(db, unique_key="id", track_deletes=True)
    execute(db, settings, row)
    source.records = items(1, 2)
    outcome = execute(db, settings, row)
    assert (outcome.status, outcome.counts.deleted) == ("failed", 0)
    assert "28 of 30 records are gone from the source" in (outcome.error or "")
    assert_exact(db, row, items(*range(30)))
    outcome = execute(db, settings, row, wishes=Wishes(accept_deletes=True))
    assert (outcome.status, outcome.counts.deleted) == ("succeeded", 28)
    assert_exact(db, row, items(1, 2))


@pytest.mark.parametrize("fields", [{"unique_key": "id"}, {}], ids=["upsert", "overwrite"])
def test_an_emptied_cache_is_filled_again_with_what_is_there_now(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = source.registered(db, **fields)
    execute(db, settings, row)
    source.records = items(6, 7, 8)
    outcome = execute(db, settings, row, wishes=Wishes(reset=True, empty_cache=True))
    assert (outcome.status, outcome.counts.added) == ("succeeded", 3)
    assert_exact(db, row, source.records)


# --- the mapped table follows ---------------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("fields", [{"unique_key": "id"}, {}], ids=["upsert", "overwrite"])


@BOTH
def test_a_new_field_on_a_later_page_becomes_a_column(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    source.records[6] = {"id": 7, "name": "item 7", "owner": {"mail": "a@b.c"}, "tags": ["x", "y"]}
    row = source.registered(db, **fields)
    outcome = execute(db, settings, row)
    assert set(outcome.new_columns) == {"id", "name", "owner_mail", "tags_0", "tags_1"}
    assert_exact(db, row, source.records)


@BOTH
def test_a_value_of_another_type_is_null_in_its_column_and_kept_in_raw(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = source.registered(db, **fields)
    execute(db, settings, row)
    source.records[4] = {"id": 5, "name": 5}
    outcome = execute(db, settings, row)
    assert (outcome.status, outcome.misfits, outcome.warnings) == (
        "succeeded",
        {"name": 1},
        ("1 value did not fit column name.",),
    )
    found = stored(db, row)
    assert {"id": 5, "name": 5} in found.live
    assert {"id": 5} in found.mapped and len(found.mapped) == 7


@BOTH
def test_mapping_that_is_switched_on_later_maps_what_is_there(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = source.registered(db, auto_mapping=False, **fields)
    assert execute(db, settings, row).table is None
    row = source.registered(db, **fields)
    outcome = execute(db, settings, row)
    assert (outcome.counts.unchanged, outcome.changed, outcome.table) == (7, False, "_nango_sync_1")
    assert_exact(db, row, source.records)


@BOTH
def test_mapping_that_is_switched_off_and_on_again_follows_the_records(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    execute(db, settings, source.registered(db, mapped_table="one", **fields))
    source.records = items(*range(1, 6), name="changed")
    execute(db, settings, source.registered(db, mapped_table="one", auto_mapping=False, **fields))
    row = source.registered(db, mapped_table="two", **fields)
    execute(db, settings, row)
    assert_exact(db, row, source.records if not fields else [*source.records, *items(6, 7)])
    assert _count(db, "one") == 0, "no stale row stays behind in a table that nobody writes any more"


def _count(db: Database, table: str) -> int:
    with db.connect() as connection:
        found: int = connection.exec_driver_sql(f'SELECT count(*) FROM "{table}"').scalar_one()
        return found


@BOTH
def test_another_mapped_table_gets_all_rows_and_the_old_one_keeps_none(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    execute(db, settings, source.registered(db, mapped_table="one", **fields))
    row = source.registered(db, mapped_table="two", **fields)
    outcome = execute(db, settings, row)
    assert (outcome.table, outcome.changed) == ("two", False)
    assert_exact(db, row, source.records)
    assert _count(db, "one") == 0


@BOTH
def test_changed_metadata_stands_in_every_row_after_one_execution(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    execute(db, settings, source.registered(db, metadata={"team": "red"}, **fields))
    row = source.registered(db, metadata={"team": "blue", "region": "eu"}, **fields)
    assert not execute(db, settings, row).changed
    assert_exact(db, row, source.records, team="blue", region="eu")


@BOTH
def test_a_table_that_somebody_dropped_is_there_again_after_one_execution(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = source.registered(db, mapped_table="one", **fields)
    execute(db, settings, row)
    for statement in ('DROP TABLE "one"', None, 'ALTER TABLE "one" DROP COLUMN name'):
        if statement:
            with db.begin() as connection:
                connection.exec_driver_sql(statement)
        assert not execute(db, settings, row).changed
        assert_exact(db, row, source.records)


@BOTH
def test_deleted_rows_stay_deleted_when_a_table_is_mapped_again(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    fields = {**fields, "track_deletes": True} if fields else {}
    execute(db, settings, source.registered(db, **fields))
    source.records = source.records[2:]
    execute(db, settings, source.registered(db, **fields))
    row = source.registered(db, metadata={"a": 1}, **fields)
    execute(db, settings, row)
    found = assert_exact(db, row, source.records, a=1)
    assert len(found.deleted) == 2
    assert len(found.mapped_deleted) == (2 if fields else 0)


@BOTH
def test_a_rebuild_that_fails_on_its_way_is_done_again_also_when_the_config_goes_back(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    for table in ("two", "one"):
        row = source.registered(db, mapped_table=table, **fields)
        execute(db, settings, row)
    _refuse(db, "INSERT", "two")
    outcome = execute(db, settings, source.registered(db, mapped_table="two", **fields))
    assert outcome.status == "failed" and "we keep it as it is" in (outcome.error or "")
    outcome = execute(db, settings, row)
    assert (outcome.status, outcome.changed) == ("succeeded", False)
    assert_exact(db, row, source.records)


@BOTH
def test_a_mapped_table_that_is_somebody_elses_is_left_alone(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = source.registered(db, mapped_table="one", **fields)
    execute(db, settings, row)
    with db.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE theirs (id int)")
    outcome = execute(db, settings, source.registered(db, mapped_table="theirs", **fields))
    assert outcome.status == "failed"
    assert "mapped_table is 'theirs', a table that exists already" in (outcome.error or "")
    assert execute(db, settings, source.registered(db, mapped_table="one", **fields)).status == "succeeded"
    assert_exact(db, row, source.records)


def test_two_syncs_may_share_a_table(db: Database, settings: Settings, api: FakeApi, source: Source) -> None:
    other = Source(api, items(1, 2, 99, colour="red"), path="/others")
    one = source.registered(db, unique_key="id", mapped_table="shared")
    two = other.registered(db, name="others", unique_key="id", mapped_table="shared")
    for row in (one, two, one):
        assert execute(db, settings, row).status == "succeeded"
    assert_exact(db, one, source.records)
    assert_exact(db, two, other.records)


def test_config_errors_are_no_outcome_of_a_claim(db: Database, settings: Settings, source: Source) -> None:
    with pytest.raises(ConfigError):
        runs.load_function("json:nothing")


# --- what must not be lost --------------------------------------------------------------------------------------------

SINCE = {"query_params": {"since": "${last_sync_date}"}}


def test_what_was_emptied_is_asked_for_again_until_it_was_read_as_a_whole(
    db: Database, settings: Settings, source: Source
) -> None:
    """Not only what is new since a success before it was emptied."""
    row = source.registered(db, unique_key="id", **SINCE)
    assert execute(db, settings, row).status == "succeeded"
    source.broken[1] = (500, {}, {"error": "down"})
    assert execute(db, settings, row, wishes=Wishes(empty_cache=True)).status == "failed"
    del source.broken[1]
    source.broken[2] = (500, {}, {"error": "down"})
    assert execute(db, settings, row).status == "failed"
    del source.broken[2]
    assert execute(db, settings, row).status == "succeeded"
    assert_exact(db, row, source.records)
    assert execute(db, settings, row).status == "succeeded"
    first_pages = [request.params["since"][:4] for request in source.api.requests if "page" not in request.params]
    assert first_pages == ["1970", "1970", "1970", "1970", str(datetime.now(timezone.utc).year)]


def test_a_sync_that_gets_a_key_and_a_date_at_once_reads_the_whole_list_first(
    db: Database, settings: Settings, source: Source
) -> None:
    assert execute(db, settings, source.registered(db)).status == "succeeded"
    row = source.registered(db, unique_key="id", **SINCE)
    assert execute(db, settings, row).status == "succeeded"
    assert source.api.requests[-1].params["since"].startswith("1970")
    assert_exact(db, row, source.records)


def test_what_an_api_keeps_back_is_asked_for_again(db: Database, settings: Settings, source: Source) -> None:
    """It says that there is more, but not how to get it: the date of that success is not the one to go on from."""
    row = source.registered(db, unique_key="id", paging_has_more_response_path="more", **SINCE)
    source.broken[1] = {"results": source.records[:2], "more": True}
    first = execute(db, settings, row)
    assert (first.status, first.complete, first.stop_reason) == ("succeeded", False, "more_left")
    assert execute(db, settings, row).status == "succeeded"
    assert [request.params["since"][:4] for request in source.api.requests] == ["1970", "1970"]


def test_two_syncs_do_not_store_the_same_model(db: Database, settings: Settings, source: Source, api: FakeApi) -> None:
    row = source.registered(db, model="Item")
    assert execute(db, settings, row).status == "succeeded"
    mine = source.sync(name="others", model="Item", url=f"{api.url}/others")
    api.route("/others", {"results": [{"id": 7}], "next": None})
    other = syncs.register(db, [row.sync, mine])["others"]
    refused = execute(db, settings, other)
    assert refused.status == "failed"
    assert refused.error == (
        "others: the model Item of default is stored by the sync items; give one of them another model. If that is "
        "this sync's old name: nango-dagster remove items, and its records are read again."
    )
    assert_exact(db, row, source.records)


@pytest.mark.parametrize("fields", [{}, {"unique_key": "id", **SINCE}])
def test_a_list_of_which_no_record_can_be_stored_is_a_failure_and_deletes_nothing(
    fields: dict[str, Any], db: Database, settings: Settings, source: Source
) -> None:
    row = source.registered(db, **fields)
    assert execute(db, settings, row).status == "succeeded"
    source.broken[1] = (200, {}, b'{"results": [{"id": 1, "n": NaN}, {"id": 2, "n": NaN}], "next": null}')
    failed = execute(db, settings, row)
    assert failed.status == "failed"
    assert str(failed.error).startswith("items: no record of 2 could be stored: record 0 of page 1: NaN")
    assert_exact(db, row, source.records)


@BOTH
def test_a_value_that_does_not_fit_stays_a_warning_of_the_check_while_it_is_true(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    row = source.registered(db, **fields)
    execute(db, settings, row)
    source.records[4] = {"id": 5, "name": 5}
    execute(db, settings, row)
    unchanged = execute(db, settings, row)
    assert unchanged.counts.updated + unchanged.counts.added == 0
    check = checks.evaluate(AssetKey("items"), unchanged)
    assert not check.passed and check.description is not None
    assert "did not fit column name" in check.description


# --- a paging path that is written wrong ------------------------------------------------------------------------------


@BOTH
def test_a_list_whose_paging_path_is_wrong_is_a_warning_and_deletes_nothing(
    db: Database, settings: Settings, source: Source, fields: dict[str, Any]
) -> None:
    wrong = {"paging_cursor_metadata_response_path": "nxt", "paging_limit": 3, "paging_limit_request_path": "limit"}
    right = source.registered(db, **fields)
    execute(db, settings, right)
    row = source.registered(db, **fields, **wrong)
    source.records = source.records[1:]
    outcome = execute(db, settings, row)
    assert (outcome.status, outcome.counts.deleted, outcome.stop_reason) == (
        "succeeded" if fields else "failed", 0, "paging_not_found",
    )  # fmt: skip
    (warning,) = last_job(db, row).warnings
    assert warning.startswith("the list may have more pages, so nothing was deleted: ") and '"nxt"' in warning
    assert stored(db, row).live_count == 7


def test_an_execution_with_a_wrong_paging_path_does_not_move_the_last_sync_date(
    db: Database, settings: Settings, source: Source
) -> None:
    wrong = {"paging_cursor_metadata_response_path": "nxt", "paging_limit": 3, "paging_limit_request_path": "limit"}
    row = source.registered(db, unique_key="id", **wrong, **SINCE)
    assert [execute(db, settings, row).checkpoint for _ in range(2)] == [None, None]
    assert {request.params["since"] for request in source.api.requests} == {"1970-01-01T00:00:00Z"}
