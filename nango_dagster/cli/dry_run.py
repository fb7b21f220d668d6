"""`dry-run`: what a sync would fetch and store, without storing it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import click

from ..config import Sync
from ..errors import ConfigError, NangoError, RecordRejected, Refused
from ..mapping import Column, columns_of
from ..models import misfit, validator
from ..records import decode, key_reader
from .command import Session, as_json, command, fail, grid, sync_argument
from .example_parent import ExampleParent, example_parent
from .formatting import number_of
from .sample import sample_api
from .script_dry_run import ScriptOptions, dry_run_script, script_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..fetch import Fetch
    from ..http import Reach
    from ..runs.access import ConnectionAccess
    from ..store import Database

SHOWN = 3  # records
STOPS = {
    "single_page": "the sync names no paging field, so this is the whole list",
    "no_cursor": "the answer has no cursor for a next page",
    "no_next_url": "the answer has no URL of a next page",
    "empty_page": "the last page was empty",
    "empty_pages": "ten pages in a row were empty, though each said where to go on",
    "more_left": "the API says that there is more, but not how to get it",
    "has_more_false": "the API says that there is no more",
    "end": "the API says that this was the last page",
    "end_rule": "an answer says that there are no more pages",
    "total_reached": "all records that the API counts were read",
    "last_page": "all pages that the API counts were read",
    "last_page_again": "the API answers every further page number or offset with records that came before",
    "cursor_stays": "the cursor moves no more",
    "skipped": "a rule left a page out, so this is not the whole list",
    "max_total": "max_total was reached",
    "max_pages": "these are all requested pages",
    "not_modified": "the API says that nothing has changed",
}


@dataclass
class FetchedRecords:
    """The decoded records and their keys, the rejected ones, and the error that ended the fetch."""

    records: list[Any] = field(default_factory=list)
    keys: list[str | RecordRejected] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None


@command("dry-run", example="dry-run pokemon --pages 2")
@sync_argument
@click.option(
    "--pages",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="The number of pages to fetch.",
)
@click.option("--connection", metavar="ID", help="The connection to read, if the sync has an integration.")
@script_options
def dry_run(session: Session, name: str, pages: int, connection: str | None, **script: Any) -> None:
    """Fetch and show records without storing them.

    It shows the first records, the columns and types of a new table, the values of the unique_key, and the next
    request, or the reason why paging stopped. It opens the database only for connections, and for a sync with for_each:
    it reads the list of one example parent, a stored record or the first record of the parents' API.

    A script runs to its end; --pages does not apply. The records that it would save are compared with its models.

    With --json: sync, parent (the record; null without for_each), pages, requests, records (all that were fetched),
    rejected, columns (name, type, path), keys (unique_key, distinct, repeated, missing), misfits (why records do not
    fit their model, with counts; null without a model), next_request, stop (reason, complete), rules (that decided the
    meaning of an answer), doubt (about the end of the list), error. For a script: sync, saved, updated and deleted (by
    model), checkpoint, metadata, rejected, warnings, requests, error.
    """
    from ..fetch import Fetch

    session.describe_scripts()
    sync, options = session.sync(name), ScriptOptions(**script)
    if sync.script is not None:
        with _access(session, sync, connection) as account:
            dry_run_script(session, sync, account, _reach(session, sync), options)
        return
    if options.given:
        given = " and ".join(options.given)
        raise Refused(f"{sync.name} is no script; dry-run takes {given} for a script only.")
    with sample_api(session, [sync]) as session, _access(session, sync, connection) as access:
        most = min(pages, sync.max_pages or pages)
        reach = _reach(session, sync)
        parent, used = example_parent(session, sync, connection, access, reach)
        fetch = Fetch(sync, access=used, max_pages=most, reach=reach)
        fetched = _read(sync, fetch, parent)
    columns = _columns(sync, fetched.records)
    keys, misfits = _keys(sync, fetched.keys), _misfits(sync, fetched.records)
    document = {
        "sync": sync.name,
        "parent": parent.record if parent else None,
        "pages": fetch.pages,
        "requests": fetch.requests,
        "records": fetched.records,
        "rejected": fetched.rejected,
        "columns": [{"name": column.name, "type": column.type.value, "path": column.path} for column in columns],
        "keys": keys,
        "misfits": misfits,
        "next_request": fetch.next_request if fetched.error is None else None,
        "stop": asdict(fetch.stop) if fetch.stop else None,
        "rules": fetch.rules,
        "doubt": fetch.paging_doubt,
        "warnings": fetch.warnings,
        "error": fetched.error,
    }
    if fetched.error is not None and not fetch.pages:
        fail(fetched.error, document if session.as_json else None)
    introduction = [str(parent)] if parent else []
    session.answer(document, *introduction, *_for_people(fetched, columns, keys, fetch), *_about_model(sync, misfits))
    if fetched.error is not None:
        fail(fetched.error)


def _reach(session: Session, sync: Sync) -> Reach:
    """The addresses that its requests may lead to; the database knows a host that the file leaves to a connection."""
    from ..runs.access import has_own_host, reach_of

    if has_own_host(sync):
        return "anywhere"
    with session.database() as database:
        return reach_of(database, session.settings)


@contextlib.contextmanager
def _access(session: Session, sync: Sync, connection_id: str | None) -> Iterator[ConnectionAccess]:
    """Values and credentials for the requests, of the connection where the sync has several."""
    from ..runs.access import of_account, of_connection

    if not sync.partitioned:
        if connection_id is not None:
            raise Refused(f"{sync.name} names no integration, so it has no connections; leave --connection out.")
        yield of_account(session.settings, sync)
        return
    with session.database() as database:
        account = connection_id or _only_one(database, sync)
        yield of_connection(database, session.settings, sync, account)


def _only_one(database: Database, sync: Sync) -> str:
    """The connection to read where there is no other. Raises ConfigError or Refused with what to do instead."""
    from ..control.selection import no_connections
    from ..store import connections

    names = [row.connection_id for row in connections.list_connections(database, sync.integration)]
    if not names:
        raise ConfigError(f"{sync.name} runs for no connection: {no_connections(sync.integration_key)}")
    if len(names) > 1:
        some = ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
        raise Refused(f"{sync.name} runs for {len(names):,} connections, {some}; say which with --connection ID.")
    return names[0]


def _read(sync: Sync, fetch: Fetch, parent: ExampleParent | None) -> FetchedRecords:
    """The pages, until the last one that was asked for or the first that fails."""
    fetched = FetchedRecords()
    read_keys = key_reader(sync.key_fields) if sync.key_fields else None
    try:
        for page in fetch:
            fetched.rejected += [{"page": page.number, **asdict(rejected)} for rejected in page.rejected]
            records = parent.children(page.records) if parent else page.records
            fetched.keys += read_keys(records) if read_keys else []
            fetched.records += _decoded(page.number, records, fetched.rejected)
    except NangoError as error:
        fetched.error = str(error)
    return fetched


def _decoded(number: int, records: Sequence[bytes], rejected: list[dict[str, Any]]) -> Iterator[Any]:
    for position, record in enumerate(records):
        try:
            yield decode(record)
        except RecordRejected as reason:
            rejected.append({"page": number, "position": position, "reason": str(reason)})


def _columns(sync: Sync, records: Sequence[Any]) -> list[Column]:
    """The columns that a new table would get."""
    from ..runs import load_function
    from ..store.tables import plan_of

    if not sync.auto_mapping:
        return []
    if sync.transform is not None:
        transform = load_function(sync.transform)
        records = [changed for record in records if (changed := transform(record)) is not None]
    return columns_of(records, plan_of(sync))


def _keys(sync: Sync, keys: Sequence[str | RecordRejected]) -> dict[str, Any] | None:
    if sync.unique_key is None:
        return None
    counts = Counter(key for key in keys if isinstance(key, str))
    return {
        "unique_key": sync.key_name,
        "distinct": len(counts),
        "repeated": counts.total() - len(counts),
        "missing": len(keys) - counts.total(),
    }


def _misfits(sync: Sync, records: Sequence[Any]) -> dict[str, int] | None:
    """Why records do not fit the model of the sync, and how many; None without a model."""
    if sync.record_model is None:
        return None
    schema = validator(sync.record_model.json_schema)
    return dict(Counter(reason for record in records if (reason := misfit(schema, record)) is not None))


def _about_model(sync: Sync, misfits: dict[str, int] | None) -> Iterator[str]:
    from ..store.validation import sentence

    if misfits is not None:
        yield sentence(sync.model, Counter(misfits)) if misfits else f"model: all records fit {sync.model}"


def _for_people(
    fetched: FetchedRecords, columns: Sequence[Column], keys: dict[str, Any] | None, fetch: Fetch
) -> Iterator[RenderableType]:
    if fetch.paging_doubt is not None:
        yield f"doubtful: {fetch.paging_doubt} The list may have more pages."
    yield from (f"warning: {sentence}" for sentence in fetch.warnings)
    shown = fetched.records[:SHOWN]
    counts = f"{number_of(len(fetched.records), 'record')} on {number_of(fetch.pages, 'page')}"
    yield f"{fetch.sync.display_name}: {counts}" + ("; the first ones:" if len(fetched.records) > SHOWN else "")
    for record in shown:
        yield as_json(record)
    for rejected in fetched.rejected:
        yield f"not readable: record {rejected['position']} of page {rejected['page']}: {rejected['reason']}"
    yield ""
    if columns:
        yield grid(["column", "type", "from"], [(column.name, column.type.value, column.path) for column in columns])
    else:
        yield "no columns: auto_mapping is off" if not fetch.sync.auto_mapping else "no columns"
    yield ""
    yield _about_keys(keys)
    yield from (f"rule: {rule}" for rule in fetch.rules)
    if fetched.error is None:
        yield _about_paging(fetch)


def _about_keys(keys: dict[str, Any] | None) -> str:
    if keys is None:
        return "keys: no unique_key, so each execution replaces all rows"
    text = f"keys: {number_of(keys['distinct'], 'different value')} of {keys['unique_key']}"
    text += f"; {number_of(keys['repeated'], 'record')} came more than once" if keys["repeated"] else ""
    return text + (f"; {number_of(keys['missing'], 'record')} without one cannot be stored" if keys["missing"] else "")


def _about_paging(fetch: Fetch) -> str:
    if fetch.next_request is not None:
        return f"next: {fetch.next_request}"
    reason = fetch.stop.reason if fetch.stop else ""
    return f"end: {STOPS.get(reason, reason)}"
