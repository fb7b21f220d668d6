"""What people ask of syncs: start, pause, trigger, cancel, another frequency; and what each says that it did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..config.frequency import minutes
from ..config.source import quoted
from ..errors import ConfigError, Refused
from ..partition_keys import BASE
from ..sentences import number_of, suggestion
from ..store import Database, queue, status
from ..store.queue import CANCEL_SECONDS
from ..store.status import Status, frequency_of
from ..store.syncs import SyncRow

SOON = "within seconds where `nango-dagster dev` or a Dagster daemon is up"


@dataclass(frozen=True)
class Done:
    """What was done, in a sentence, what happens next, and both for machines."""

    sentence: str
    following: str
    document: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.sentence} {self.following}".strip()


@dataclass(frozen=True)
class Selection:
    """The connections and variants of a sync that somebody means, as they were a moment ago; there is one at least."""

    db: Database
    row: SyncRow
    connection_id: str | None
    variant: str | None
    found: Sequence[Status]

    @property
    def names(self) -> tuple[int, str | None, str | None]:
        """How the queue is told of them."""
        return self.row.id, self.connection_id, self.variant

    @property
    def held(self) -> int:
        """How many are being executed."""
        return sum(one.is_held for one in self.found)

    def __str__(self) -> str:
        """How sentences call them: the sync, and for which connections."""
        name = self.row.name
        if not self.row.sync.partitioned:
            return name
        if len(self.found) == 1:
            (one,) = self.found
            return f"{name} for {one.connection_id}" + ("" if one.variant == BASE else f", variant {one.variant}")
        accounts = len({one.connection_id for one in self.found})
        which = self.connection_id if accounts == 1 else number_of(accounts, "connection")
        more = f" in {len(self.found):,} variants" if len(self.found) > accounts else ""
        return f"{name} for {which}{more}"

    def document(self, **more: Any) -> dict[str, Any]:
        """What machines are told."""
        names = {"sync": self.row.name, "integration": self.row.integration}
        return {**names, "connection_id": self.connection_id, "variant": self.variant, **more}


# --- who is meant -----------------------------------------------------------------------------------------------------


def sync_of(rows: Iterable[SyncRow], name: str, integration: str | None = None) -> SyncRow:
    """The sync of this name. Raises ConfigError with those there are, or when several integrations have one."""
    known = [row for row in rows if integration in (None, row.integration)]
    found = [row for row in known if row.name == name]
    if len(found) > 1:
        integrations = ", ".join(sorted(row.integration for row in found))
        raise ConfigError(f"several integrations have a sync {name}: {integrations}; name the integration, too.")
    if not found:
        where = "" if integration is None else f" of integration {quoted(integration)}"
        raise ConfigError(f"there is no sync {quoted(name)}{where}; {suggestion(name, [row.name for row in known])}")
    return found[0]


def select(db: Database, row: SyncRow, connection_id: str | None = None, variant: str | None = None) -> Selection:
    """All connections and variants of a sync, unless named. Raises ConfigError with those there are for none."""
    found = status.read(db, [row], connection_id, variant)
    if not found:
        check_runs_for(db, row, connection_id)
        of_it = [name for one, name in queue.partitions(db, row.id) if connection_id in (None, one)]
        account = f" for {connection_id}" if connection_id else ""
        raise ConfigError(f"{row.name} has no variant {quoted(variant)}{account}; {_others(variant, of_it)}")
    return Selection(db, row, connection_id, variant, found)


def _others(variant: str | None, names: Iterable[str]) -> str:
    return suggestion(str(variant), sorted(set(names)))


def check_runs_for(db: Database, row: SyncRow, connection_id: str | None) -> None:
    """Raises ConfigError with those it does run for, when a sync does not run for the connection."""
    names = list(dict.fromkeys(name for name, _ in queue.partitions(db, row.id)))
    if connection_id in names or (connection_id is None and names):
        return
    if not row.sync.partitioned:
        raise ConfigError(f"{row.name} has no connections, for it names no integration; leave the connection out.")
    if not names:
        raise ConfigError(f"{row.name} runs for no connection: {none_yet(row.integration)}")
    said = f"{row.name} does not run for a connection {quoted(connection_id)}"
    raise ConfigError(f"{said}; {suggestion(str(connection_id), names)}")


def none_yet(integration: str) -> str:
    """What to do where an integration has no connection."""
    command = f"nango-dagster connections add --integration {integration} --connection NAME"
    return f"{integration} has no connections yet; make one with: {command}"


# --- what is done -----------------------------------------------------------------------------------------------------


def trigger(who: Selection, *, reset: bool = False, empty_cache: bool = False) -> Done:
    """Ask for an execution now, also of what is paused; what is being executed is left alone, but for a `reset`.

    Raises Refused when nothing would come of it.
    """
    check_may_run(who.row)
    if empty_cache and not reset:
        raise Refused("the cache is emptied with a reset only; ask for both. Nothing was done.")
    count = queue.trigger(who.db, *who.names, reset=reset, empty_cache=empty_cache)
    document = who.document(triggered=count, reset=reset, empty_cache=empty_cache)
    if count == 0:
        return Done(f"{who} is being executed right now; nothing was asked for.", "", document)
    how = " from the first record on, its records deleted before" if empty_cache else " from the first record on"
    return Done(f"Triggered {who}{how if reset else ''}.", _after_trigger(who, reset=reset), document)


def _after_trigger(who: Selection, *, reset: bool) -> str:
    begins = f"It begins {SOON}."
    if who.held == 0:
        return begins
    left = "is cancelled first" if reset else "was left alone"
    return f"{begins} What is being executed right now ({who.held:,}) {left}."


def start(who: Selection) -> Done:
    """Let them run at their times; what was paused begins at once."""
    check_may_run(who.row)
    paused = sum(one.started == "PAUSED" for one in who.found)
    count = queue.set_state(who.db, who.row.id, "STARTED", *who.names[1:])
    following = f"What was paused ({paused:,}) begins {SOON}." if paused else "Nothing was paused."
    return Done(f"Started {who}.", following, who.document(started=count, were_paused=paused))


def pause(who: Selection) -> Done:
    """Let them run at their times no more; what is being executed goes on to its end."""
    count = queue.set_state(who.db, who.row.id, "PAUSED", *who.names[1:])
    rest = f"What is being executed ({who.held:,}) goes on to its end. " if who.held else ""
    document = who.document(paused=count, executing=who.held)
    return Done(f"Paused {who}.", f"{rest}Nothing more begins until a start or a trigger.", document)


def cancel(who: Selection) -> Done:
    """Stop what is being executed, and drop what was asked for."""
    count = queue.cancel(who.db, *who.names)
    if count == 0:
        return Done(
            f"Nothing of {who} is being executed; what was asked for is dropped.", "", who.document(cancelled=0)
        )
    following = f"Within {CANCEL_SECONDS:g} seconds it ends at its next page; the pages before are kept."
    return Done(f"Cancelled {number_of(count, 'execution')} of {who}.", following, who.document(cancelled=count))


def frequency(who: Selection, every: str | None) -> Done:
    """Give a connection a frequency of its own, or None for the sync's again. Raises ConfigError when it is none."""
    check_may_run(who.row)
    if who.row.sync.partitioned and who.connection_id is None:
        said = f"the frequency of all is that of the config of {who.row.name}; name a connection for one of its own."
        raise Refused(said)
    count = queue.set_frequency(who.db, *who.names, every)
    now = status.read(who.db, [who.row], who.connection_id, who.variant)
    coming = min((one.next_run_at for one in now if one.next_run_at), default=None)
    document = who.document(changed=count, frequency=every, next_run_at=coming and coming.isoformat())
    runs = (
        f"follows its sync again, {frequency_of(who.row.sync)}"
        if every is None
        else f"has a frequency of its own, {status.every(timedelta(minutes=minutes(every)))}"
    )
    following = "It has no next run." if coming is None else f"Its next run is at {coming:%Y-%m-%d %H:%M} UTC."
    if any(one.is_due for one in now):
        following = f"It is due, and begins {SOON}."
    return Done(f"{who} {runs}.", following, document)


def check_may_run(row: SyncRow) -> None:
    """Raises Refused for a sync that nobody but its own asset, or nobody at all, executes."""
    if row.origin == "asset":
        raise Refused(f"{row.name} is an asset of your own; it runs when Dagster materializes it. Nothing was done.")
    if not row.sync.enabled:
        raise Refused(f"{row.name} has enabled: false; take that out of its config. Nothing was done.")
