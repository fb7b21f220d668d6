"""Which syncs, connections and variants a caller means, in Nango's words; and its errors for those there are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ...config.source import quoted
from ...partition_keys import BASE
from ...sentences import suggestion
from ...store import Database, connections, queue, syncs
from ...store.syncs import SyncRow
from ..errors import HttpError
from .models import Strict

Key = Annotated[str, Field(min_length=1, max_length=255)]


class Named(Strict):
    """A sync's name and a variant of it."""

    name: Key
    variant: Key = BASE


def named(text: str) -> Named:
    """What `name` and `name::variant` stand for.

    >>> named("issues"), named("issues::eu")
    (Named(name='issues', variant='base'), Named(name='issues', variant='eu'))
    """
    name, _, variant = text.partition("::")
    return Named.model_construct(name=name, variant=variant or BASE)


def header_text(text: str) -> str:
    """A header's text: programs send UTF-8, or what HTTP took it for from of old, Latin-1.

    >>> header_text("acme-Ã¼"), header_text("acme-ü")
    ('acme-ü', 'acme-ü')
    """
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


def _taken_apart(value: Any) -> Any:
    if isinstance(value, str):
        return named(value)
    if isinstance(value, dict) and set(value) == {"name", "variant"}:
        return value
    raise ValueError("be a sync's name, or an object of name and variant")


Syncs = Annotated[
    list[Annotated[Named, BeforeValidator(_taken_apart, json_schema_input_type=str | Named)]],
    Field(
        max_length=256,
        description="Names, `name::variant`, or objects of both; none of them means all.",
        examples=[["issues"]],
    ),
]


def rows_of(db: Database, integration: str) -> list[SyncRow]:
    """The syncs of an integration. Raises HttpError when there is no such integration."""
    rows = syncs.of_integration(db, integration)
    if not rows and not connections.list_connections(db, integration):
        known = sorted({row.integration for row in syncs.all(db)})
        sentence = f"there is no integration {quoted(integration)}; {suggestion(integration, known)}"
        raise HttpError(400, "unknown_provider_config", sentence)
    return rows


def account_of(db: Database, rows: Sequence[SyncRow], integration: str, connection_id: str, code: int = 400) -> None:
    """Raises HttpError when the integration has no such connection.

    A sync of one account, which has no connections, has that account under a name of its own.
    """
    if connections.get(db, integration, connection_id) is not None:
        return
    if any(row.sync.connection_key == connection_id for row in rows if not row.sync.partitioned):
        return
    raise unknown_connection(integration, connection_id, code)


def unknown_connection(integration: str, connection_id: str, code: int = 400) -> HttpError:
    """The answer to a connection that is not there."""
    sentence = f"{integration} has no connection {quoted(connection_id)}; GET /connections lists those there are."
    payload = {"connectionId": connection_id, "providerConfigKey": integration}
    return HttpError(code, "unknown_connection", sentence, payload=payload)


@dataclass(frozen=True)
class Meant:
    """A sync, for all connections and variants unless named."""

    row: SyncRow
    connection_id: str | None
    variant: str | None

    @property
    def names(self) -> tuple[int, str | None, str | None]:
        """How the queue is told of them."""
        return self.row.id, self.connection_id, self.variant


def meant(
    db: Database, integration: str, wanted: Sequence[Named], connection_id: str | None, *, to_run: bool = False
) -> list[Meant]:
    """What a caller means by these names, sync by sync; without names all syncs and variants.

    With `to_run` only what may run. Raises HttpError for what there is not, before anything is done.
    """
    rows = rows_of(db, integration)
    if connection_id is not None:
        account_of(db, rows, integration, connection_id, 404)
    able = [row for row in rows if not to_run or (row.sync.enabled and row.origin != "asset")]
    found = list(_found(db, able, wanted, connection_id))
    names = {(one.row.name, one.variant) for one in found}
    missing = [one for one in wanted if (one.name, one.variant) not in names]
    if (missing and (connection_id is not None or not found)) or not (found or connection_id):
        hint = _hint(missing, able, to_run)
        raise HttpError(400, "no_syncs_found", f"No syncs found given the inputs. {hint}".strip())
    return found


def _found(
    db: Database, rows: Sequence[SyncRow], wanted: Sequence[Named], connection_id: str | None
) -> Iterator[Meant]:
    for row in rows:
        variants = dict.fromkeys(one.variant for one in wanted if one.name == row.name)
        if wanted and not variants:
            continue
        there = {variant for _, variant in queue.partitions(db, row.id, connection_id)}
        yield from (Meant(row, connection_id, one) for one in variants or [None] if one in there or (not one and there))


def _hint(missing: Sequence[Named], rows: Sequence[SyncRow], to_run: bool) -> str:
    """What there is instead of the first that is missing."""
    if not missing:
        return ""
    one = missing[0]
    if any(row.name == one.name for row in rows):
        return f"{one.name} does not run there as variant {quoted(one.variant)}."
    there = f"There is no sync {quoted(one.name)}{' to run' if to_run else ''}"
    return f"{there}; {suggestion(one.name, [row.name for row in rows])}"
