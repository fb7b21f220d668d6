"""The syncs, connections and variants that an operation is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, NamedTuple

from ..config.source import quoted
from ..errors import ConfigError, Refused
from ..partition_keys import BASE
from ..sentences import number_of, suggestion
from ..store import Database, queue, status
from ..store.status import Status
from ..store.sync_row import SyncRow

_BATCH = 10_000  # schedules in one request: a statement takes a limited number of parameters


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
class Narrowing:
    """Which of many connections are selected: those whose names match a pattern, and those that failed."""

    match: str | None = None
    """A pattern with `*`, `?` and `[...]`, as file names are matched."""
    failed: bool = False
    """Only those whose last execution failed."""

    def __bool__(self) -> bool:
        """Whether it leaves any connection out."""
        return self.match is not None or self.failed

    def fits(self, state: Status) -> bool:
        """Whether a connection is selected."""
        has_failed = state.job is not None and state.job.status == "failed"
        return (has_failed or not self.failed) and (self.match is None or fnmatchcase(state.connection_id, self.match))


_ALL = Narrowing()


@dataclass(frozen=True)
class Selection:
    """A sync with its connections and variants: all of them, or the named ones."""

    db: Database
    row: SyncRow
    connection_id: str | None = None
    variant: str | None = None
    narrowing: Narrowing = _ALL

    def apply(self, request: Callable[..., int], **arguments: Any) -> int:
        """Make a request of `store.queue` to the selected schedules, in batches; returns how many accepted it."""
        batches: list[list[int] | None] = [None]
        if self.narrowing:
            ids = [state.id for state in self.statuses]
            batches = [ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH)]
        return sum(
            request(
                self.db, self.row.id, connection_id=self.connection_id, variant=self.variant, ids=batch, **arguments
            )
            for batch in batches
        )

    @cached_property
    def statuses(self) -> Sequence[Status]:
        """The state of each selected connection and variant when it was first read."""
        states = status.read(self.db, [self.row], self.connection_id, self.variant)
        return [state for state in states if self.narrowing.fits(state)]

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
        connection = self.statuses[0].connection_id if connections == 1 else number_of(connections, "connection")
        variants = f" in {len(self.statuses):,} variants" if len(self.statuses) > connections else ""
        return f"{name} for {connection}{variants}"

    def document(self, **more: Any) -> dict[str, Any]:
        """The selection for machines, with `more` fields."""
        names = {"sync": self.row.name, "integration": self.row.integration}
        narrowing = {"match": self.narrowing.match, "failed": self.narrowing.failed} if self.narrowing else {}
        return {**names, "connection_id": self.connection_id, "variant": self.variant, **narrowing, **more}


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


def select(
    db: Database,
    row: SyncRow,
    connection_id: str | None = None,
    variant: str | None = None,
    narrowing: Narrowing = _ALL,
) -> Selection:
    """Select a sync's connections and variants.

    Raises ConfigError with the existing ones when none matches, and Refused when none of them failed.
    """
    selection = Selection(db, row, connection_id, variant, narrowing)
    if not selection.statuses:
        check_runs_for(db, row, connection_id)
        if narrowing:
            _refuse_empty(db, selection)
        variants = sorted({name for _, name in queue.partitions(db, row.id, connection_id)})
        connection = f" for {connection_id}" if connection_id else ""
        raise ConfigError(
            f"{row.name} has no variant {quoted(variant)}{connection}; {suggestion(str(variant), variants)}"
        )
    return selection


def _refuse_empty(db: Database, selection: Selection) -> None:
    """Raise the error about a narrowed selection without connections, if that is due to what it is narrowed to."""
    name, match = selection.row.name, selection.narrowing.match
    states = status.read(db, [selection.row], selection.connection_id, selection.variant)
    if match is not None and not any(Narrowing(match).fits(state) for state in states):
        names = list(dict.fromkeys(state.connection_id for state in states))
        raise ConfigError(f"{name} has no connection that matches {quoted(match)}; {suggestion(match, names)}")
    if states:
        raise Refused(f"no selected connection of {name} failed in its last execution. Nothing was done.")


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
