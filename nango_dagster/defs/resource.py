"""The `nango` resource: the settings and the store, opened when a run first needs it."""

from __future__ import annotations

import threading
from functools import cached_property

from ..config import Sync
from ..settings import Settings
from ..store import Database, open_database, syncs
from ..store.syncs import SyncRow


class NangoResource:
    """What assets, the IO manager and sensors share in one process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()

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

    def row(self, sync: Sync) -> SyncRow:
        """The sync as the store knows it, made or brought up to date."""
        return syncs.register(self.database, [sync])[sync.name]
