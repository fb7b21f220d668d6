"""`webhooks`: notifications that are not delivered yet."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from .. import clock
from ..errors import Refused
from ..sentences import number_of
from .command import Session, command, grid, group
from .formatting import iso, local_time

if TYPE_CHECKING:
    from ..store.outbox import Delivery, Listed

webhooks = group(
    "webhooks",
    """Show and repeat notifications that are not delivered.

    When a sync has changed records or has failed, the sensor `nango_webhooks` notifies NANGO_WEBHOOK_URL. A failed
    delivery is tried again for more than a day. After that, the notification is dead.
    """,
    example="webhooks list",
)


@command("list", example="webhooks list --dead")
@click.option("--dead", is_flag=True, help="Only dead notifications.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    metavar="N",
    show_default=True,
    help="The largest number to list.",
)
def list_(session: Session, dead: bool, limit: int) -> None:
    """List the notifications that wait for delivery, and the dead ones.

    With --json, for each: id, delivery_id (as the receiver gets it), state (pending or dead), kind (changes, failure or
    auth), integration, connection_id, variant, sync, model, target (primary or secondary), added, updated, deleted,
    tries, next_try_at, last_error, created_at.
    """
    from ..store import outbox

    with session.database() as database:
        listed = outbox.listed(database, state="dead" if dead else None, limit=limit)
        depth = outbox.depth(database)
    now = clock.now()
    headings = ["id", "state", "what", "connection", "to", "tries", "next try", "last error"]
    rows = [_row(webhook, now) for webhook in listed]
    counted = f"{number_of(depth['pending'], 'webhook')} waiting, {depth['dead']:,} dead"
    session.answer(
        [_document(webhook) for webhook in listed],
        *([grid(headings, rows, right=["tries"]), ""] if rows else []),
        counted if any(depth.values()) else "no webhooks wait",
    )


def _row(webhook: Listed, now: datetime) -> list[Any]:
    delivery = webhook.delivery
    next_try = local_time(webhook.next_try_at, now) if webhook.state == "pending" else ""
    whose = (
        delivery.connection_id if delivery.variant in ("base", "") else f"{delivery.connection_id} ({delivery.variant})"
    )
    return [
        str(delivery.id),
        webhook.state,
        _what(delivery),
        whose,
        delivery.target,
        delivery.attempts,
        next_try,
        webhook.last_error,
    ]


def _what(delivery: Delivery) -> str:
    if delivery.kind == "auth":
        return f"{delivery.integration}: credentials refused"
    if delivery.kind == "failure":
        return f"{delivery.sync_name}: failed"
    return f"{delivery.sync_name}: {delivery.added:,} added, {delivery.updated:,} updated, {delivery.deleted:,} deleted"


def _document(webhook: Listed) -> dict[str, Any]:
    delivery = webhook.delivery
    return {
        "id": delivery.id,
        "delivery_id": delivery.delivery_id,
        "state": webhook.state,
        "kind": delivery.kind,
        "integration": delivery.integration,
        "connection_id": delivery.connection_id,
        "variant": delivery.variant,
        "sync": delivery.sync_name,
        "model": delivery.model,
        "target": delivery.target,
        "added": delivery.added,
        "updated": delivery.updated,
        "deleted": delivery.deleted,
        "tries": delivery.attempts,
        "next_try_at": iso(webhook.next_try_at) if webhook.state == "pending" else None,
        "last_error": webhook.last_error,
        "created_at": iso(delivery.created_at),
    }


@command("redeliver", example="webhooks redeliver --all")
@click.argument("ids", metavar="[ID...]", type=int, nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All dead notifications.")
def redeliver(session: Session, ids: tuple[int, ...], all_: bool) -> None:
    """Try dead notifications again.

    It repeats the notifications with the given ids of `webhooks list`, or all dead ones with --all. The sensor sends
    them within seconds. They keep their delivery id and get the full number of tries.

    With --json: redelivered (how many).
    """
    from ..store import outbox

    if all_ is bool(ids):
        raise Refused("give either ids of `webhooks list --dead` or --all. Nothing was done.")
    with session.database() as database:
        if missing := sorted(set(ids) - outbox.known(database, ids)):
            ids_missing = ", ".join(map(str, missing))
            raise Refused(f"no webhook has the id {ids_missing}; it is delivered or never existed. Nothing was done.")
        count = outbox.redeliver(database, None if all_ else ids)
    if ids and count < len(set(ids)):
        summary = f"{count:,} of {len(set(ids)):,} were dead and are tried again; the others wait."
    else:
        summary = f"{number_of(count, 'webhook')} will be tried again." if count else "no webhook is dead"
    session.answer({"redelivered": count}, summary)


for _command in (list_, redeliver):
    webhooks.add_command(_command)
