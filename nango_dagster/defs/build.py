"""Dagster definitions of a project's syncs, to be served alone or merged into another project."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster import AssetKey, AssetsDefinition, DagsterError, Definitions, JobDefinition, ScheduleDefinition

from .. import posted
from ..config import Sync, read_dir
from ..errors import ConfigError
from ..settings import Settings
from . import control, logs, names, not_loaded, retention
from .assets import build_asset, build_job, build_source
from .control import build_control_job
from .dispatch import OP, Dispatcher, build_dispatch_job, build_sensor
from .io_manager import NangoIOManager
from .not_loaded import NotLoaded, build_notices
from .resource import NangoResource
from .retention import build_retention_job, build_retention_schedule
from .schedules import build_schedule
from .webhooks import build_webhook_sensor

log = logging.getLogger(__name__)


def build_definitions(
    configs: str | Path | Sequence[Sync] | None = None, settings: Settings | None = None
) -> Definitions:
    """An asset, a job, a schedule and a check for every sync, with the IO manager and the resource that they need.

    `configs` is a folder (default: the folder of the settings, and the posted syncs) or syncs that were made in Python.
    The definitions have no executor, so that they merge with those of any project.

    An invalid config is logged with file and line, and shown in the UI as an asset of the group `not_loaded`; the other
    syncs are loaded. `dagster definitions validate` and `dg check defs` fail: there ConfigError is raised.

    >>> from nango_dagster.config import Sync
    >>> definitions = build_definitions([Sync(name="pokemon", url="https://pokeapi.co/api/v2/pokemon")])
    >>> [job.name for job in definitions.jobs]
    ['pokemon_job', 'nango_dispatch', 'nango_control', 'nango_retention']
    """
    settings = settings or Settings.from_env()
    logs.follow(settings)
    problems: list[NotLoaded] = []
    written, received = _syncs(configs, settings, problems)
    nango = NangoResource(settings, posted=received)
    kind = "sqlite" if settings.db_url.startswith("sqlite") else "postgresql"
    enabled = [sync for sync in [*written, *received] if sync.enabled]
    parts = _distinct([part for sync in enabled if (part := _parts(sync, kind, problems))], problems)
    for problem in problems:
        log.error("%s", problem.error)
    not_loaded.refuse(problems)
    dispatcher = Dispatcher([part.sync for part in parts])
    return Definitions(
        assets=[*(asset for part in parts for asset in (part.asset, part.source)), *build_notices(problems)],
        jobs=[*(part.job for part in parts), *_system_jobs(dispatcher, [names.asset_key(part.sync) for part in parts])],
        sensors=[build_sensor(dispatcher), build_webhook_sensor()],
        schedules=[*(part.schedule for part in parts), build_retention_schedule()],
        resources={names.RESOURCE: nango, names.IO_MANAGER: NangoIOManager(nango)},
    )


def _system_jobs(dispatcher: Dispatcher, assets: Sequence[AssetKey]) -> list[JobDefinition]:
    return [build_dispatch_job(dispatcher), build_control_job(dispatcher), build_retention_job(assets)]


@dataclass(frozen=True)
class _Parts:
    """The definitions of one sync."""

    sync: Sync
    asset: AssetsDefinition
    source: AssetsDefinition
    job: JobDefinition | Any
    schedule: ScheduleDefinition

    @property
    def taken(self) -> list[str]:
        """The names in Dagster that no other sync may have."""
        keys = (names.asset_key(self.sync), names.source_key(self.sync))
        return [names.python_name(self.sync), *(key.to_user_string() for key in keys)]


def _parts(sync: Sync, kind: str, problems: list[NotLoaded]) -> _Parts | None:
    try:
        return _Parts(sync, build_asset(sync, kind), build_source(sync), build_job(sync), build_schedule(sync))
    except DagsterError as refused:
        reason = str(refused).partition("\n")[0]
        error = f"sync {sync.name} is not loaded, because Dagster refuses it: {reason} Choose another name."
        problems.append(NotLoaded(sync.name, error))
        return None


def _syncs(
    configs: str | Path | Sequence[Sync] | None, settings: Settings, problems: list[NotLoaded]
) -> tuple[Sequence[Sync], Sequence[Sync]]:
    """The syncs of files or of Python code, and the posted ones; a file replaces a posted sync of the same name."""
    if configs is not None and not isinstance(configs, (str, Path)):
        return configs, ()
    written = _of_files(Path(configs) if configs is not None else settings.configs, problems)
    taken = {(sync.integration_key, sync.name) for sync in written}
    return written, [sync for sync in posted.load(settings) if (sync.integration_key, sync.name) not in taken]


def _of_files(folder: Path, problems: list[NotLoaded]) -> Sequence[Sync]:
    try:
        configs = read_dir(folder)
    except ConfigError as unreadable:
        problems.append(NotLoaded.of(unreadable))
        return ()
    problems += map(NotLoaded.of, configs.errors)
    return configs.syncs


_SYSTEM_NAMES = (OP, names.DISPATCH_JOB, control.OP, names.CONTROL_JOB, retention.OP, names.RETENTION_JOB)


def _distinct(parts: Iterable[_Parts], problems: list[NotLoaded]) -> list[_Parts]:
    """The syncs with different names in Dagster, where `a-b` and `a_b` are the same."""
    kept: list[_Parts] = []
    taken: dict[str, str] = dict.fromkeys(_SYSTEM_NAMES, "a job of nango_dagster")
    for part in parts:
        if other := next((taken[name] for name in part.taken if name in taken), None):
            error = f"sync {part.sync.name} is not loaded: its name in Dagster is also that of {other}."
            problems.append(NotLoaded(part.sync.name, error))
            continue
        taken.update(dict.fromkeys(part.taken, f"sync {part.sync.name}"))
        kept.append(part)
    return kept
