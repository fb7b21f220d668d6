"""The right of an execution to write, and the signs that it has to stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from .. import clock
from ..errors import Cancelled
from ..store import Connection, Database, queue
from ..store.queue import CANCEL_SECONDS, Claim

log = logging.getLogger(__name__)


class Lease:
    """One claim while its execution lasts."""

    def __init__(
        self, database: Database, claim: Claim, name: str, stopping: threading.Event, cancelled: Callable[[], bool]
    ) -> None:
        """`stopping` and `cancelled` are signs that the run has to stop; `name` is that of the sync, for the log."""
        self._database = database
        self._claim = claim
        self._name = name
        self._stopping = stopping
        self._is_run_cancelled = cancelled
        self._is_cancelled = False
        self._next_question = clock.monotonic() + CANCEL_SECONDS

    def begin(self, connection: Connection) -> None:
        """Note that the execution begins, and whether it was cancelled before."""
        self._is_cancelled = self.check(connection)
        queue.begin_execution(connection, self._database, self._claim)

    def check(self, connection: Connection) -> bool:
        """Take the dataset's lock and check the claim, first in every transaction; whether it was cancelled.

        Raises LeaseLost where another run has taken the execution over.
        """
        claim = self._claim
        queue.lock_dataset(connection, self._database, claim.target)
        return queue.check(connection, self._database, claim)

    def check_or_stop(self, connection: Connection) -> None:
        """Check, where an execution can stop between two transactions. Raises Cancelled."""
        if self.check(connection) or self._is_run_stopped():
            raise Cancelled

    def is_stopped(self) -> bool:
        """Whether the run has to stop, or this execution was cancelled; the store is queried every two seconds.

        Not to be called within a transaction: it may wait for a second connection while others wait for the first.
        """
        if not self._is_cancelled and clock.monotonic() >= self._next_question:
            self._next_question = clock.monotonic() + CANCEL_SECONDS
            try:
                self._is_cancelled = queue.is_cancelled(self._database, self._claim)
            except Exception as error:
                # The thread that fetches asks, too; the next transaction finds out what is wrong with the store.
                log.debug("%s: it is not known whether it was cancelled: %s", self._name, error)
        return self._is_cancelled or self._is_run_stopped()

    def _is_run_stopped(self) -> bool:
        return self._stopping.is_set() or self._is_run_cancelled()
