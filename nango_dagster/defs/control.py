"""`nango_control`: a form in Dagster's Launchpad for what else the command line does to syncs and connections."""

# No `from __future__ import annotations`: Dagster reads the types of an op's arguments from the function itself.
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

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

from ..control import connections as connecting
from ..control import syncs as steering
from ..control.syncs import Done, Selection
from ..errors import ConfigError, NangoError, Refused
from ..store import syncs
from ..store.connections import NewConnection
from ..store.syncs import SyncRow
from . import logs, names, partitions
from .dispatch import Dispatcher
from .resource import NangoResource

log = logging.getLogger(__name__)

OP = "nango_steer"
OWN = "default"
DESCRIPTION = """\
Starts, pauses, triggers and cancels syncs, and makes and removes connections and variants: fill in the form and launch.

The form is kept with the run, for everybody who may look at it. So credentials are not written here: put them as JSON
into an environment variable `NANGO_ENV_<NAME>` of the process that runs this, or into a file on its machine, and say
which one in `credentials_env` or `credentials_file`; or use `nango-dagster connections add --credentials`."""


class Action(Enum):
    """What shall be done."""

    trigger = "trigger"
    start = "start"
    pause = "pause"
    cancel = "cancel"
    frequency = "frequency"
    add_connection = "add_connection"
    remove_connection = "remove_connection"
    set_metadata = "set_metadata"
    update_metadata = "update_metadata"
    add_variant = "add_variant"
    remove_variant = "remove_variant"


class Form(Config):
    """What the Launchpad asks for; each action says what it reads of it."""

    action: Action = Field(description="What shall be done.")
    sync: str | None = Field(None, description="The sync's name.")
    integration: str | None = Field(None, description="The integration; of a sync only where several have its name.")
    connection: str | None = Field(None, description="One connection; all of the sync where it is not given.")
    variant: str | None = Field(None, description="One variant; all where it is not given.")
    reset: bool = Field(False, description="trigger: forget how far earlier executions came.")
    empty_cache: bool = Field(False, description="trigger with reset: delete the records before.")
    every: str | None = Field(
        None, description=f'frequency: "every 5 minutes" or the like; "{OWN}" for the sync\'s own schedule again.'
    )
    metadata: dict[str, Any] | None = Field(
        None, description="add_connection, set_metadata (replaces all), update_metadata (sets these keys)."
    )
    config: dict[str, Any] | None = Field(None, description="add_connection: what else is known of it.")
    credentials_env: str | None = Field(
        None, description="add_connection: the variable NANGO_ENV_<NAME> that holds its credentials as JSON."
    )
    credentials_file: str | None = Field(
        None, description="add_connection: the file that holds its credentials as JSON."
    )
    replace: bool = Field(False, description="add_connection: change the one that is there.")
    confirm: bool = Field(False, description="remove_connection, remove_variant: yes, delete the records too.")


@dataclass(frozen=True)
class _Desk:
    """Where a form is dealt with."""

    form: Form
    nango: NangoResource
    dispatcher: Dispatcher

    @property
    def account(self) -> tuple[str, str]:
        """The integration and connection of the form, which were checked to be there."""
        return str(self.form.integration), str(self.form.connection)

    def row(self) -> SyncRow:
        """The sync of the form."""
        self.dispatcher.rows(self.nango)  # what is configured becomes known
        return steering.sync_of(syncs.all(self.nango.database), str(self.form.sync), self.form.integration)

    def running_row(self) -> SyncRow:
        """The same, if anything runs it."""
        row = self.row()
        if row.id not in {one.id for one in self.dispatcher.rows(self.nango)} and row.origin != "asset":
            raise Refused(f"no config that is loaded here has {row.name} enabled, so nothing runs it.")
        return row


@dataclass(frozen=True)
class _Way:
    """What an action needs of the form, what it may read besides, and what it does."""

    act: Callable[[_Desk], Done]
    needs: tuple[str, ...]
    may_read: tuple[str, ...] = ()


def build_control_job(dispatcher: Dispatcher) -> JobDefinition:
    """The job that does what its form says, in one process."""

    @op(name=OP, required_resource_keys={names.RESOURCE})
    def steer(context: OpExecutionContext, config: Form) -> None:
        desk = _Desk(config, context.resources.nango, dispatcher)
        with logs.into(context.log):
            try:
                done = _do(desk)
            except NangoError as error:
                raise Failure(str(error), allow_retries=False) from None
            log.info("%s", done)
            _refresh_partitions(context, desk)

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


def _do(desk: _Desk) -> Done:
    """Do what the form says. Raises NangoError when it cannot be, and Refused when the form does not fit."""
    way, action = _WAYS[desk.form.action], desk.form.action.value
    given = {name for name, value in desk.form if value not in (None, False) and name != "action"}
    if lacks := [name for name in way.needs if name not in given]:
        raise Refused(f"{action} needs {' and '.join(lacks)}. Nothing was done.")
    if surplus := sorted(given.difference(way.needs, way.may_read)):
        verb = "is" if len(surplus) == 1 else "are"
        raise Refused(f"{' and '.join(surplus)} {verb} nothing that {action} reads; leave it out. Nothing was done.")
    return way.act(desk)


