"""Dagster's storage stays bounded: our old runs go with their events, what the UI shows of an asset stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from nango_dagster import clock
from nango_dagster.defs import names
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections
from tests.executions import Source, items
from tests.fake_api import FakeApi
from tests.materializing import Project

LATER = timedelta(days=15)


@dg.op
def nothing() -> None:
    """An operation of somebody else."""


@dg.job
def somebody_elses() -> None:
    """A job that has nothing to do with syncs."""
    nothing()


@pytest.fixture
def project(settings: Settings, api: FakeApi, tmp_path: Path) -> Iterator[Project]:
    source = Source(api, items(1, 2))
    whole, parts = (
        source.sync(unique_key="id"),
        source.sync(name="parts", integration="crm", query_params={"who": "${connection_id}"}),
    )
    own = dg.Definitions(jobs=[somebody_elses])
    with Project(settings, whole, parts, own=own, home=tmp_path / "dagster") as project:
        yield project


def retain(project: Project, after: timedelta = LATER) -> str:
    """Run the retention job after this time; the run's id."""
    with clock.moved(after):
        result = project.run(names.RETENTION_JOB)
    assert result.success
    return result.run_id


def run_ids(project: Project) -> set[str]:
    return {run.run_id for run in project.instance.get_runs()}


def test_our_old_runs_go_with_their_events_and_the_last_materialization_stays(project: Project) -> None:
    first, last = project.sync().run_id, project.sync().run_id
    control = project.run(names.RETENTION_JOB).run_id
    other = project.run("somebody_elses").run_id
    now = retain(project)
    assert run_ids(project) == {last, other, now}
    assert not project.instance.all_logs(first) and not project.instance.all_logs(control)
    assert project.metadata("items")


def test_nothing_on_the_disk_is_left_of_a_run_that_went(project: Project, tmp_path: Path) -> None:
    """On SQLite, Dagster keeps the events of each run in a file of its own, which no other run uses again."""
    runs = [project.sync().run_id for _ in range(3)]
    assert all(files_of(run_id, tmp_path) for run_id in runs)
    retain(project)
    assert [bool(files_of(run_id, tmp_path)) for run_id in runs] == [False, False, True]
    assert project.sync().success  # the storage works on


def files_of(run_id: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if run_id in path.name]


def test_a_run_with_the_last_materialization_of_a_partition_stays(project: Project, db: Database) -> None:
    sync = project.syncs[1]
    for name in ("a", "b"):
        connections.add(db, None, connections.NewConnection("crm", name))
    project.instance.add_dynamic_partitions(names.partitions_name(names.asset_key(sync)), ["a", "b"])
    of_a, of_b, again = (project.materialize("crm/parts", partition=name).run_id for name in ("a", "b", "a"))
    for run_id in (of_a, of_b, again):
        project.instance.add_run_tags(run_id, {names.RUN_TAG: "crm/parts"})
    now = retain(project)
    assert run_ids(project) == {of_b, again, now}
    assert project.instance.get_materialized_partitions(names.asset_key(sync)) == {"a", "b"}


def test_runs_that_are_not_old_enough_stay(project: Project) -> None:
    runs = {project.sync().run_id, project.sync().run_id, project.run(names.RETENTION_JOB).run_id}
    now = retain(project, timedelta(days=13))
    assert run_ids(project) == {*runs, now}


def test_runs_stay_for_ever_where_the_settings_say_so(settings: Settings, api: FakeApi, tmp_path: Path) -> None:
    sync = Source(api, items(1)).sync(unique_key="id")
    with Project(replace(settings, delete_runs_after_days=0), sync, home=tmp_path / "dagster") as project:
        runs = {project.sync().run_id, project.sync().run_id}
        now = retain(project, timedelta(days=400))
        assert run_ids(project) == {*runs, now}
