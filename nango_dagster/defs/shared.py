"""The definitions that all syncs of a code location share: the resource, the IO manager, the dispatcher, the sensors.

Dagster merges definitions of the same name only if they are the same object. So each process makes them once for each
store, and all components and all calls of `build_definitions` have them in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dagster import (
    AssetsDefinition,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    JobDefinition,
    ScheduleDefinition,
    SensorDefinition,
)

from ..settings import Settings
from . import internals
from .control import build_control_job
from .dispatch import Dispatcher, build_dispatch_job, build_sensor
from .io_manager import NangoIOManager
from .not_loaded import NotLoaded, build_notice
from .placements import Status
from .resource import NangoResource
from .retention import build_retention_job, build_retention_schedule
from .sync_definitions import SyncDefinitions
from .webhooks import build_webhook_sensor


@dataclass(frozen=True)
class Shared:
    """The shared definitions of a store, and what was loaded with them in this process."""

    settings: Settings
    nango: NangoResource
    io_manager: NangoIOManager
    jobs: Sequence[JobDefinition]
    sensors: Sequence[SensorDefinition]
    schedules: Sequence[ScheduleDefinition]
    posted: dict[tuple[str, str], SyncDefinitions] = field(default_factory=dict)
    """The definitions of posted syncs, which belong to the call that loads them first."""
    notices: dict[str, list[tuple[NotLoaded, AssetsDefinition]]] = field(default_factory=dict)
    """The notices of configs that are not loaded, by name."""

    def notice(self, problem: NotLoaded) -> AssetsDefinition:
        """The notice of a problem; several components may have problems with files of the same name."""
        notices = self.notices.setdefault(problem.name, [])
        for known, asset in notices:
            if known == problem:
                return asset
        notices.append((problem, build_notice(problem, len(notices) + 1)))
        return notices[-1][1]


_shared: list[Shared] = []


def of(settings: Settings, status: Status) -> Shared:
    """The shared definitions of a store; `status` is the default status of its sensors if they are new."""
    for shared in _shared:
        if shared.settings == settings:
            return shared
    dispatcher, nango = Dispatcher(), NangoResource(settings)
    schedule_status, sensor_status = DefaultScheduleStatus[status.upper()], DefaultSensorStatus[status.upper()]
    jobs = [build_dispatch_job(dispatcher), build_control_job(dispatcher), build_retention_job()]
    sensors = [build_sensor(dispatcher, sensor_status), build_webhook_sensor(sensor_status)]
    _shared.append(
        Shared(
            settings,
            nango,
            NangoIOManager(nango),
            jobs=[internals.shared(job) for job in jobs],
            sensors=[internals.shared(sensor) for sensor in sensors],
            schedules=[internals.shared(build_retention_schedule(schedule_status))],
        )
    )
    return _shared[-1]


def forget() -> None:
    """Forget all shared definitions, as a new process has none; definitions made later do not merge with older ones."""
    _shared.clear()
