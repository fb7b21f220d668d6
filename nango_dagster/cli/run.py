"""`run`: one execution through Dagster, in this process."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ..config import Sync
from ..config.source import quoted
from ..errors import ConfigError, Refused
from ..partition_keys import BASE, key_of
from ..sentences import suggestion
from .command import Session, command, fail, sync_argument
from .formatting import number_of
from .instance import open_instance
from .sample import sample_api
from .sync_states import job_document

if TYPE_CHECKING:
    from dagster import ExecuteInProcessResult

    from ..runs import Progress
    from ..settings import Settings
    from ..store import Database
    from ..store.jobs import Job

Report = Callable[["Progress"], None]


@command("run", example="run pokemon")
@sync_argument
@click.option("--connection", metavar="ID", help="The connection to run for, if the sync has several.")
@click.option("--variant", metavar="NAME", help="The variant of the sync; base by default.")
@click.option("--reset", is_flag=True, help="Ignore the state of earlier executions and start at the first record.")
@click.option(
    "--empty-cache", is_flag=True, help="Delete the stored records first, so that all of them are added again."
)
@click.option("--accept-deletes", is_flag=True, help="Delete all missing records, without the limit of deletions.")
def run(session: Session, name: str, connection: str | None, variant: str | None, **wishes: bool) -> None:
    """Run a sync now, through Dagster.

    It executes the sync once in this process, for one connection if the sync has an integration; `trigger` executes all
    connections. The run appears in the Dagster UI with the same DAGSTER_HOME (default: $NANGO_HOME/dagster). The exit
    status is 0 if the run succeeded, and 1 with the reason if it failed. Ctrl-C cancels the run; the pages that were
    read are kept.

    With --json: sync, run_id, status, error, job (as in `status`; null if no execution began).
    """
    session.describe_scripts()
    tags = {f"nango/{wish}": "true" for wish, is_set in wishes.items() if is_set}
    with session.database() as database:
        sync, is_posted = _find(session, database, name)
        _register_parents(session, database, sync)
        partition = _partition(database, sync, is_posted, connection, variant)
        with _progress(session, sync) as report, sample_api(session, [sync]) as session:
            # A posted sync is known only to the definitions of the whole folder.
            configs = None if is_posted else [sync]
            ended = _execute(session.settings, sync, configs, tags, report, partition)
        job = _job_of(database, sync, ended.run_id)
    error = _error(sync, ended, job)
    document = {
        "sync": name,
        "run_id": ended.run_id,
        "status": _status(ended, job),
        "error": error,
        "job": job_document(job) if job else None,
    }
    if error is not None or job is None:
        fail(str(error), document if session.as_json else None)
    session.answer(document, _summary(sync, job))


def _find(session: Session, database: Database, name: str) -> tuple[Sync, bool]:
    """The sync of the config folder, or the posted sync, and whether it is posted."""
    from ..store import syncs

    configured = {text for sync in session.configs.syncs for text in (sync.name, f"{sync.integration_key}/{sync.name}")}
    row = None if name in configured else syncs.by_name(database, name)
    is_posted = row is not None and row.origin == "http"
    sync = row.sync if row is not None and is_posted else session.sync(name)
    if not sync.enabled:
        raise Refused(f"{name} has enabled: false; take that out of its config to run it.")
    return sync, is_posted


def _register_parents(session: Session, database: Database, sync: Sync) -> None:
    """Store the syncs of the parents, whose records the lists of a sync with `for_each` are read for."""
    from ..store import syncs

    siblings = {other.name: other for other in session.configs.syncs if other.integration_key == sync.integration_key}
    while sync.for_each is not None and (parent := siblings.pop(sync.for_each.sync, None)) is not None:
        syncs.register(database, [parent])
        sync = parent


def _partition(
    database: Database, sync: Sync, is_posted: bool, connection: str | None, variant: str | None
) -> str | None:
    """The partition key to run; None for a sync without partitions.

    Raises Refused if several are possible, or if the connection or variant does not exist.
    """
    from ..store import queue, syncs

    if not sync.partitioned:
        if connection is not None or variant is not None:
            raise Refused(f"{sync.name} has no integration, so it has no connections; leave --connection out.")
        return None
    row = None if is_posted else syncs.register(database, [sync])[sync.name]
    row = row or syncs.by_name(database, sync.name, sync.integration_key)
    pairs = queue.partitions(database, row.id) if row else []
    if not pairs:
        command = f"nango-dagster connections add --integration {sync.integration_key} --connection ID"
        raise Refused(f"integration {sync.integration_key} has no connections yet; add one with: {command}")
    names = list(dict.fromkeys(pair[0] for pair in pairs))
    if connection is None and len(names) > 1:
        problem = f"{sync.name} runs for {len(names):,} connections; say which with --connection"
        raise Refused(f"{problem}, or run all of them with: nango-dagster trigger {sync.name}")
    name, variant = connection or names[0], variant or BASE
    if name not in names:
        raise Refused(f"{sync.integration_key} has no connection {quoted(name)}; {suggestion(name, names)}")
    if (name, variant) not in pairs:
        variants = [pair[1] for pair in pairs if pair[0] == name]
        problem = f"{name} has no variant {quoted(variant)} of {sync.name}"
        raise Refused(f"{problem}; {suggestion(variant, variants)}")
    return key_of(name, variant)


@dataclass(frozen=True)
class Ended:
    """The end of a Dagster run; `sentence` is the reason of a failure."""

    run_id: str
    success: bool
    sentence: str | None


def _execute(
    settings: Settings,
    sync: Sync,
    configs: Sequence[Sync] | None,
    tags: Mapping[str, str],
    report: Report,
    partition: str | None,
) -> Ended:
    """Execute the sync's Dagster job; its run is recorded under DAGSTER_HOME."""
    with open_instance(settings) as instance:
        from ..defs import build_definitions, names
        from ..defs.io_manager import on_progress

        definitions = build_definitions(configs, settings)
        if names.job_name(sync) not in [job.name for job in definitions.jobs or ()]:
            raise ConfigError(f"{sync.name}: Dagster does not take this name, so there is no job to run; rename it.")
        job = definitions.resolve_job_def(names.job_name(sync))
        if partition is not None:
            instance.add_dynamic_partitions(names.partitions_name(names.asset_key(sync)), [partition])
        listening = on_progress.set(report)
        try:
            with _sigterm_is_ctrl_c(), contextlib.closing((definitions.resources or {})[names.RESOURCE]):
                result = job.execute_in_process(
                    instance=instance,
                    tags=dict(tags),
                    run_config=_console_logging(settings),
                    raise_on_error=False,
                    partition_key=partition,
                )
        finally:
            on_progress.reset(listening)
        return Ended(result.run_id, result.success, _sentence(result))


