"""`webhooks`: notifications that have not arrived yet."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from ..errors import Refused
from ..sentences import number_of
from .command import Session, command, grid, group
from .formatting import iso, local_time

if TYPE_CHECKING:
    from ..store.outbox import Delivery, Listed

webhooks = group(
    "webhooks",
    """Show and repeat notifications that have not arrived.

    When a sync has changed records, or has failed, the sensor `nango_webhooks` tells NANGO_WEBHOOK_URL. What a receiver
    does not take is tried again for more than a day, and is dead then.
    """,
    example="webhooks list",
)


@command("list", example="webhooks list --dead")
@click.option("--dead", is_flag=True, help="Only those that are tried no more.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, metavar="N", show_default=True, help="So many at most."
)
def list_(session: Session, dead: bool, limit: int) -> None:
    """List the notifications that wait for their receivers, and those that are dead.

    With --json, for each: id, delivery_id (which the receiver sees), state (pending or dead), kind (changes, failure or
    auth), integration, connection_id, variant, sync, model, target (primary or secondary), added, updated, deleted,
    tries, next_try_at, last_error, created_at.
    """
    from ..store import outbox

    with session.database() as database:
        found = outbox.listed(database, state="dead" if dead else None, limit=limit)
        depth = outbox.depth(database)
    now = datetime.now(timezone.utc)
    headings = ["id", "state", "what", "connection", "to", "tries", "next try", "last error"]
    rows = [_row(one, now) for one in found]
    counted = f"{number_of(depth['pending'], 'webhook')} waiting, {depth['dead']:,} dead"
    session.answer(
        [_document(one) for one in found],
        *([grid(headings, rows, right=["tries"]), ""] if rows else []),
        counted if any(depth.values()) else "no webhooks wait",
    )


def _row(one: Listed, now: datetime) -> list[Any]:
    told = one.delivery
    next_try = local_time(one.next_try_at, now) if one.state == "pending" else ""
    whose = told.connection_id if told.variant in ("base", "") else f"{told.connection_id} ({told.variant})"
    return [str(told.id), one.state, _what(told), whose, told.target, told.attempts, next_try, one.last_error]


def _what(told: Delivery) -> str:
    if told.kind == "auth":
        return f"{told.integration}: credentials refused"
    if told.kind == "failure":
        return f"{told.sync_name}: failed"
    return f"{told.sync_name}: {told.added:,} added, {told.updated:,} updated, {told.deleted:,} deleted"


def _document(one: Listed) -> dict[str, Any]:
    told = one.delivery
    return {
        "id": told.id,
        "delivery_id": told.delivery_id,
        "state": one.state,
        "kind": told.kind,
        "integration": told.integration,
        "connection_id": told.connection_id,
        "variant": told.variant,
        "sync": told.sync_name,
        "model": told.model,
        "target": told.target,
        "added": told.added,
        "updated": told.updated,
        "deleted": told.deleted,
        "tries": told.attempts,
        "next_try_at": iso(one.next_try_at) if one.state == "pending" else None,
        "last_error": one.last_error,
        "created_at": iso(told.created_at),
    }


@command("redeliver", example="webhooks redeliver --all")
@click.argument("ids", metavar="[ID...]", type=int, nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All that are dead.")
def redeliver(session: Session, ids: tuple[int, ...], all_: bool) -> None:
    """Have dead notifications tried again.

    Those with these ids, of `webhooks list`, or all. The sensor takes them to their receivers within seconds, with as
    many tries as new ones, and with the delivery id that they always had.

    With --json: redelivered (how many).
    """
    from ..store import outbox

    if all_ is bool(ids):
        raise Refused("wanted either ids of `webhooks list --dead` or --all. Nothing was done.")
    with session.database() as database:
        if missing := sorted(set(ids) - outbox.known(database, ids)):
            said = f"no webhook has the id {', '.join(map(str, missing))}; it has arrived, or there never was one."
            raise Refused(f"{said} Nothing was done.")
        count = outbox.redeliver(database, None if all_ else ids)
    if ids and count < len(set(ids)):
        said = f"{count:,} of {len(set(ids)):,} were dead and are tried again; the others wait."
    else:
        said = f"{number_of(count, 'webhook')} will be tried again." if count else "no webhook is dead"
    session.answer({"redelivered": count}, said)


for _command in (list_, redeliver):
    webhooks.add_command(_command)
