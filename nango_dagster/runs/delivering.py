"""What waits in the outbox goes to its receivers: claimed some at a time, sent side by side, and recorded together.

Whatever is claimed goes out at once, each in a thread; no receiver has more than half of those, so that a slow one does
not hold up the others. Each is delivered at least once: who dies between the POST and its record leaves a lease behind
that ends, and then it goes out again under the same id.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from .. import webhooks
from ..control.connections import credentials_type
from ..errors import StoreUnavailable
from ..http import Reach
from ..settings import Settings
from ..store import Database, announcing, outbox
from ..store.announcing import OwnUrl
from ..store.engine import Busy
from ..store.outbox import Delivery, Result
from ..webhooks import About, Sender
from .access import reach_of

log = logging.getLogger(__name__)

THREADS: Final = 64
"""So many are claimed and not yet done at most; half of them for one receiver."""
BATCH: Final = 8
LEASE: Final = timedelta(seconds=60)
SECONDS: Final = 10.0
PATIENCE: Final = 2.0
_IDLE_SECONDS: Final = 1.0  # so long a thread waits for more to do
_LOOK_SECONDS: Final = 0.05
_QUICK_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Delivered:
    """What came of a call: how many have arrived, how many have not, and how many are still on their way."""

    arrived: int = 0
    failed: int = 0
    on_their_way: int = 0
    error: str | None = None
    """Why the last of those that failed did."""

    def __bool__(self) -> bool:
        return bool(self.arrived or self.failed or self.on_their_way)


@dataclass(frozen=True)
class _Errand:
    """One delivery and its receiver; no URL where there is none, with the reason."""

    delivery: Delivery
    url: str | None
    reach: Reach = "anywhere"
    why_not: str = ""


class Courier:
    """Takes what waits to its receivers, in threads of its own; one for a process.

    A receiver that is slow holds up nobody who waits for `deliver`: what is in flight when that returns is seen to in
    the background.
    """

    def __init__(self, database: Database, settings: Settings, *, timeout: float = webhooks.TIMEOUT) -> None:
        self.database = database
        self.settings = settings
        self._timeout = timeout
        lock = threading.Lock()
        self._turn = threading.Lock()
        self._more = threading.Condition(lock)  # there is something to do
        self._news = threading.Condition(lock)  # something is done
        self._waiting: deque[_Errand] = deque()
        self._results: list[Result] = []
        self._busy: Counter[str] = Counter()  # how many are claimed and without a result, by circuit; never altered
        self._threads = 0
        self._looked = 0.0  # when it has last looked for all receivers
        self._attended = False
        self._keeper: threading.Thread | None = None

    def deliver(self, seconds: float = SECONDS, patience: float = PATIENCE) -> Delivered:
        """Deliver until nothing is due, for so many seconds at most, and no longer than `patience` without a success.

        A second call at the same time does nothing. On SQLite it also ends where somebody else writes for long. Raises
        StoreUnavailable.
        """
        if not self._turn.acquire(blocking=False):
            return Delivered(on_their_way=self._unfinished)
        self._attended = True
        try:
            return self._deliver(seconds, patience)
        finally:
            self._attended = False
            self._keep()
            self._turn.release()

    def finish(self, seconds: float) -> bool:
        """Wait so long for what is in flight to be done and recorded; whether it is."""
        with self._news:
            return self._news.wait_for(lambda: self._keeper is None, seconds)

    def _deliver(self, seconds: float, patience: float) -> Delivered:
        arrived = failed = 0
        error: str | None = None
        began = succeeded = time.monotonic()
        while True:
            results = self._record(patience)
            now = time.monotonic()
            if errors := [one.error for one in results if one.error is not None]:
                error = errors[-1]
            failed += len(errors)
            arrived += len(results) - len(errors)
            if len(results) > len(errors):
                succeeded = now
            if now - began >= seconds or now - succeeded >= patience or not self._go_on():
                return Delivered(arrived, failed, self._unfinished, error)
            self._await_news()

    def _go_on(self) -> bool:
        """Claim more where there is room for it; whether anything is left to wait for."""
        busy, now = self._busy, time.monotonic()
        quick = now - self._looked < _QUICK_SECONDS
        self._looked = self._looked if quick else now
        try:
            claimed = outbox.claim(self.database, THREADS - busy.total(), LEASE, busy, quick=quick)
        except Busy:
            return self._is_any_left
        self._begin(claimed)
        return bool(claimed) or self._is_any_left

    def _await_news(self) -> None:
        with self._news:
            self._news.wait_for(self._is_time_to_record, _LOOK_SECONDS)

    def _is_time_to_record(self) -> bool:
        """Whether many are done, or all those of a circuit, which more may be waiting for."""
        return len(self._results) >= BATCH or any(one.delivery.circuit not in self._busy for one in self._results)

    # --- recording ----------------------------------------------------------------------------------------------------

    def _record(self, patience: float | None = None) -> list[Result]:
        """Record what is done; what cannot be recorded now is kept."""
        with self._news:
            results, self._results = self._results, []
        try:
            outbox.record(self.database, results, patience=patience)
            return results
        except BaseException as error:
            with self._news:
                self._results = results + self._results
            if isinstance(error, Busy):
                return []
            raise

    def _keep(self) -> None:
        """See to what is in flight, in the background."""
        with self._news:
            if self._keeper is not None or not self._is_any_left:
                return
            self._keeper = threading.Thread(target=self._see_to_the_rest, name="nango-webhooks", daemon=True)
            self._keeper.start()

    @property
    def _unfinished(self) -> int:
        return self._busy.total()

    @property
    def _is_any_left(self) -> bool:
        return bool(self._unfinished or self._results)

    def _see_to_the_rest(self) -> None:
        while self._is_wanted_still():
            self._await_news()
            try:
                self._record()
            except StoreUnavailable as down:
                log.warning("what came of webhooks is not recorded yet: %s", down)
                time.sleep(1.0)
            except Exception:
                log.exception("what came of webhooks was not recorded; they are sent again")
                self._results.clear()

    def _is_wanted_still(self) -> bool:
        """Whether the background has anything to do; whoever calls `deliver` meanwhile does it himself."""
        with self._news:
            if self._is_any_left and not self._attended:
                return True
            self._keeper = None
            self._news.notify_all()
            return False

    # --- sending ------------------------------------------------------------------------------------------------------

    def _begin(self, claimed: Sequence[Delivery]) -> None:
        errands = self._errands(claimed)
        with self._more:
            self._waiting.extend(errands)
            self._busy = self._busy + Counter(one.circuit for one in claimed)
            missing = min(THREADS, self._unfinished) - self._threads
            self._threads += max(0, missing)
            self._more.notify(len(errands))
        for _ in range(missing):
            threading.Thread(target=self._work, name="nango-webhook", daemon=True).start()

    def _errands(self, claimed: Sequence[Delivery]) -> list[_Errand]:
        names = {(one.integration, one.connection_id) for one in claimed}
        own = announcing.own_urls(self.database, names) if names else {}
        is_asked = any(override.over_http for override in own.values())
        over_http = reach_of(self.database, self.settings) if is_asked else "public"
        return [self._errand(one, own, over_http) for one in claimed]

    def _errand(self, delivery: Delivery, own: Mapping[tuple[str, str], OwnUrl], over_http: Reach) -> _Errand:
        override = own.get((delivery.integration, delivery.connection_id))
        if override is not None and delivery.target == "primary":
            reach = over_http if override.over_http else "anywhere"
            return _Errand(delivery, override.url, reach, "the connection's webhook_url_override cannot be decrypted.")
        if delivery.target == "primary":
            return _Errand(delivery, self.settings.webhook_url, why_not="NANGO_WEBHOOK_URL is not set any more.")
        url = self.settings.webhook_url_secondary
        return _Errand(delivery, url, why_not="NANGO_WEBHOOK_URL_SECONDARY is not set any more.")

    def _work(self) -> None:
        """A thread: one errand after another, until there are none."""
        senders: dict[Reach, Sender] = {}
        while (errand := self._next()) is not None:
            try:
                result = self._try(errand, senders)
            except Exception as error:  # the database, or a mistake of ours
                log.warning("a webhook could not be sent: %s", type(error).__name__)
                result = Result(errand.delivery, f"it could not be sent: {type(error).__name__}.")
            with self._news:
                self._results.append(result)
                self._busy = self._busy - Counter((errand.delivery.circuit,))
                if self._is_time_to_record():
                    self._news.notify_all()
        for sender in senders.values():
            sender.close()

    def _next(self) -> _Errand | None:
        with self._more:
            if self._more.wait_for(lambda: self._waiting, _IDLE_SECONDS):
                return self._waiting.popleft()
            self._threads -= 1
            return None

    def _try(self, errand: _Errand, senders: dict[Reach, Sender]) -> Result:
        delivery = errand.delivery
        if errand.url is None:
            return Result(delivery, errand.why_not)
        if errand.reach not in senders:
            senders[errand.reach] = Sender(self.settings.webhook_signing_key, errand.reach, self._timeout)
        tried = senders[errand.reach].send(errand.url, delivery.delivery_id, self._body(delivery))
        return Result(delivery, tried.error, tried.gone)

    def _body(self, delivery: Delivery) -> bytes:
        if delivery.kind == "auth":
            mode = credentials_type(self.database, self.settings, delivery.integration, delivery.connection_id)
            return webhooks.refused(delivery.integration, delivery.connection_id, delivery.error or "", mode)
        about = About(
            delivery.integration,
            delivery.connection_id,
            delivery.variant,
            delivery.sync_name,
            delivery.model,
            delivery.sync_type,
        )
        if delivery.kind == "failure":
            started_at = delivery.started_at or delivery.created_at
            return webhooks.failed(about, delivery.error or "", started_at, delivery.created_at)
        return webhooks.changed(about, delivery.added, delivery.updated, delivery.deleted, delivery.modified_after)
