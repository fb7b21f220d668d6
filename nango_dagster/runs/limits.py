"""The budgets of requests that the syncs of an integration or a connection share."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from ..config import Sync
from ..store import Database, budgets
from ..store.budgets import Budget, Key

log = logging.getLogger(__name__)

MAX_KEPT = 1000
"""Above this number of budgets in memory, unused ones are dropped."""


@dataclass(frozen=True)
class Limits:
    """The right of one execution to send requests."""

    database: Database
    budget: Budget

    def take(self, n: int = 1) -> float:
        """Reserve `n` requests; the seconds to wait before sending them. Raises QuotaSpent."""
        return self.budget.take(self.database, n)


@contextlib.contextmanager
def limiter_of(database: Database, sync: Sync, connection_id: str) -> Iterator[Limits | None]:
    """The limiter of an execution's requests while the context is open; None where the config has no limit."""
    rate, quota = sync.rate_limit, sync.daily_quota
    if rate is None and quota is None:
        yield None
        return
    budget = _enter(database, key_of(sync, connection_id), rate.per / rate.requests if rate else None, quota)
    try:
        yield Limits(database, budget)
    finally:
        try:
            budget.leave(database)
        except Exception as error:  # the execution is not affected
            log.warning("%s: unused requests could not be given back: %s", sync.display_name, error)


def spent_until(database: Database, sync: Sync, connection_id: str) -> datetime | None:
    """When the daily quota of the sync is available again; None while it is not used up."""
    if sync.daily_quota is None:
        return None
    return budgets.spent_until(database, key_of(sync, connection_id), sync.daily_quota)


def key_of(sync: Sync, connection_id: str) -> Key:
    """The key of a sync's budget. Syncs without an integration share a budget if they have the same host.

    >>> str(key_of(Sync(url="https://api.example.com/items"), "default"))
    'api.example.com'
    """
    named = sync.integration or sync.pizzly_provider_config_key or urlsplit(sync.address).netloc.rpartition("@")[2]
    of_connection = sync.rate_limit is not None and sync.rate_limit.scope == "connection"
    return Key(named or "default", connection_id if of_connection else None)


_budgets: dict[tuple[str, Key, float | None, int | None], Budget] = {}
_lock = threading.Lock()


def _enter(database: Database, key: Key, interval: float | None, daily_quota: int | None) -> Budget:
    """The budget of this process for a key, with one more user."""
    place = (f"{database.engine.url} {database.schema}", key, interval, daily_quota)
    with _lock:
        if place not in _budgets:
            if len(_budgets) >= MAX_KEPT:
                _drop_idle()
            _budgets[place] = Budget(key, interval, daily_quota)
        _budgets[place].enter()
        return _budgets[place]


def _drop_idle() -> None:
    for place in [place for place, budget in _budgets.items() if budget.is_idle]:
        del _budgets[place]
