"""`nango_retention`: once a day, what is too old to be kept goes."""

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
CRON = "41 3 * * *"  # when few others do anything
DESCRIPTION = """\
Removes what is too old to be kept, in small steps: payloads of records that have not changed for
`NANGO_PRUNE_AFTER_DAYS`, all records of what was not executed for `NANGO_DELETE_AFTER_DAYS` (both 0, which is never,
unless you set them), and always jobs that ended 31 days ago, but the last one of each connection."""


def build_retention_job() -> JobDefinition:
    """The job that removes it, in one process."""

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
    """Once a day."""
    return ScheduleDefinition(
        name=names.RETENTION_SCHEDULE,
        job_name=names.RETENTION_JOB,
        cron_schedule=CRON,
        default_status=DefaultScheduleStatus.RUNNING,
        description="Removes what is too old to be kept.",
    )
