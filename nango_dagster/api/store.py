"""The store as requests use it: opened when it is first needed, and tried again when it was down."""

from __future__ import annotations

import threading

from .. import clock
from ..errors import ConfigError, StoreUnavailable, StoreUnreachable
from ..runs.access import keep_reach
from ..settings import Settings
from ..store import Database, open_database

PATIENCE = 2.0  # seconds for which a failure is told to others who ask, rather than each waiting for its own


class Store:
    """Opens the database once, for all threads."""

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        self._settings = settings
        self._given = database
        self._ready: Database | None = None
        self._lock = threading.Lock()
        self._failed: tuple[float, StoreUnavailable] = (float("-inf"), StoreUnavailable(""))

    @property
    def database(self) -> Database:
        """The store, its tables up to date, and its other processes told of this API's rule for URLs.

        Raises StoreUnavailable when the database cannot be reached, or is a newer release's.
        """
        with self._lock:
            if self._ready is None:
                self._ready = self._open()
            return self._ready

    def _open(self) -> Database:
        at, failure = self._failed
        if clock.monotonic() - at < PATIENCE:
            raise _copy(failure)
        try:
            database = self._given or open_database(self._settings, serving=True)
            try:
                keep_reach(database, self._settings)
            except BaseException:
                self._release(database)
                raise
            return database
        except (StoreUnavailable, ConfigError) as error:
            failure = _copy(error)
            self._failed = (clock.monotonic(), failure)
            raise failure from None

    def close(self) -> None:
        """Close the database if this object opened it."""
        with self._lock:
            if self._ready is not None:
                self._release(self._ready)
                self._ready = None

    def _release(self, database: Database) -> None:
        if database is not self._given:
            database.close()


def _copy(error: Exception) -> StoreUnavailable:
    """A new exception with the message of `error` and without its traceback."""
    return (StoreUnreachable if isinstance(error, StoreUnreachable) else StoreUnavailable)(str(error))
