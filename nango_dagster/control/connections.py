"""What people ask of connections and variants: on the command line, in Dagster's Launchpad, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .. import webhooks
from ..auth import check_credentials
from ..config.source import quoted
from ..errors import ConfigError, Problem, Refused
from ..http import is_url, public_json
from ..http.redaction import STARS
from ..partition_keys import BASE
from ..sentences import number_of, suggestion
from ..settings import Settings
from ..store import Database, connections, status, syncs
from ..store.announcing import OVERRIDE, OVERRIDE_OVER_HTTP
from ..store.connections import ConnectionRow, NewConnection
from ..store.sealing import SEALED
from ..store.syncs import SyncRow
from ..vault import Vault, vault_of
from .syncs import SOON, Done, check_runs_for, none_yet

FIELDS = ("integration", "connection_id", "credentials", "metadata", "config")
MOST_PROBLEMS = 20


# --- what was written -------------------------------------------------------------------------------------------------


def json_object(text: str, what: str) -> dict[str, Any]:
    """The JSON object that somebody wrote. Raises ConfigError, which shows nothing of it, when it is none.

    >>> json_object("[1]", "--metadata")
    Traceback (most recent call last):
    nango_dagster.errors.ConfigError: --metadata is a list; wanted a JSON object such as {"region": "eu"}.
    """
    return checked_object(read_json(text, what), what)


def read_json(text: str, what: str) -> Any:
    """The JSON document that somebody wrote. Raises ConfigError, which shows nothing of it, when it is none."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at line {error.lineno}, column {error.colno}"
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:
        reason = str(error)
    raise ConfigError(f"{what} is no JSON: {reason}.") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def credentials_of(text: str, what: str) -> dict[str, Any]:
    """The credentials that somebody wrote as JSON. Raises ConfigError, which shows no value, when they are none."""
    return check_credentials(read_json(text, what))


def wanted(document: Any) -> NewConnection:
    """The connection that a JSON object of its fields describes.

    >>> wanted({"integration": "github", "connection_id": "acme", "metadata": {"region": "eu"}}).connection_id
    'acme'
    """
    if isinstance(document, ConfigError):
        raise document
    if not isinstance(document, Mapping):
        raise ConfigError(f"a connection is {_kind(document)}; wanted a JSON object with {' and '.join(FIELDS[:2])}.")
    for name in document:
        if name not in FIELDS:
            raise ConfigError(f"{quoted(str(name))} is no field of a connection; {suggestion(str(name), FIELDS)}")
    integration, connection_id = (_name(document, field) for field in FIELDS[:2])
    held = document.get("credentials")
    metadata, config = (
        None if document.get(field) is None else checked_object(document[field], field) for field in FIELDS[3:]
    )
    return NewConnection(
        integration, connection_id, None if held is None else check_credentials(held), metadata, config
    )


def _name(document: Mapping[str, Any], field: str) -> str:
    found = document.get(field)
    if not isinstance(found, str) or not found.strip():
        raise ConfigError(f"{field} is {'missing' if found is None else _kind(found)}; wanted text.")
    return found


def checked_object(value: Any, what: str) -> dict[str, Any]:
    """A JSON object that somebody gave.

    Raises ConfigError when it is none, has stars where a secret was, or a name that the store needs for itself.
    """
    if not isinstance(value, dict):
        raise ConfigError(f'{what} is {_kind(value)}; wanted a JSON object such as {{"region": "eu"}}.')
    if _has_stars(value):
        raise ConfigError(f"{what} has {STARS}, which stands for a secret that was not shown; give the value itself.")
    if SEALED in value:
        raise ConfigError(f"{what} has {SEALED}, the name under which secrets are kept; choose another.")
    return value


