"""The `nango` resource: the settings and the store, which is opened on first use."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from functools import cached_property

from ..config import Sync
from ..errors import Refused
from ..settings import Settings
from ..store import Database, open_database, syncs
from ..store.sync_row import SyncRow
from . import logs

log = logging.getLogger(__name__)


class NangoResource:
    """The settings and the store, shared by the assets, the IO manager and the sensors of a process.

    Without `settings` they are read from the environment on first use.
    """

    def __init__(self, settings: Settings | None = None, posted: Iterable[Sync] = ()) -> None:
        self._given = settings
        self._posted = {_key(sync) for sync in posted}
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

    def register(self, configs: Iterable[Sync]) -> None:
        """Create or update the rows of syncs that were not posted; unchanged ones once in each process."""
        new = {
            _key(sync): sync
            for sync in configs
            if _key(sync) not in self._posted and self._registered.get(_key(sync)) != sync.fingerprint()
        }
        if new:
            syncs.register(self.database, new.values(), on_refused=log.warning)
            self._registered.update({key: sync.fingerprint() for key, sync in new.items()})


def _key(sync: Sync) -> tuple[str, str]:
    return sync.integration_key, sync.name
