"""The job `nango_control`: a form in Dagster's Launchpad that starts, pauses, triggers and cancels syncs."""

# No `from __future__ import annotations`: Dagster reads the types of an op's arguments from the function itself.
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from dagster import (
    Config,
    Failure,
    JobDefinition,
    OpExecutionContext,
    RunConfig,
    config_mapping,
    in_process_executor,
    job,
    op,
)
from pydantic import Field

from ..control import selection, syncs
from ..control.report import Report
from ..control.selection import Narrowing, Selection
from ..errors import NangoError, Refused
from ..store import syncs as stored_syncs
from . import logs, names
from .dispatch import Dispatcher
from .resource import NangoResource

log = logging.getLogger(__name__)

OP = "nango_steer"
DEFAULT_FREQUENCY = "default"
DESCRIPTION = """\
Starts, pauses, triggers, resets and cancels syncs, and sets their frequency: fill in the form and launch.

The form is kept with the run, for everybody who may look at it, and whoever reaches Dagster's webserver can launch it.
So it changes no credentials, metadata or addresses and deletes nothing: use the HTTP API or
`nango-dagster connections` and `nango-dagster variants` for that."""


class Action(Enum):
    """The operation."""

    trigger = "trigger"
    reset = "reset"
    start = "start"
    pause = "pause"
    cancel = "cancel"
    frequency = "frequency"


class Form(Config):
    """The fields of the Launchpad."""

    action: Action = Field(
        description="The operation; `reset` triggers an execution that begins at the first record again."
    )
    sync: str = Field(description="The sync's name.")
    integration: str | None = Field(None, description="The integration; only where several have a sync of this name.")
    connection: str | None = Field(None, description="One connection; all of the sync where it is not given.")
    variant: str | None = Field(None, description="One variant; all where it is not given.")
    match: str | None = Field(None, description="Only connections whose names match, such as acme-*.")
    failed: bool = Field(False, description="Only connections whose last execution failed.")
    every: str | None = Field(
        None,
        description='frequency: "every 5 minutes" or the like; '
        f'"{DEFAULT_FREQUENCY}" for the sync\'s own schedule again.',
    )


@dataclass(frozen=True)
class _Operation:
    """An action's function, and whether a config that is loaded here must have the sync enabled."""

    run: Callable[[Selection, Form], Report]
    must_run: bool = True


def _set_frequency(selected: Selection, form: Form) -> Report:
    return syncs.set_frequency(selected, None if form.every == DEFAULT_FREQUENCY else form.every)


_OPERATIONS: Mapping[Action, _Operation] = {
    Action.trigger: _Operation(lambda selected, _: syncs.trigger(selected)),
    Action.reset: _Operation(lambda selected, _: syncs.trigger(selected, reset=True)),
    Action.start: _Operation(lambda selected, _: syncs.start(selected)),
    Action.pause: _Operation(lambda selected, _: syncs.pause(selected), must_run=False),
    Action.cancel: _Operation(lambda selected, _: syncs.cancel(selected), must_run=False),
    Action.frequency: _Operation(_set_frequency),
}


def build_control_job(dispatcher: Dispatcher) -> JobDefinition:
    """The job that performs the operation of its form, in one process."""

    @op(name=OP, required_resource_keys={names.RESOURCE})
    def steer(context: OpExecutionContext, config: Form) -> None:
        with logs.into(context.log):
            try:
                report = perform(config, context.resources.nango, dispatcher)
            except NangoError as error:
                raise Failure(str(error), allow_retries=False) from None
            log.info("%s", report)

    @config_mapping
    def form(val: Form) -> RunConfig:
        return RunConfig(ops={OP: val})

    @job(
        name=names.CONTROL_JOB,
        executor_def=in_process_executor,
        tags={"dagster/max_retries": "0"},
        description=DESCRIPTION,
        config=form,
    )
    def nango_control() -> None:
        steer()

    return nango_control


def perform(form: Form, nango: NangoResource, dispatcher: Dispatcher) -> Report:
    """Perform the operation of a form.

    Raises Refused when the form does not fit its action or nothing runs the sync, and ConfigError for unknown names.
    """
    action = form.action.value
    if form.action is Action.frequency and form.every is None:
        raise Refused(f"{action} needs every. Nothing was done.")
    if form.action is not Action.frequency and form.every is not None:
        raise Refused(f"every is nothing that {action} reads; leave it out. Nothing was done.")
    narrowing = Narrowing(form.match, form.failed)
    if form.action is Action.frequency and narrowing:
        raise Refused("frequency is for one connection; leave match and failed out. Nothing was done.")
    operation = _OPERATIONS[form.action]
    loaded = {row.id for row in dispatcher.rows(nango)}  # also registers them in the store
    row = selection.find_sync(stored_syncs.all(nango.database), form.sync, form.integration)
    if operation.must_run and row.id not in loaded and row.origin != "asset":
        raise Refused(f"no config that is loaded here has {row.name} enabled, so nothing runs it.")
    selected = selection.select(nango.database, row, form.connection, form.variant, narrowing)
    return operation.run(selected, form)
