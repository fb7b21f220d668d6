"""The job `nango_retention`: deletes old data once a day."""

# No `from __future__ import annotations`: Dagster reads the types of an op's arguments from the function itself.
import logging

from dagster import (
    DefaultScheduleStatus,
    JobDefinition,
    OpExecutionContext,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)

from ..store import retention
from . import logs, names
from .resource import NangoResource

log = logging.getLogger(__name__)

OP = "nango_retain"
CRON = "41 3 * * *"
DESCRIPTION = """\
Deletes old data in small steps: payloads of records that have not changed for `NANGO_PRUNE_AFTER_DAYS`, all records of
connections that were not executed for `NANGO_DELETE_AFTER_DAYS` (both are off by default), and jobs that ended 31 days
ago, except for the last one of each connection."""


def build_retention_job() -> JobDefinition:
    """The job, in one process."""

    @op(name=OP, required_resource_keys={names.RESOURCE})
    def retain(context: OpExecutionContext) -> None:
        nango: NangoResource = context.resources.nango
        with logs.into(context.log):
            log.info("%s", retention.retain(nango.database, nango.settings))

    @job(
        name=names.RETENTION_JOB,
        executor_def=in_process_executor,
        tags={"dagster/max_retries": "0"},
        description=DESCRIPTION,
    )
    def nango_retention() -> None:
        retain()

    return nango_retention


def build_retention_schedule() -> ScheduleDefinition:
    """The schedule of the job."""
    return ScheduleDefinition(
        name=names.RETENTION_SCHEDULE,
        job_name=names.RETENTION_JOB,
        cron_schedule=CRON,
        default_status=DefaultScheduleStatus.RUNNING,
        description="Deletes old data once a day.",
    )
