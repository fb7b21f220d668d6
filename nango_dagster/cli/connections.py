"""`connections` and `variants`: the customers' accounts that syncs of an integration run for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import Refused
from ..http import public_json
from ..sentences import number_of
from .command import Session, ask, command, grid, group, sync_argument
from .connection_input import file_name, parse_connections, parse_credentials, parse_object, read_file
from .formatting import iso
from .instance import refresh_partitions
from .status_tables import state_word
from .steer import find_sync, register

if TYPE_CHECKING:
    from ..store.connections import ConnectionRow

integration_option = click.option(
    "--integration", metavar="KEY", required=True, help="The integration of the connection."
)
connection_option = click.option(
    "--connection", "connection_id", metavar="ID", required=True, help="The id of the connection."
)
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


connections = group(
    "connections",
    """Show and change connections.

    A connection is one customer's account at an API. A sync with an `integration` runs for each connection of that
    integration, with the connection's credentials and metadata.
    """,
    example="connections list",
)
variants = group(
    "variants",
    """Show and change variants.

    A variant is an additional copy of a sync for a connection, with its own rows, state and frequency. `${variant}` in
    the config is its name. Each connection has the variant `base`.
    """,
    example="variants list issues",
)


# --- connections ------------------------------------------------------------------------------------------------------


@command("add", example="connections add --integration github --connection acme --credentials acme.json")
@integration_option
@connection_option
@click.option("--credentials", metavar="FILE", help="A file with the credentials as JSON; - is standard input.")
@click.option("--metadata", metavar="JSON", help="A JSON object for placeholders such as ${metadata.region}.")
@click.option("--config", metavar="JSON", help="A JSON object with further settings of the connection.")
@click.option("--replace", is_flag=True, help="Change the given fields of an existing connection.")
def add(
    session: Session,
    integration: str,
    connection_id: str,
    credentials: str | None,
    metadata: str | None,
    config: str | None,
    replace: bool,
) -> None:
    """Add a connection.

    Every sync of its integration starts for it at once, except syncs with `auto_start: false`. Credentials are
    encrypted before they are stored, and no command shows them. docs/reference/connections.md lists their types.

    With --json: integration, connection_id, created, syncs (those that run for it).
    """
    from ..control import connections as control
    from ..store.connections import NewConnection

    new = NewConnection(
        integration,
        connection_id,
        None if credentials is None else parse_credentials(read_file(credentials), file_name(credentials)),
        None if metadata is None else parse_object(metadata, "--metadata"),
        None if config is None else parse_object(config, "--config"),
    )
    with session.database() as database:
        register(session, database)
        report = control.add(database, session.settings, new, replace=replace)
        refresh_partitions(session, database, {integration})
    session.answer(report.document, *report.sentences)


@command("import", example="connections import customers.jsonl")
@click.argument("file", metavar="FILE")
def import_(session: Session, file: str) -> None:
    """Add or change many connections.

    FILE (- is standard input) contains a JSON object on each line, or a JSON list of objects. Each object has
    integration, connection_id, and optionally credentials, metadata and config. An error names the line, and no
    connection is changed then.

    With --json: created, changed, integrations.
    """
    from ..control import connections as control

    several = parse_connections(read_file(file), file_name(file))
    with session.database() as database:
        register(session, database)
        report = control.add_all(database, session.settings, several)
        refresh_partitions(session, database, {new.integration for new in several})
    session.answer(report.document, *report.sentences)


@command("list", example="connections list --integration github")
@click.option("--integration", metavar="KEY", help="Only connections of this integration.")
def list_(session: Session, integration: str | None) -> None:
    """List the connections.

    With --json, for each: integration, connection_id, has_credentials, auth_failures, needs_reauthorisation,
    created_at, updated_at.
    """
    from ..store import connections as stored

    with session.database() as database:
        found = stored.list_connections(database, integration)
    headings = ["connection", "integration", "credentials", "made"]
    rows = [(row.connection_id, row.integration, _state(row), f"{row.created_at:%Y-%m-%d %H:%M}") for row in found]
    of_it = f" of {integration}" if integration else ""
    session.answer(
        [_listed(row) for row in found],
        *([grid(headings, rows), "", number_of(len(rows), "connection")] if rows else [f"no connections{of_it}"]),
    )


def _state(row: ConnectionRow) -> str:
    if row.needs_reauthorisation:
        return f"refused {number_of(row.auth_failures, 'time')}"
    return "there" if row.has_credentials else "none"


def _listed(row: ConnectionRow) -> dict[str, Any]:
    return {
        "integration": row.integration,
        "connection_id": row.connection_id,
        "has_credentials": row.has_credentials,
        "auth_failures": row.auth_failures,
        "needs_reauthorisation": row.needs_reauthorisation,
        "created_at": iso(row.created_at),
        "updated_at": iso(row.updated_at),
    }


@command("show", example="connections show --integration github --connection acme")
@integration_option
@connection_option
def show(session: Session, integration: str, connection_id: str) -> None:
    """Show a connection.

    It shows the type of the credentials and the names of their fields. In metadata and config, it hides values whose
    names look secret.

    With --json: the fields of `connections list`, credentials (type, fields; null for none), metadata, config,
    variants (sync, variant, state).
    """
    from ..control import connections as control
    from ..store import status

    with session.database() as database:
        row = control.get(database, integration, connection_id)
        credentials = control.credentials_summary(database, session.settings, row)
        runs = status.read(database, control.partitioned_syncs(database, integration), connection_id)
    document = {
        **_listed(row),
        "credentials": credentials,
        "metadata": public_json(row.metadata),
        "config": control.public_config(row.config),
        "variants": [{"sync": run.row.name, "variant": run.variant, "state": run.state} for run in runs],
    }
    lines = [
        ("integration", row.integration),
        ("connection", row.connection_id),
        ("credentials", _kind(row, credentials)),
        ("metadata", control.json_line(document["metadata"])),
        ("config", control.json_line(document["config"])),
        ("made", f"{row.created_at:%Y-%m-%d %H:%M} UTC"),
        ("syncs", ", ".join(f"{run.row.name} ({run.variant})" for run in runs) or "none"),
    ]
    session.answer(document, *(f"{name:<12} {value}" for name, value in lines))


def _kind(row: ConnectionRow, held: dict[str, Any] | None) -> str:
    if held is None:
        return "none"
    if "unreadable" in held:
        return f"unreadable: {held['unreadable']}"
    fields = ", ".join(held["fields"])
    refused = f"; refused {number_of(row.auth_failures, 'time')} in a row" if row.auth_failures else ""
    waits = ", so its syncs wait for others" if row.needs_reauthorisation else ""
    return f"{held['type'] or 'of no kind'} with {fields or 'no fields'}{refused}{waits}"


@command("remove", example="connections remove --integration github --connection acme")
@integration_option
@connection_option
@_yes
def remove(session: Session, integration: str, connection_id: str, yes: bool) -> None:
    """Delete a connection with everything that is stored for it.

    This includes its records, mapped rows and jobs of every sync. The command asks first; with --json it needs --yes.

    With --json: integration, connection_id, removed, records.
    """
    from ..control import connections as control

    with session.database() as database:
        control.get(database, integration, connection_id)
        if not yes:
            records = number_of(control.count_records(database, integration, connection_id), "record")
            ask(session, f"Delete the connection {connection_id} of {integration} with its {records} and its jobs?")
        report = control.delete(database, integration, connection_id)
        refresh_partitions(session, database, {integration})
    session.answer(report.document, *report.sentences)


@command(
    "metadata", example="""connections metadata --integration github --connection acme --update '{"region": "eu"}'"""
)
@integration_option
@connection_option
@click.option("--set", "new", metavar="JSON", help="Replace the metadata by this JSON object.")
@click.option("--update", "some", metavar="JSON", help="Set the keys of this JSON object, and leave the others.")
def metadata(session: Session, integration: str, connection_id: str, new: str | None, some: str | None) -> None:
    """Show or change a connection's metadata.

    A value whose name looks secret is shown as `***`.

    With --json: integration, connection_id, metadata.
    """
    from ..control import connections as control

    if new is not None and some is not None:
        raise Refused("--set replaces all and --update some of it; wanted one of them. Nothing was done.")
    given, option = (new, "--set") if some is None else (some, "--update")
    with session.database() as database:
        if given is None:
            stored = public_json(control.get(database, integration, connection_id).metadata)
            document = {"integration": integration, "connection_id": connection_id, "metadata": stored}
            session.answer(document, control.json_line(stored))
            return
        value = parse_object(given, option)
        report = control.set_metadata(database, integration, [connection_id], value, merge=some is not None)
    session.answer(report.document, *report.sentences)


# --- variants ---------------------------------------------------------------------------------------------------------


_sync = sync_argument
_of_integration = click.option(
    "--integration", metavar="KEY", help="The sync's integration, if several have a sync of this name."
)
_variant = click.option("--variant", metavar="VARIANT", required=True, help="The variant's name.")


@command("add", example="variants add issues --connection acme --variant archived")
@_sync
@connection_option
@_variant
@_of_integration
def add_variant(session: Session, name: str, integration: str | None, connection_id: str, variant: str) -> None:
    """Add a variant of a sync to a connection.

    The variant has its own schedule. It runs at once, unless the sync has auto_start: false.

    With --json: sync, connection_id, variant, created.
    """
    from ..control import variants as control

    with session.database() as database:
        row = find_sync(session, database, name, integration)
        report = control.create(database, row, connection_id, variant)
        refresh_partitions(session, database, {row.integration})
    session.answer(report.document, *report.sentences)


@command("remove", example="variants remove issues --connection acme --variant archived")
@_sync
@connection_option
@_variant
@_of_integration
@_yes
def remove_variant(
    session: Session, name: str, integration: str | None, connection_id: str, variant: str, yes: bool
) -> None:
    """Delete a variant with everything that is stored for it.

    The command asks first; with --json it needs --yes. The variant `base` is deleted only with its connection.

    With --json: sync, connection_id, variant, removed, records.
    """
    from ..control import variants as control

    with session.database() as database:
        row = find_sync(session, database, name, integration)
        if not yes:
            records = number_of(control.get(database, row, connection_id, variant).live_count, "record")
            ask(
                session,
                f"Delete the variant {variant} of {row.name} for {connection_id} with its {records} and its jobs?",
            )
        report = control.delete(database, row, connection_id, variant)
        refresh_partitions(session, database, {row.integration})
    session.answer(report.document, *report.sentences)


@command("list", example="variants list issues --connection acme")
@_sync
@click.option("--connection", "connection_id", metavar="ID", help="Only variants of this connection.")
@_of_integration
def list_variants(session: Session, name: str, integration: str | None, connection_id: str | None) -> None:
    """List a sync's variants besides `base`.

    With --json, for each: connection_id, variant, state, records.
    """
    from ..control.selection import select
    from ..partition_keys import BASE

    with session.database() as database:
        row = find_sync(session, database, name, integration)
        states = [state for state in select(database, row, connection_id).statuses if state.variant != BASE]
    documents = [
        {
            "connection_id": state.connection_id,
            "variant": state.variant,
            "state": state.state,
            "records": state.live_count,
        }
        for state in states
    ]
    rows = [(state.connection_id, state.variant, state_word(state), state.live_count) for state in states]
    table = grid(["connection", "variant", "state", "records"], rows, right=["records"])
    session.answer(documents, table if rows else f"{row.name} has no variants besides base")


for subcommand in (add, import_, list_, show, remove, metadata):
    connections.add_command(subcommand)
for subcommand in (add_variant, remove_variant, list_variants):
    variants.add_command(subcommand)
