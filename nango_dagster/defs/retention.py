"""The job `nango_retention`: once a day it removes old data from the store, and old runs from Dagster's storage."""

# No `from __future__ import annotations`: Dagster reads the types of an op's arguments from the function itself.
import logging
from datetime import timedelta

from dagster import (
    DefaultScheduleStatus,
    JobDefinition,
    OpExecutionContext,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)

from .. import clock
from ..sentences import number_of
from ..store import retention
from . import logs, names
from .resource import NangoResource
from .run_retention import remove_old_runs

log = logging.getLogger(__name__)

OP = "nango_retain"
CRON = "41 3 * * *"
DESCRIPTION = """\
Removes old data in small steps: payloads of records that have not changed for `NANGO_PRUNE_AFTER_DAYS`, all records of
syncs that were not executed for `NANGO_DELETE_AFTER_DAYS` (both off by default), jobs that ended 31 days ago except
the last one of each connection, and Dagster runs of nango-dagster that ended `NANGO_DELETE_RUNS_AFTER_DAYS` (14) days
ago, with their events."""


def build_retention_job() -> JobDefinition:
    """The job, in one process; the runs with the last materializations of the loaded syncs stay."""

    @op(name=OP, required_resource_keys={names.RESOURCE})
    def retain(context: OpExecutionContext) -> None:
        nango: NangoResource = context.resources.nango
        with logs.into(context.log):
            log.info("%s", retention.retain(nango.database, nango.settings))
            if days := nango.settings.delete_runs_after_days:
                keys = [placement.asset_key for placement in nango.placements]
                count = remove_old_runs(context.instance, keys, clock.now() - timedelta(days=days))
                log.info("removed %s that ended more than %s ago.", number_of(count, "run"), number_of(days, "day"))

    @job(
        name=names.RETENTION_JOB,
        executor_def=in_process_executor,
        tags={"dagster/max_retries": "0"},
        description=DESCRIPTION,
    )
    def nango_retention() -> None:
        retain()

    return nango_retention


def build_retention_schedule(status: DefaultScheduleStatus) -> ScheduleDefinition:
    """The schedule of the job, once a day."""
    return ScheduleDefinition(
        name=names.RETENTION_SCHEDULE,
        job_name=names.RETENTION_JOB,
        cron_schedule=CRON,
        default_status=status,
        description="Removes old data and old runs.",
    )
