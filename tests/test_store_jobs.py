"""A job tells what one execution did, and the next one's attempt counts on from it."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from nango_dagster.config import Sync
from nango_dagster.store import Database, jobs, queue, schema, syncs
from nango_dagster.store.jobs import Counts, Job
from nango_dagster.store.queue import Claim
from nango_dagster.store.sync_row import SyncRow


@pytest.fixture
def row(db: Database) -> SyncRow:
    return registered(db, "items")


def registered(db: Database, name: str) -> SyncRow:
    return syncs.register(db, [Sync(name=name, url="https://api.example.com", friendly_name="My items")])[name]


def begin(db: Database, row: SyncRow, run_id: str = "run1") -> tuple[Claim, int]:
    worker = queue.start_worker(db, row.id, run_id)
    (claim,) = queue.claim(db, worker, limit=1, slot=None, force=True)
    with db.begin() as connection:
        queue.begin_execution(connection, db, claim)
        return claim, jobs.start(connection, db, claim, row, run_id)


def end(db: Database, claim: Claim, job_id: int, status: str = "succeeded", counts: Counts | None = None) -> None:
    with db.begin() as connection:
        jobs.finish(
            connection, db, job_id, counts or Counts(), jobs.End(status, error=None if status == "succeeded" else "No.")
        )
        succeeded = None if status == "cancelled" else status == "succeeded"
        queue.release(connection, db, claim, succeeded=succeeded)


def execute(db: Database, row: SyncRow, status: str = "succeeded") -> int:
    claim, job_id = begin(db, row)
    end(db, claim, job_id, status)
    return job_id


def only_job(db: Database) -> Job:
    (job,) = jobs.list_jobs(db)
    return job


def test_a_job_that_runs_has_a_start_and_no_end(db: Database, row: SyncRow) -> None:
    _, job_id = begin(db, row)
    job = only_job(db)
    assert (job.id, job.sync_id, job.sync_name, job.model) == (job_id, row.id, "My items", "Items")
    assert (job.connection_id, job.variant, job.run_id) == ("default", "base", "run1")
    assert (job.status, job.attempt, job.ended_at, job.updated_row_count) == ("running", 1, None, None)
    assert (job.error_message, job.warnings) == (None, [])


def test_a_job_that_succeeded_tells_its_counts_and_the_rows_it_updated(db: Database, row: SyncRow) -> None:
    claim, job_id = begin(db, row)
    counts = Counts(added=1, updated=2, deleted=4, unchanged=8, rejected=16, fetched=31, pages=3, requests=5, retries=2)
    with db.begin() as connection:
        jobs.finish(connection, db, job_id, counts, jobs.End("succeeded", "no_cursor", ["a warning", "ünother"]))
    job = only_job(db)
    assert job.status == "succeeded"
    assert job.updated_row_count == 7
    assert {name: getattr(job, name) for name in Counts.__dataclass_fields__} == vars(counts)
    assert (job.stop_reason, job.warnings) == ("no_cursor", ["a warning", "ünother"])
    assert job.ended_at is not None
    assert job.started_at <= job.ended_at
    assert claim.fence == 1


def test_a_job_that_failed_tells_why_and_no_updated_rows(db: Database, row: SyncRow) -> None:
    _, job_id = begin(db, row)
    with db.begin() as connection:
        jobs.finish(
            connection, db, job_id, Counts(added=3), jobs.End("failed", error="The API said no.", stack="Traceback: …")
        )
    job = only_job(db)
    assert (job.status, job.added, job.updated_row_count) == ("failed", 3, None)
    assert (job.error_message, job.error_stack) == ("The API said no.", "Traceback: …")


def test_an_error_with_characters_that_a_database_refuses_is_kept(db: Database, row: SyncRow) -> None:
    _, job_id = begin(db, row)
    with db.begin() as connection:
        jobs.finish(
            connection,
            db,
            job_id,
            Counts(),
            jobs.End("failed", error="half \ud83d and \0 said", warnings=["\0 \ud83d"]),
        )
    job = only_job(db)
    assert job.error_message == r"half \ud83d and \x00 said"
    assert job.warnings == ["\0 \ud83d"]


def test_progress_is_seen_while_the_job_runs(db: Database, row: SyncRow) -> None:
    _, job_id = begin(db, row)
    with db.begin() as connection:
        jobs.progress(connection, job_id, Counts(added=5, pages=1))
    job = only_job(db)
    assert (job.status, job.added, job.pages) == ("running", 5, 1)


def test_the_attempt_counts_the_failures_before_it(db: Database, row: SyncRow) -> None:
    for status in ("failed", "failed", "cancelled", "failed", "succeeded", "succeeded"):
        execute(db, row, status)
    assert [job.attempt for job in reversed(jobs.list_jobs(db))] == [1, 2, 3, 3, 4, 1]


def test_jobs_are_listed_newest_first_and_can_be_chosen(db: Database, row: SyncRow) -> None:
    other = registered(db, "other")
    ids = [execute(db, one) for one in (row, other, row)]
    assert [job.id for job in jobs.list_jobs(db)] == ids[::-1]
    assert [job.id for job in jobs.list_jobs(db, limit=2)] == ids[:0:-1]
    assert [job.id for job in jobs.list_jobs(db, row.id)] == [ids[2], ids[0]]
    assert [job.id for job in jobs.list_jobs(db, other.id, connection_id="default", variant="base")] == [ids[1]]
    assert jobs.list_jobs(db, row.id, connection_id="ann") == []


def test_the_latest_job_of_each_schedule_is_known(db: Database, row: SyncRow) -> None:
    other, idle = registered(db, "other"), registered(db, "idle")
    execute(db, row)
    last = execute(db, row, "failed")
    last_of_other = execute(db, other)
    assert {key: job.id for key, job in jobs.latest(db).items()} == {
        (row.id, "default", "base"): last,
        (other.id, "default", "base"): last_of_other,
    }
    assert [job.id for job in jobs.latest(db, [other.id, idle.id]).values()] == [last_of_other]
    assert jobs.latest(db, []) == {}


def test_old_jobs_are_purged_but_the_last_of_each_schedule_stays(db: Database, row: SyncRow) -> None:
    other = registered(db, "other")
    first, second, of_other = execute(db, row), execute(db, row), execute(db, other)
    recent = execute(db, other)
    _age(db, [first, second, of_other, recent], timedelta(days=40))
    begin(db, other)
    _age(db, [recent], timedelta(days=30))
    assert jobs.purge(db, timedelta(days=31)) == 2
    assert [job.id for job in jobs.list_jobs(db)][1:] == [recent, second]
    assert jobs.purge(db, timedelta(days=31)) == 0


def test_what_a_sync_that_fails_for_long_goes_on_from_is_not_purged(db: Database, row: SyncRow) -> None:
    other = registered(db, "other")
    first, whole = execute(db, row), execute(db, row)
    cut_before, cut = execute(db, row), execute(db, row)
    failed = [execute(db, row, "failed") for _ in range(3)]
    of_other = [execute(db, other), execute(db, other)]
    old = [first, whole, cut_before, cut, *failed, *of_other]
    _age(db, old, timedelta(days=40))
    with db.begin() as connection:
        cut_short = sa.update(schema.jobs).where(schema.jobs.c.id.in_([cut_before, cut]))
        connection.execute(cut_short.values(stop_reason="max_total"))
    assert jobs.purge(db, timedelta(days=31)) == 5
    assert [job.id for job in jobs.list_jobs(db)] == [of_other[1], failed[-1], cut, whole]


def _age(db: Database, ids: list[int], by: timedelta) -> None:
    with db.begin() as connection:
        of = schema.jobs.c
        connection.execute(
            sa.update(schema.jobs).where(of.id.in_(ids)).values(started_at=db.clock(by), ended_at=db.clock(by))
        )
