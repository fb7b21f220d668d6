"""The `nango` resource: the settings and the store, which is opened on first use."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from functools import cached_property

from dagster import AssetKey

from ..config import Integration, Sync
from ..errors import Refused
from ..settings import Settings
from ..store import Database, integrations, open_database, syncs
from ..store.sync_row import SyncRow
from . import logs, names
from .placements import Placement

log = logging.getLogger(__name__)


class NangoResource:
    """The settings, the store and the loaded syncs, shared by the assets, the IO manager and the sensors of a process.

    Without `settings` they are read from the environment on first use.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._given = settings
        self._declared: tuple[Integration, ...] = ()
        self._placements: dict[tuple[str, str], Placement] = {}
        self._posted: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._registered: dict[tuple[str, str], str] = {}

    @cached_property
    def settings(self) -> Settings:
        """The settings; reading them sets the log level of the package."""
        settings = self._given or Settings.from_env()
        logs.follow(settings)
        return settings

    @property
    def database(self) -> Database:
        """The store, with its tables upgraded.

        Raises StoreUnavailable when the database cannot be reached.
        """
        with self._lock:
            return self._database

    @cached_property
    def _database(self) -> Database:
        return open_database(self.settings)

    def close(self) -> None:
        """Close the store; the next use opens it again."""
        with self._lock:
            if database := self.__dict__.pop("_database", None):
                database.close()

    # --- the loaded syncs ---------------------------------------------------------------------------------------------

    def place(self, placement: Placement, *, posted: bool = False) -> None:
        """Add a sync that was loaded; `posted` is whether it arrived over HTTP."""
        key = _key(placement.sync)
        self._placements[key] = placement
        (self._posted.add if posted else self._posted.discard)(key)

    @property
    def placements(self) -> list[Placement]:
        """The placements of all loaded syncs."""
        return list(self._placements.values())

    def placement(self, sync: Sync) -> Placement:
        """The placement of a sync; the default one for a sync that is not loaded here."""
        return self._placements.get(_key(sync)) or Placement.of(sync)

    def loaded(self, row: SyncRow) -> Sync | None:
        """The config of a stored sync as it is loaded here; None where it is not."""
        placement = self._placements.get((row.integration, row.name))
        return None if placement is None else placement.sync

    def sync_at(self, key: AssetKey) -> tuple[str, str] | None:
        """The integration and name of the sync whose asset has this key; None where no sync has such a key."""
        keys = (pair for pair, placement in self._placements.items() if placement.asset_key == key)
        return next(keys, None) or names.sync_of(key)

    # --- their rows in the store --------------------------------------------------------------------------------------

    def row(self, sync: Sync) -> SyncRow:
        """The row of a sync in the store, created or updated from its config.

        The row of a posted sync is not updated: it may be newer than these definitions. Raises Refused when it was
        deleted.
        """
        if _key(sync) not in self._posted:
            return syncs.register(self.database, [sync])[sync.name]
        row = syncs.by_name(self.database, sync.name, sync.integration_key)
        if row is None:
            raise Refused(f"{sync.display_name}: this sync was deleted; reload the code location to remove its asset.")
        return row

    def declare(self, integrations: Iterable[Integration]) -> None:
        """Have `register` store the integrations that config files declare."""
        self._declared = (*self._declared, *integrations)

    def register(self) -> None:
        """Store the integrations, and the loaded syncs that were not posted; unchanged ones once in each process."""
        new = {
            key: placement.sync
            for key, placement in self._placements.items()
            if key not in self._posted and self._registered.get(key) != placement.sync.fingerprint()
        }
        if self._declared:
            integrations.declare(self.database, self._declared)
            self._declared = ()
        if new:
            syncs.register(self.database, new.values(), on_refused=log.warning)
            self._registered.update({key: sync.fingerprint() for key, sync in new.items()})


def _key(sync: Sync) -> tuple[str, str]:
    return sync.integration_key, sync.name
