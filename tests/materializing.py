"""Helpers of tests of Dagster: the definitions of a test's syncs, and the events of their runs."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg

from nango_dagster.config import Sync
from nango_dagster.defs import NangoResource, build_definitions, names, shared
from nango_dagster.settings import Settings
from tests.processes import DAGSTER, Command


class Project:
    """The definitions of some syncs, perhaps merged with somebody's own, on a Dagster instance that is new."""

    def __init__(
        self, settings: Settings, *syncs: Sync, own: dg.Definitions | None = None, home: Path | None = None
    ) -> None:
        self.syncs = syncs
        if home and not (home / "history").exists():
            shutil.copytree(_new_home(), home, dirs_exist_ok=True)
        # One in memory knows no schedules and sensors.
        self.instance = dg.DagsterInstance.local_temp(str(home)) if home else dg.DagsterInstance.ephemeral()
        shared.forget()  # each project is a code location of its own
        ours = build_definitions(list(syncs), settings)
        self.defs = dg.Definitions.merge(ours, own) if own else ours
        self.nango: NangoResource = (ours.resources or {})[names.RESOURCE]

    def __enter__(self) -> Project:
        return self

    def __exit__(self, *_: object) -> None:
        self.nango.close()
        self.instance.dispose()

    def run(self, job: str, *, tags: Mapping[str, str] | None = None) -> dg.ExecuteInProcessResult:
        """One run of a job, to its end."""
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance, tags=dict(tags or {}), raise_on_error=False
        )

    def sync(self, sync: Sync | None = None, **tags: str) -> dg.ExecuteInProcessResult:
        """One run of a sync's own job."""
        return self.run(
            names.job_name(sync or self.syncs[0]), tags={f"nango/{tag}": value for tag, value in tags.items()}
        )

    def materialize(self, *keys: str, partition: str | None = None) -> dg.ExecuteInProcessResult:
        """One run for assets that somebody chose in the UI."""
        return self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(key.split("/")) for key in keys],
            partition_key=partition,
            raise_on_error=False,
        )

    def scheduled(self, sync: Sync) -> dg.ExecuteInProcessResult:
        """One run as the sync's schedule asks for it."""
        return self.run(names.job_name(sync), tags={"dagster/schedule_name": names.schedule_name(sync)})

    def metadata(self, key: str) -> dict[str, Any]:
        """The metadata of an asset's last materialization, as plain values."""
        return {name: value.value for name, value in self.materialization(key).metadata.items()}

    def materialization(self, key: str) -> dg.AssetMaterialization:
        event = self.instance.get_latest_materialization_event(dg.AssetKey(key.split("/")))
        assert event is not None and event.asset_materialization is not None, f"{key} was never materialized"
        return event.asset_materialization

    def check(self, result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
        """The one check that a run evaluated."""
        (evaluation,) = result.get_asset_check_evaluations()
        return evaluation


@cache
def _new_home() -> Path:
    """The folder of a Dagster instance that nobody has used; to create its tables takes longer than many a run."""
    folder = Path(tempfile.mkdtemp(prefix="dagster-home-"))
    atexit.register(shutil.rmtree, folder)
    dg.DagsterInstance.local_temp(str(folder)).dispose()
    return folder


def sentence(result: dg.ExecuteInProcessResult) -> str:
    """Why a run failed, as its one failed step says."""
    (event,) = (event for event in result.all_events if event.is_step_failure)
    failure = event.step_failure_data.user_failure_data
    assert failure is not None and failure.description is not None, event.step_failure_data.error
    return failure.description


def kinds(result: dg.ExecuteInProcessResult) -> list[str]:
    """The types of a run's events."""
    return [event.event_type_value for event in result.all_events]


def tick(project: Project, sync: Sync, at: datetime | None = None) -> dg.RunRequest | str:
    """The decision of the sync's schedule: a run, or the reason why there is none."""
    decided = ticks(project, sync, at)
    return decided[0] if isinstance(decided, list) else decided


def ticks(project: Project, sync: Sync, at: datetime | None = None) -> list[dg.RunRequest] | str:
    """The same where it may ask for several runs."""
    schedule = project.defs.resolve_schedule_def(names.schedule_name(sync))
    assert isinstance(schedule, dg.ScheduleDefinition)
    with dg.build_schedule_context(
        instance=project.instance,
        scheduled_execution_time=at or datetime.now(timezone.utc),
        resources={names.RESOURCE: project.nango},
    ) as context:
        decided = schedule.evaluate_tick(context)
    return list(decided.run_requests or ()) or decided.skip_message or ""


def look(project: Project) -> dg.RunRequest | str:
    """The decision of the dispatcher."""
    sensor = project.defs.resolve_sensor_def(names.DISPATCHER)
    with dg.build_sensor_context(instance=project.instance, resources={names.RESOURCE: project.nango}) as context:
        decided = sensor.evaluate_tick(context)
    return decided.run_requests[0] if decided.run_requests else decided.skip_message or ""


MakeProject = Callable[..., Project]


@contextlib.contextmanager
def making_projects(settings: Settings, **always: Any) -> Iterator[MakeProject]:
    """A function that makes Projects, which are closed in the end."""
    with contextlib.ExitStack() as stack:
        yield lambda *syncs, **more: stack.enter_context(
            Project(more.pop("settings", settings), *syncs, **always, **more)
        )


def repository_origin() -> Any:
    """The origin that Dagster assumes for our definitions; a webserver would make it, by these private names."""
    from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    location = ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name="nango_dagster.definitions"))
    return RemoteRepositoryOrigin(location, "__repository__")


def dagster_process(arguments: list[str], folder: Path, env: dict[str, str]) -> Command:
    """Dagster, in a process of its own, as a run worker is."""
    home = folder / "dagster"
    home.mkdir(exist_ok=True)
    return Command(DAGSTER.load(), arguments, folder, {**os.environ, **env, "DAGSTER_HOME": str(home)})
