"""Configs become Dagster definitions, for a user's own project to merge or for our own to serve."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from dagster import Definitions

from ..config import Sync, read_dir
from ..errors import ConfigError
from ..settings import Settings
from . import names
from .assets import build_asset, build_job, build_source
from .dispatch import build_dispatch_job, build_sensor
from .io_manager import NangoIOManager
from .resource import NangoResource
from .schedules import build_schedule

log = logging.getLogger(__name__)


def build_definitions(
    configs: str | Path | Sequence[Sync] | None = None, settings: Settings | None = None
) -> Definitions:
    """An asset, a job, a schedule and a check for every sync, with the IO manager and the resource they need.

    `configs` is a folder (by default the one that the settings name) or syncs made in Python. It names no
    executor, so that it merges with whatever a project has. A config that is wrong is logged by file and line and
    takes no other sync down.

    >>> definitions = build_definitions([Sync(name="pokemon", url="https://pokeapi.co/api/v2/pokemon")])
    >>> [job.name for job in definitions.jobs]
    ['pokemon_job', 'nango_dispatch']
    """
    settings = settings or Settings.from_env()
    nango = NangoResource(settings)
    kind = "sqlite" if settings.db_url.startswith("sqlite") else "postgresql"
    syncs = _distinct(sync for sync in _syncs(configs, settings) if sync.enabled)
    return Definitions(
        assets=[asset for sync in syncs for asset in (build_asset(sync, kind), build_source(sync))],
        jobs=[*(build_job(sync) for sync in syncs), build_dispatch_job()],
        sensors=[build_sensor()],
        schedules=[build_schedule(sync) for sync in syncs],
        resources={names.RESOURCE: nango, names.IO_MANAGER: NangoIOManager(nango)},
    )


def _syncs(configs: str | Path | Sequence[Sync] | None, settings: Settings) -> Sequence[Sync]:
    if configs is not None and not isinstance(configs, (str, Path)):
        return configs
    folder = Path(configs) if configs is not None else settings.configs
    try:
        found = read_dir(folder)
    except ConfigError as unreadable:
        log.error("%s", unreadable)
        return []
    for error in found.errors:
        log.error("%s", error)
    return found.syncs


def _distinct(syncs: Iterable[Sync]) -> list[Sync]:
    """The syncs that Dagster can tell apart: its names know no difference between `a-b` and `a_b`."""
    found: dict[str, Sync] = {}
    for sync in syncs:
        other = found.setdefault(names.python_name(sync), sync)
        if other is not sync:
            log.error("sync %s is left out: Dagster cannot tell its name from that of %s.", sync.name, other.name)
    return list(found.values())