def _has_stars(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value == STARS or any(map(_has_stars, inner))


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def many_wanted(text: str, file: str) -> list[NewConnection]:
    """The connections of a JSON list, or of JSON lines. Raises ConfigError with what is wrong, and where."""
    found: dict[tuple[str, str], tuple[int, NewConnection]] = {}
    problems: list[Problem] = []
    is_list, documents = _documents(text, file)
    for number, document in documents:
        try:
            one = wanted(document)
            names = (one.integration, one.connection_id)
            if names in found:
                before = f"{'item' if is_list else 'line'} {found[names][0]}"
                raise ConfigError(f"{one.integration} {quoted(one.connection_id)} is in {before} already.")
            found[names] = number, one
        except ConfigError as error:
            problems.append(_problem(str(error), file, number, is_list=is_list))
    if problems:
        raise ConfigError.of(*_some(problems, file))
    return [one for _, one in found.values()]


def _documents(text: str, file: str) -> tuple[bool, list[tuple[int, Any]]]:
    """Whether it is a list, and each line's or item's number with what stands there, or with why it is no JSON."""
    if text.lstrip().startswith("["):
        return True, list(enumerate(read_json(text, file), 1))
    return False, [(number, _line(line)) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _line(text: str) -> Any:
    try:
        return read_json(text, "the line")
    except ConfigError as error:
        return error


def _problem(sentence: str, file: str, number: int, *, is_list: bool) -> Problem:
    if is_list:
        return Problem(f"item {number}: {sentence}", file=file)
    return Problem(sentence, file=file, line=number)


def _some(problems: Sequence[Problem], file: str) -> list[Problem]:
    more = len(problems) - MOST_PROBLEMS
    return [*problems[:MOST_PROBLEMS], *([Problem(f"and {more:,} more.", file=file)] if more > 0 else [])]


# --- connections ------------------------------------------------------------------------------------------------------


def add(db: Database, settings: Settings, one: NewConnection, *, replace: bool = False) -> Done:
    """Make a connection, or with `replace` give the one that is there what is named.

    Raises Refused when there is one already, and ConfigError on PostgreSQL without a key for its credentials.
    """
    check_webhook_url(one.config)
    there = connections.get(db, one.integration, one.connection_id)
    if there is not None and not replace:
        raise Refused(
            f"{one.integration} has a connection {quoted(one.connection_id)} already; say replace (--replace), and it "
            "gets what is named, and keeps the rest."
        )
    connections.add_all(db, _vault(settings, [one]), [one])
    names = {"integration": one.integration, "connection_id": one.connection_id, "created": there is None}
    if there is not None:
        return Done(f"Changed {one.connection_id} of {one.integration}.", "", names)
    running = _running(db, one.integration)
    document = {**names, "syncs": running}
    return Done(f"Added {one.connection_id} to {one.integration}.", _what_runs(db, one.integration, running), document)


def add_all(db: Database, settings: Settings, several: Sequence[NewConnection]) -> Done:
    """Make all of these, and give those that are there what is named."""
    for one in several:
        check_webhook_url(one.config)
    new = connections.add_all(db, _vault(settings, several), several)
    integrations = sorted({one.integration for one in several})
    changed = len(several) - new
    document = {"created": new, "changed": changed, "integrations": integrations}
    said = f"Added {number_of(new, 'connection')}" + (f" and changed {changed:,}" if changed else "") + "."
    following = " ".join(_what_runs(db, name, _running(db, name)) for name in integrations[:5]) if new else ""
    return Done(said, following, document)


def check_webhook_url(config: Mapping[str, Any] | None) -> None:
    """Raise ConfigError where the URL of its own that a connection's config names is none; it is not shown."""
    url = (config or {}).get(OVERRIDE)
    if url is not None and not (isinstance(url, str) and is_url(url)):
        raise ConfigError(f"{OVERRIDE} cannot be used; wanted a URL such as https://example.com/hook.")


def own_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a connection's config is about a URL of its own for webhooks."""
    return {name: config[name] for name in (OVERRIDE, OVERRIDE_OVER_HTTP) if name in config}


def shown_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A connection's config as a person may see it: without secrets, and of a webhook's URL only the origin."""
    url = config.get(OVERRIDE)
    own = {OVERRIDE: webhooks.shown(url)} if isinstance(url, str) and is_url(url) else {}
    return {**public_json(config), **own}


def shown(document: Mapping[str, Any]) -> str:
    """JSON in a line, as people read it."""
    return json.dumps(document, ensure_ascii=False)


def _vault(settings: Settings, several: Sequence[NewConnection]) -> Vault | None:
    return vault_of(settings) if any(one.credentials is not None for one in several) else None


def _running(db: Database, integration: str) -> list[str]:
    """The syncs that run for each new connection of the integration."""
    return [row.name for row in of_integration(db, integration) if row.sync.enabled and row.sync.auto_start]


def of_integration(db: Database, integration: str) -> list[SyncRow]:
    """The syncs that run for the connections of an integration."""
    return [row for row in syncs.of_integration(db, integration) if row.sync.partitioned]


def _what_runs(db: Database, integration: str, running: Sequence[str]) -> str:
    if not running:
        named = {row.integration for row in syncs.all(db) if row.sync.partitioned}
        hint = f"; {suggestion(integration, named)}" if named and integration not in named else "."
        return f"No sync with integration: {integration} starts by itself yet{hint}"
    more = f" and {len(running) - 5} more syncs" if len(running) > 5 else ""
    verb = "run" if len(running) > 1 else "runs"
    return f"{', '.join(running[:5])}{more} {verb} for each new one {SOON}."


def find(db: Database, integration: str, connection_id: str) -> ConnectionRow:
    """The connection of this name. Raises ConfigError with those there are when there is none."""
    row = connections.get(db, integration, connection_id)
    if row is None:
        raise _unknown(db, integration, connection_id)
    return row


def _unknown(db: Database, integration: str, connection_id: str) -> ConfigError:
    rows = connections.list_connections(db)
    names = [row.connection_id for row in rows if row.integration == integration]
    if names:
        return ConfigError(
            f"{integration} has no connection {quoted(connection_id)}; {suggestion(connection_id, names)}"
        )
    others = {row.integration for row in rows}
    if others:
        return ConfigError(f"no connection is of integration {quoted(integration)}; {suggestion(integration, others)}")
    return ConfigError(none_yet(integration))


def held(db: Database, settings: Settings, row: ConnectionRow) -> dict[str, Any] | None:
    """The kind of a connection's credentials and the names of their fields; None where there are none."""
    if not row.has_credentials:
        return None
    try:
        found = connections.credentials(db, vault_of(settings), row.integration, row.connection_id) or {}
    except ConfigError as unreadable:
        return {"type": None, "fields": [], "unreadable": str(unreadable)}
    return {"type": found.get("type"), "fields": sorted(name for name in found if name != "type")}


def type_of(db: Database, settings: Settings, integration: str, connection_id: str) -> str:
    """The type of a connection's credentials; NONE where it has none, or is gone."""
    row = connections.get(db, integration, connection_id)
    found = None if row is None else held(db, settings, row)
    return "NONE" if found is None else str(found["type"])


def records_of(db: Database, integration: str, connection_id: str) -> int:
    """How many records are stored for a connection."""
    return sum(one.live_count for one in status.read(db, of_integration(db, integration), connection_id))


def remove(db: Database, integration: str, connection_id: str) -> Done:
    """Delete a connection with all that was stored for it. Raises ConfigError when there is none."""
    records = records_of(db, integration, connection_id)
    if not connections.remove(db, integration, connection_id):
        raise _unknown(db, integration, connection_id)
    document = {"integration": integration, "connection_id": connection_id, "removed": True, "records": records}
    return Done(f"Deleted {connection_id} of {integration} with its {number_of(records, 'record')}.", "", document)


def set_metadata(
    db: Database, integration: str, connection_id: str, metadata: Mapping[str, Any], *, merge: bool = False
) -> Done:
    """Replace a connection's metadata, or with `merge` set these keys. Raises ConfigError when there is none."""
    change = connections.update_metadata if merge else connections.set_metadata
    if not change(db, integration, connection_id, metadata):
        raise _unknown(db, integration, connection_id)
    stored = find(db, integration, connection_id).metadata
    document = {"integration": integration, "connection_id": connection_id, "metadata": public_json(stored)}
    said = f"{connection_id} of {integration} has the metadata {shown(document['metadata'])}."
    return Done(said, "", document)


# --- variants ---------------------------------------------------------------------------------------------------------


def add_variant(db: Database, row: SyncRow, connection_id: str, variant: str) -> Done:
    """Give a connection one more variant of a sync.

    Raises Refused when it has it, or the sync no connections, and ConfigError when the sync does not run for it.
    """
    if not row.sync.partitioned:
        raise Refused(f"{row.name} has no connections, for it names no integration; so it has no variants either.")
    check_runs_for(db, row, connection_id)
    if not connections.add_variant(db, row.id, connection_id, variant):
        raise Refused(f"{row.name} has the variant {quoted(variant)} for {connection_id} already.")
    document = {"sync": row.name, "connection_id": connection_id, "variant": variant, "created": True}
    (made,) = status.read(db, [row], connection_id, variant)
    following = f"It runs {SOON}." if made.started == "STARTED" else "It is paused, as the base is."
    return Done(f"Added the variant {variant} of {row.name} for {connection_id}.", following, document)


def remove_variant(db: Database, row: SyncRow, connection_id: str, variant: str) -> Done:
    """Delete a variant with all that was stored for it. Raises ConfigError when there is none, Refused for the base."""
    there = status.read(db, [row], connection_id)
    if not connections.remove_variant(db, row.id, connection_id, variant):
        check_runs_for(db, row, connection_id)
        others = [one.variant for one in there if one.variant != BASE]
        said = f"{row.name} has no variant {quoted(variant)} for {connection_id}"
        raise ConfigError(f"{said}; {suggestion(variant, others)}")
    records = sum(one.live_count for one in there if one.variant == variant)
    names = {"sync": row.name, "connection_id": connection_id, "variant": variant}
    said = f"Deleted the variant {variant} of {row.name} for {connection_id} with its {number_of(records, 'record')}."
    return Done(said, "", {**names, "removed": True, "records": records})
