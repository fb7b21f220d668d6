"""The objects that every route uses: the settings, the store, and the background work after a change."""

from __future__ import annotations

import logging
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from .. import posted
from ..errors import StoreUnavailable
from ..http import Reach
from ..runs.access import reach_of
from ..settings import Settings
from ..store import Database
from .background import CombinedWork
from .reload import Reloader
from .store import Store

log = logging.getLogger(__name__)

READERS = 4  # more of them would only wait for each other
SETTLE_SECONDS = 0.5  # a program posts its syncs one after another
SAVE_SECONDS = 1.0
RELOAD_SECONDS = 60.0  # a reload costs 6 to 15 seconds of CPU


class Service:
    """The settings, the store and the background work of one app."""

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        self.settings = settings
        self.store = Store(settings, database)
        self.readers = CapacityLimiter(READERS)
        """Threads for reading records alone, so that readers never wait for writers."""
        self._save = CombinedWork(self._save_posted, settle=SETTLE_SECONDS, pause=SAVE_SECONDS)
        self._reload = self._reloader(settings.dagster_url) if settings.dagster_url else None

    @property
    def database(self) -> Database:
        """The store, with the tables of this release."""
        return self.store.database

    @property
    def reach(self) -> Reach:
        """The hosts that posted URLs may name."""
        return reach_of(self.database, self.settings)

    def changed(self) -> None:
        """Save the posted syncs and reload Dagster, in the background; returns at once."""
        self._save.request()
        if self._reload:
            self._reload.request()

    def open(self) -> None:
        """Create the tables; if the database is down, the first request tries again."""
        try:
            _ = self.database
        except StoreUnavailable as error:
            log.warning("%s Requests are answered with 503 until it is back.", error)

    def close(self) -> None:
        """Save the posted syncs if that is due, and close the database."""
        if self._reload:
            self._reload.close()
        self._save.close(finish=True)
        self.store.close()

    def _save_posted(self) -> bool:
        try:
            posted.refresh(self.settings, self.database)
        except (OSError, StoreUnavailable) as error:
            log.warning("%s is not up to date: %s", self.settings.home / posted.FILE, error)
            return False
        return True

    def _reloader(self, dagster_url: str) -> CombinedWork:
        reloader = Reloader(
            dagster_url,
            self.settings.home / ".reload.lock",
            RELOAD_SECONDS,
            cancelled=lambda: work.closed.is_set(),
        )
        work = CombinedWork(reloader, settle=2 * SETTLE_SECONDS, pause=RELOAD_SECONDS)
        return work


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Nango = Annotated[Service, Depends(_service)]
