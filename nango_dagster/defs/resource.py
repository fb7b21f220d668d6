"""The `nango` resource: the settings and the store, opened when a run first needs it."""

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
    """What assets, the IO manager and sensors share in one process.

    Without `settings` the environment says them, when they are first needed.
    """

    def __init__(self, settings: Settings | None = None, posted: Iterable[Sync] = ()) -> None:
        self._given = settings
        self._posted = {_key(sync) for sync in posted}
        self._lock = threading.Lock()
        self._registered: dict[tuple[str, str], str] = {}

    @cached_property
    def settings(self) -> Settings:
        """The settings; our loggers follow their LOG_LEVEL from here on."""
        settings = self._given or Settings.from_env()
        logs.follow(settings)
        return settings

    @property
    def database(self) -> Database:
        """The store, its tables up to date.

        Raises StoreUnavailable when the database cannot be reached.
        """
        with self._lock:
            return self._database

    @cached_property
    def _database(self) -> Database:
        return open_database(self.settings)

    def close(self) -> None:
        """Close the store's connections, if there are any; the next use opens it again."""
        with self._lock:
            if database := self.__dict__.pop("_database", None):
                database.close()

    def row(self, sync: Sync) -> SyncRow:
        """The sync as the store knows it, made or brought up to date from its file.

        A posted one is what the store says, which may be newer than these definitions. Raises Refused when it is gone.
        """
        if _key(sync) not in self._posted:
            return syncs.register(self.database, [sync])[sync.name]
        row = syncs.by_name(self.database, sync.name, sync.integration_key)
        if row is None:
            raise Refused(f"{sync.display_name}: this sync was deleted; reload the code location, and its asset goes.")
        return row

    def register(self, wanted: Iterable[Sync]) -> None:
        """Make the store know the syncs that have files, once in this process unless they change."""
        new = {
            _key(sync): sync
            for sync in wanted
            if _key(sync) not in self._posted and self._registered.get(_key(sync)) != sync.fingerprint()
        }
        if new:
            syncs.register(self.database, new.values(), on_refused=log.warning)
            self._registered.update({key: sync.fingerprint() for key, sync in new.items()})


def _key(sync: Sync) -> tuple[str, str]:
    return sync.integration_key, sync.name