def _refresh_partitions(context: OpExecutionContext, desk: _Desk) -> None:
    form, database = desk.form, desk.nango.database
    if form.action in (Action.add_connection, Action.remove_connection):
        partitions.refresh(context.instance, database, connecting.of_integration(database, desk.account[0]))
    elif form.action in (Action.add_variant, Action.remove_variant):
        partitions.refresh(context.instance, database, [desk.row()])


# --- syncs ------------------------------------------------------------------------------------------------------------


def _whom(desk: _Desk, row: SyncRow) -> Selection:
    return steering.select(desk.nango.database, row, desk.form.connection, desk.form.variant)


def _trigger(desk: _Desk) -> Done:
    whom = _whom(desk, desk.running_row())
    return steering.trigger(whom, reset=desk.form.reset, empty_cache=desk.form.empty_cache)


def _frequency(desk: _Desk) -> Done:
    every = None if desk.form.every == OWN else desk.form.every
    return steering.frequency(_whom(desk, desk.running_row()), every)


# --- connections and variants -----------------------------------------------------------------------------------------


def _add_connection(desk: _Desk) -> Done:
    form = desk.form
    one = NewConnection(*desk.account, _credentials(desk), *map(_checked, (form.metadata, form.config)))
    desk.dispatcher.rows(desk.nango)  # its syncs become known before it does
    return connecting.add(desk.nango.database, desk.nango.settings, one, replace=form.replace)


def _checked(document: dict[str, Any] | None) -> Mapping[str, Any] | None:
    return None if document is None else connecting.checked_object(document, "metadata or config")


def _credentials(desk: _Desk) -> Mapping[str, Any] | None:
    """The credentials that the form says where to find."""
    variable, file = desk.form.credentials_env, desk.form.credentials_file
    if variable is not None and file is not None:
        raise Refused("credentials_env and credentials_file are both given; wanted one of them. Nothing was done.")
    if variable is not None:
        name = variable.removeprefix("NANGO_ENV_")
        if name not in desk.nango.settings.env:
            raise ConfigError(f"the environment here has no NANGO_ENV_{name}; set it to the credentials as JSON.")
        return connecting.credentials_of(desk.nango.settings.env[name], f"NANGO_ENV_{name}")
    return None if file is None else connecting.credentials_of(_text(file), file)


def _text(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8 text; save it as UTF-8.") from None


def _remove_connection(desk: _Desk) -> Done:
    connecting.find(desk.nango.database, *desk.account)
    _check_confirmed(desk, f"the connection {desk.form.connection}")
    return connecting.remove(desk.nango.database, *desk.account)


def _check_confirmed(desk: _Desk, what: str) -> None:
    if not desk.form.confirm:
        raise Refused(f"this deletes {what} with its records; say confirm: true to do it. Nothing was done.")


def _set_metadata(desk: _Desk) -> Done:
    merge = desk.form.action is Action.update_metadata
    metadata = connecting.checked_object(desk.form.metadata, "metadata")
    return connecting.set_metadata(desk.nango.database, *desk.account, metadata, merge=merge)


def _add_variant(desk: _Desk) -> Done:
    return connecting.add_variant(desk.nango.database, desk.row(), desk.account[1], str(desk.form.variant))


def _remove_variant(desk: _Desk) -> Done:
    row = desk.row()
    _check_confirmed(desk, f"the variant {desk.form.variant} of {row.name} for {desk.form.connection}")
    return connecting.remove_variant(desk.nango.database, row, desk.account[1], str(desk.form.variant))


_SYNC = ("sync",)
_WHICH = ("integration", "connection", "variant")
_ACCOUNT = ("integration", "connection")
_VARIANT = ("sync", "connection", "variant")
_WAYS: Mapping[Action, _Way] = {
    Action.trigger: _Way(_trigger, _SYNC, (*_WHICH, "reset", "empty_cache")),
    Action.start: _Way(lambda desk: steering.start(_whom(desk, desk.running_row())), _SYNC, _WHICH),
    Action.pause: _Way(lambda desk: steering.pause(_whom(desk, desk.row())), _SYNC, _WHICH),
    Action.cancel: _Way(lambda desk: steering.cancel(_whom(desk, desk.row())), _SYNC, _WHICH),
    Action.frequency: _Way(_frequency, ("sync", "every"), _WHICH),
    Action.add_connection: _Way(
        _add_connection, _ACCOUNT, ("metadata", "config", "credentials_env", "credentials_file", "replace")
    ),
    Action.remove_connection: _Way(_remove_connection, _ACCOUNT, ("confirm",)),
    Action.set_metadata: _Way(_set_metadata, (*_ACCOUNT, "metadata")),
    Action.update_metadata: _Way(_set_metadata, (*_ACCOUNT, "metadata")),
    Action.add_variant: _Way(_add_variant, _VARIANT, ("integration",)),
    Action.remove_variant: _Way(_remove_variant, _VARIANT, ("integration", "confirm")),
}