def _console_logging(settings: Settings) -> dict[str, Any]:
    """The run config of Dagster's console log: only with LOG_LEVEL=debug, because `run` prints the reason itself."""
    debugging = settings.log_level == "DEBUG"
    logging.getLogger("dagster").setLevel("DEBUG" if debugging else "CRITICAL")
    return {"loggers": {"console": {"config": {"log_level": "DEBUG" if debugging else "CRITICAL"}}}}


@contextlib.contextmanager
def _sigterm_is_ctrl_c() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C: the execution ends as cancelled."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _sentence(result: ExecuteInProcessResult) -> str | None:
    """The message of the error that failed the run; None if it succeeded."""
    if result.success:
        return None
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        failure = event.step_failure_data
        if failure.user_failure_data is not None and failure.user_failure_data.description:
            return failure.user_failure_data.description
        if failure.error is not None:
            return (failure.error.cause or failure.error).message.strip()
    failed = [event.message for event in result.all_events if event.is_failure and event.message]
    return failed[-1] if failed else "the run failed; LOG_LEVEL=debug shows Dagster's log."


# --- the result ------------------------------------------------------------------------------------------------------


def _job_of(database: Database, sync: Sync, run_id: str) -> Job | None:
    """The job of the run; None if the run did not start one."""
    from ..store import jobs, syncs

    row = syncs.by_name(database, sync.name, sync.integration_key)
    sync_jobs = jobs.list_jobs(database, row.id) if row else []
    return next((job for job in sync_jobs if job.run_id == run_id), None)


def _status(ended: Ended, job: Job | None) -> str:
    if ended.success:
        return "succeeded"
    return "cancelled" if job is not None and job.status == "cancelled" else "failed"


def _error(sync: Sync, ended: Ended, job: Job | None) -> str | None:
    if ended.success:
        return None
    if job is not None and job.status == "cancelled":
        return f"{sync.display_name}: cancelled after {number_of(job.pages, 'page')}."
    return (job.error_message if job else None) or ended.sentence


def _summary(sync: Sync, job: Job) -> str:
    """The result of the execution in one line; with the stop reason if the list was not read to its end."""
    from ..store.jobs import CUT_SHORT

    changes = ", ".join(f"{getattr(job, what):,} {what}" for what in ("added", "updated", "deleted", "unchanged"))
    rejected = f", {job.rejected:,} rejected" if job.rejected else ""
    took = f" in {(job.ended_at - job.started_at).total_seconds():.1f} s" if job.ended_at else ""
    limit = f", ended by {job.stop_reason}" if job.stop_reason in CUT_SHORT else ""
    return f"{sync.name}: {changes}{rejected}; {number_of(job.pages, 'page')}{took}{limit}. Run {job.run_id}"


@contextlib.contextmanager
def _progress(session: Session, sync: Sync) -> Iterator[Report]:
    """Show a progress bar with pages, records and their speed, if stderr is a terminal."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    quiet = session.as_json or session.settings.log_level == "DEBUG" or not session.notes.is_terminal
    columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(20), TimeElapsedColumn()]
    with Progress(*columns, console=session.notes, disable=quiet, transient=True) as bar:
        task = bar.add_task(f"{sync.display_name}: Dagster is starting", total=sync.max_total)
        yield lambda progress: bar.update(task, description=str(progress), completed=progress.records)
