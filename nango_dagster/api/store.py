"""The store as requests use it: opened when it is first needed, and tried again when it was down."""

from __future__ import annotations

import threading
from time import monotonic

from ..errors import ConfigError, StoreUnavailable
from ..settings import Settings
from ..store import Database, open_database

PATIENCE = 2.0  # seconds for which a failure is told to others who ask, rather than each waiting for its own


class Store:
    """Opens the database once, for all threads."""

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        self._settings = settings
        self._given = database
        self._opened: Database | None = None
        self._lock = threading.Lock()
        self._failed: tuple[float, str] = (float("-inf"), "")

    @property
    def database(self) -> Database:
        """The store, its tables up to date.

        Raises StoreUnavailable when the database cannot be reached, or is a newer release's.
        """
        if self._given is not None:
            return self._given
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def _open(self) -> Database:
        at, sentence = self._failed
        if monotonic() - at < PATIENCE:
            raise StoreUnavailable(sentence)
        try:
            return open_database(self._settings, serving=True)
        except (StoreUnavailable, ConfigError) as error:
            self._failed = (monotonic(), str(error))
            raise StoreUnavailable(str(error)) from None

    def close(self) -> None:
        """Close what was opened here."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None
