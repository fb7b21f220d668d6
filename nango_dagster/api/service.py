"""What every route stands on: the settings, the store, and what happens in the background after a change."""

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
from .background import Joined
from .reload import Reloader
from .store import Store

log = logging.getLogger(__name__)

READERS = 4  # more of them would only wait for each other
SETTLE_SECONDS = 0.5  # a program posts its syncs one after another
SAVE_SECONDS = 1.0
RELOAD_SECONDS = 60.0  # a reload costs 6 to 15 seconds of CPU


class Service:
    """One for each app."""

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        self.settings = settings
        self.store = Store(settings, database)
        self.readers = CapacityLimiter(READERS)
        """Threads of their own for who reads records, so that it never waits for who writes."""
        self._save = Joined(self._save_posted, settle=SETTLE_SECONDS, pause=SAVE_SECONDS)
        self._reload = self._reloader(settings.dagster_url) if settings.dagster_url else None

    @property
    def database(self) -> Database:
        """The store, its tables up to date."""
        return self.store.database

    @property
    def reach(self) -> Reach:
        """Where posted URLs may lead."""
        return reach_of(self.database, self.settings)

    def changed(self) -> None:
        """Have it known elsewhere that the posted syncs have changed; returns at once."""
        self._save.ask()
        if self._reload:
            self._reload.ask()

    def open(self) -> None:
        """Make the tables before the first request; a database that is down now is tried again then."""
        try:
            _ = self.database
        except StoreUnavailable as down:
            log.warning("%s Requests are answered with 503 until it is back.", down)

    def close(self) -> None:
        """Finish what is not yet saved, and let go of the database."""
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

    def _reloader(self, dagster_url: str) -> Joined:
        reloader = Reloader(
            dagster_url,
            self.settings.home / ".reload.lock",
            RELOAD_SECONDS,
            cancelled=lambda: joined.closed.is_set(),
        )
        joined = Joined(reloader, settle=2 * SETTLE_SECONDS, pause=RELOAD_SECONDS)
        return joined


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Nango = Annotated[Service, Depends(_service)]
