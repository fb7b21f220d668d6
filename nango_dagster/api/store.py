"""The store as requests use it: opened when it is first needed, and tried again when it was down."""

from __future__ import annotations

import threading
from time import monotonic

from ..errors import ConfigError, StoreUnavailable, StoreUnreachable
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
        self._failed: tuple[float, StoreUnavailable] = (float("-inf"), StoreUnavailable(""))

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
        at, failure = self._failed
        if monotonic() - at < PATIENCE:
            raise _again(failure)
        try:
            return open_database(self._settings, serving=True)
        except (StoreUnavailable, ConfigError) as error:
            failure = _again(error)
            self._failed = (monotonic(), failure)
            raise failure from None

    def close(self) -> None:
        """Close what was opened here."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None


def _again(error: Exception) -> StoreUnavailable:
    """The same once more, without the stack of the first."""
    return (StoreUnreachable if isinstance(error, StoreUnreachable) else StoreUnavailable)(str(error))
