"""The syncs, connections and variants that an operation is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from ..config.source import quoted
from ..errors import ConfigError, Refused
from ..partition_keys import BASE
from ..sentences import number_of, suggestion
from ..store import Database, queue, status
from ..store.status import Status
from ..store.sync_row import SyncRow


class SyncName(NamedTuple):
    """A sync's name and one variant of it."""

    name: str
    variant: str = BASE

    @classmethod
    def parse(cls, text: str) -> SyncName:
        """Read `name` or `name::variant`.

        >>> SyncName.parse("issues"), SyncName.parse("issues::eu")
        (SyncName(name='issues', variant='base'), SyncName(name='issues', variant='eu'))
        """
        name, _, variant = text.partition("::")
        return cls(name, variant or BASE)


@dataclass(frozen=True)
class Selection:
    """A sync with its connections and variants: all of them, or the named ones."""

    db: Database
    row: SyncRow
    connection_id: str | None = None
    variant: str | None = None

    @property
    def key(self) -> tuple[int, str | None, str | None]:
        """The arguments that name the selected schedules to `store.queue`."""
        return self.row.id, self.connection_id, self.variant

    @cached_property
    def statuses(self) -> Sequence[Status]:
        """The state of each selected connection and variant when it was first read."""
        return status.read(self.db, [self.row], self.connection_id, self.variant)

    @property
    def running(self) -> int:
        """The number of selected schedules that a run has claimed."""
        return sum(state.is_held for state in self.statuses)

    def __str__(self) -> str:
        """The sync's name, and the connections and variants, for sentences."""
        name = self.row.name
        if not self.row.sync.partitioned:
            return name
        if len(self.statuses) == 1:
            (state,) = self.statuses
            return f"{name} for {state.connection_id}" + ("" if state.variant == BASE else f", variant {state.variant}")
        connections = len({state.connection_id for state in self.statuses})
        connection = self.connection_id if connections == 1 else number_of(connections, "connection")
        variants = f" in {len(self.statuses):,} variants" if len(self.statuses) > connections else ""
        return f"{name} for {connection}{variants}"

    def document(self, **more: Any) -> dict[str, Any]:
        """The selection for machines, with `more` fields."""
        names = {"sync": self.row.name, "integration": self.row.integration}
        return {**names, "connection_id": self.connection_id, "variant": self.variant, **more}


def find_sync(rows: Iterable[SyncRow], name: str, integration: str | None = None) -> SyncRow:
    """Return the sync of this name. Raises ConfigError when there is none, or one in several integrations."""
    known = [row for row in rows if integration in (None, row.integration)]
    matches = [row for row in known if row.name == name]
    if len(matches) > 1:
        integrations = ", ".join(sorted(row.integration for row in matches))
        raise ConfigError(f"several integrations have a sync {name}: {integrations}; name the integration, too.")
    if not matches:
        where = "" if integration is None else f" of integration {quoted(integration)}"
        raise ConfigError(f"there is no sync {quoted(name)}{where}; {suggestion(name, [row.name for row in known])}")
    return matches[0]


def select(db: Database, row: SyncRow, connection_id: str | None = None, variant: str | None = None) -> Selection:
    """Select a sync's connections and variants. Raises ConfigError with the existing ones when none matches."""
    selection = Selection(db, row, connection_id, variant)
    if not selection.statuses:
        check_runs_for(db, row, connection_id)
        variants = sorted({name for _, name in queue.partitions(db, row.id, connection_id)})
        connection = f" for {connection_id}" if connection_id else ""
        raise ConfigError(
            f"{row.name} has no variant {quoted(variant)}{connection}; {suggestion(str(variant), variants)}"
        )
    return selection


def select_named(
    db: Database, rows: Sequence[SyncRow], names: Sequence[SyncName], connection_id: str | None
) -> Iterator[Selection]:
    """Select the syncs of these names and variants that exist, sync by sync; without names, all syncs and variants."""
    for row in rows:
        requested = dict.fromkeys(name.variant for name in names if name.name == row.name)
        if names and not requested:
            continue
        existing = {variant for _, variant in queue.partitions(db, row.id, connection_id)}
        if not names and existing:
            yield Selection(db, row, connection_id)
        for variant in requested:
            if variant in existing:
                yield Selection(db, row, connection_id, variant)


def may_run(row: SyncRow) -> bool:
    """Whether the dispatcher executes the sync."""
    return row.sync.enabled and row.origin != "asset"


def check_may_run(row: SyncRow) -> None:
    """Raise Refused for a sync that the dispatcher does not execute."""
    if row.origin == "asset":
        raise Refused(f"{row.name} is an asset of your own; it runs when Dagster materializes it. Nothing was done.")
    if not row.sync.enabled:
        raise Refused(f"{row.name} has enabled: false; take that out of its config. Nothing was done.")


def check_runs_for(db: Database, row: SyncRow, connection_id: str | None) -> None:
    """Raise ConfigError with the sync's connections when the named one is not among them, or when it has none."""
    names = list(dict.fromkeys(name for name, _ in queue.partitions(db, row.id)))
    if connection_id in names or (connection_id is None and names):
        return
    if not row.sync.partitioned:
        raise ConfigError(f"{row.name} has no connections, for it names no integration; leave the connection out.")
    if not names:
        raise ConfigError(f"{row.name} runs for no connection: {no_connections(row.integration)}")
    problem = f"{row.name} does not run for a connection {quoted(connection_id)}"
    raise ConfigError(f"{problem}; {suggestion(str(connection_id), names)}")


def no_connections(integration: str) -> str:
    """The sentence about an integration without connections, with the command that adds one."""
    command = f"nango-dagster connections add --integration {integration} --connection NAME"
    return f"{integration} has no connections yet; make one with: {command}"
