"""Deliver the webhooks of the outbox: claim some at a time, send them in threads, and record the results together.

Each claimed delivery has a thread; one receiver has at most half of the threads, so that a slow one does not delay the
others. Each webhook is delivered at least once: where the process ends between a POST and its record, the lease
expires, and the webhook is sent again with the same id.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from .. import clock, webhooks
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
"""The limit of deliveries that are claimed and not recorded; half of it for one receiver."""
BATCH: Final = 8
"""Results are recorded when there are this many of them."""
LEASE: Final = timedelta(seconds=60)
SECONDS: Final = 10.0
PATIENCE: Final = 2.0
_IDLE_SECONDS: Final = 1.0  # a thread ends after this time without a delivery
_POLL_SECONDS: Final = 0.05
_FULL_CLAIM_SECONDS: Final = 0.1  # a claim looks at all receivers this often, and otherwise only at the first


@dataclass(frozen=True)
class Delivered:
    """The result of one call of `deliver`: numbers of webhooks."""

    arrived: int = 0
    failed: int = 0
    on_their_way: int = 0
    """Sent, and not answered or not recorded yet."""
    error: str | None = None
    """Why the last one failed."""

    def __bool__(self) -> bool:
        return bool(self.arrived or self.failed or self.on_their_way)


@dataclass(frozen=True)
class _Attempt:
    """One delivery and its receiver."""

    delivery: Delivery
    url: str | None
    """None where the receiver has no URL any more."""
    reach: Reach = "anywhere"
    missing: str = ""
    """Why there is no URL."""


class DeliveryPool:
    """Delivers webhooks in threads of its own; one for each process.

    A slow receiver does not delay the caller of `deliver`: a thread in the background records what is sent when
    `deliver` returns.
    """

    def __init__(self, database: Database, settings: Settings, *, timeout: float = webhooks.TIMEOUT) -> None:
        self.database = database
        self.settings = settings
        self._timeout = timeout
        lock = threading.Lock()
        self._one_call = threading.Lock()
        self._has_attempts = threading.Condition(lock)
        self._has_results = threading.Condition(lock)
        self._attempts: deque[_Attempt] = deque()
        self._results: list[Result] = []
        self._busy: Counter[str] = Counter()  # claimed and without a result, by circuit; replaced, never changed
        self._threads = 0
        self._full_claim_at = 0.0
        self._is_called = False
        self._recorder: threading.Thread | None = None

    def deliver(self, seconds: float = SECONDS, patience: float = PATIENCE) -> Delivered:
        """Deliver until nothing is due, for at most `seconds`, and for at most `patience` seconds without a success.

        A second call at the same time does nothing. On SQLite it also ends where another process writes for long.
        Raises StoreUnavailable.
        """
        if not self._one_call.acquire(blocking=False):
            return Delivered(on_their_way=self._unfinished)
        self._is_called = True
        try:
            return self._deliver(seconds, patience)
        finally:
            self._is_called = False
            self._record_in_background()
            self._one_call.release()

    def finish(self, seconds: float) -> bool:
        """Wait at most `seconds` until everything that was sent is recorded; whether it is."""
        with self._has_results:
            return self._has_results.wait_for(lambda: self._recorder is None, seconds)

    def _deliver(self, seconds: float, patience: float) -> Delivered:
        arrived = failed = 0
        error: str | None = None
        began = succeeded = clock.monotonic()
        while True:
            results = self._record(patience)
            now = clock.monotonic()
            if errors := [result.error for result in results if result.error is not None]:
                error = errors[-1]
            failed += len(errors)
            arrived += len(results) - len(errors)
            if len(results) > len(errors):
                succeeded = now
            if now - began >= seconds or now - succeeded >= patience or not self._claim_more():
                return Delivered(arrived, failed, self._unfinished, error)
            self._wait_for_results()

    def _claim_more(self) -> bool:
        """Claim as many as there are free threads; whether anything is left to wait for."""
        busy, now = self._busy, clock.monotonic()
        quick = now - self._full_claim_at < _FULL_CLAIM_SECONDS
        self._full_claim_at = self._full_claim_at if quick else now
        try:
            claimed = outbox.claim(self.database, THREADS - busy.total(), LEASE, busy, quick=quick)
        except Busy:
            return self._is_any_left
        self._send(claimed)
        return bool(claimed) or self._is_any_left

    def _wait_for_results(self) -> None:
        with self._has_results:
            self._has_results.wait_for(self._is_time_to_record, _POLL_SECONDS)

    def _is_time_to_record(self) -> bool:
        """Whether a batch of results is there, or all results of a circuit: more may be due for it."""
        return len(self._results) >= BATCH or any(result.delivery.circuit not in self._busy for result in self._results)

    # --- recording ----------------------------------------------------------------------------------------------------

    def _record(self, patience: float | None = None) -> list[Result]:
        """Record the results; those that cannot be recorded now are kept."""
        with self._has_results:
            results, self._results = self._results, []
        try:
            outbox.record(self.database, results, patience=patience)
            return results
        except BaseException as error:
            with self._has_results:
                self._results = results + self._results
            if isinstance(error, Busy):
                return []
            raise

    def _record_in_background(self) -> None:
        """Start the thread that records what is still being sent."""
        with self._has_results:
            if self._recorder is not None or not self._is_any_left:
                return
            self._recorder = threading.Thread(target=self._record_rest, name="nango-webhooks", daemon=True)
            self._recorder.start()

    @property
    def _unfinished(self) -> int:
        return self._busy.total()

    @property
    def _is_any_left(self) -> bool:
        return bool(self._unfinished or self._results)

    def _record_rest(self) -> None:
        """The background thread: record results until there are none, or until `deliver` is called again."""
        while self._is_recorder_needed():
            self._wait_for_results()
            try:
                self._record()
            except StoreUnavailable as down:
                log.warning("results of webhooks are not recorded yet: %s", down)
                time.sleep(1.0)
            except Exception:
                log.exception("results of webhooks were not recorded; these webhooks are sent again")
                self._results.clear()

    def _is_recorder_needed(self) -> bool:
        with self._has_results:
            if self._is_any_left and not self._is_called:
                return True
            self._recorder = None
            self._has_results.notify_all()
            return False

    # --- sending ------------------------------------------------------------------------------------------------------

    def _send(self, claimed: Sequence[Delivery]) -> None:
        attempts = self._addressed(claimed)
        with self._has_attempts:
            self._attempts.extend(attempts)
            self._busy = self._busy + Counter(delivery.circuit for delivery in claimed)
            missing = max(0, min(THREADS, self._unfinished) - self._threads)
            self._threads += missing
            self._has_attempts.notify(len(attempts))
        for _ in range(missing):
            threading.Thread(target=self._work, name="nango-webhook", daemon=True).start()

    def _addressed(self, claimed: Sequence[Delivery]) -> list[_Attempt]:
        """Each delivery with the URL of its receiver."""
        names = {(delivery.integration, delivery.connection_id) for delivery in claimed}
        overrides = announcing.own_urls(self.database, names) if names else {}
        has_posted_url = any(override.source == "http" for override in overrides.values())
        posted_reach = reach_of(self.database, self.settings) if has_posted_url else "public"
        return [self._address(delivery, overrides, posted_reach) for delivery in claimed]

    def _address(
        self, delivery: Delivery, overrides: Mapping[tuple[str, str], OwnUrl], posted_reach: Reach
    ) -> _Attempt:
        override = overrides.get((delivery.integration, delivery.connection_id))
        if override is not None and delivery.target == "primary":
            reach = posted_reach if override.source == "http" else "anywhere"
            return _Attempt(delivery, override.url, reach, "the connection's webhook_url_override cannot be decrypted.")
        if delivery.target == "primary":
            return _Attempt(delivery, self.settings.webhook_url, missing="NANGO_WEBHOOK_URL is not set any more.")
        url = self.settings.webhook_url_secondary
        return _Attempt(delivery, url, missing="NANGO_WEBHOOK_URL_SECONDARY is not set any more.")

    def _work(self) -> None:
        """One thread: make attempts until there is none for a second."""
        senders: dict[Reach, Sender] = {}
        while (attempt := self._next()) is not None:
            try:
                result = self._make(attempt, senders)
            except Exception as error:  # of the database, or a programming error
                log.warning("a webhook could not be sent: %s", type(error).__name__)
                result = Result(attempt.delivery, f"it could not be sent: {type(error).__name__}.")
            with self._has_results:
                self._results.append(result)
                self._busy = self._busy - Counter((attempt.delivery.circuit,))
                if self._is_time_to_record():
                    self._has_results.notify_all()
        for sender in senders.values():
            sender.close()

    def _next(self) -> _Attempt | None:
        with self._has_attempts:
            if self._has_attempts.wait_for(lambda: self._attempts, _IDLE_SECONDS):
                return self._attempts.popleft()
            self._threads -= 1
            return None

    def _make(self, attempt: _Attempt, senders: dict[Reach, Sender]) -> Result:
        delivery = attempt.delivery
        if attempt.url is None:
            return Result(delivery, attempt.missing)
        if attempt.reach not in senders:
            senders[attempt.reach] = Sender(self.settings.webhook_signing_key, attempt.reach, self._timeout)
        answer = senders[attempt.reach].send(attempt.url, delivery.delivery_id, self._body(delivery))
        return Result(delivery, answer.error, answer.gone)

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
            _checkpoints(delivery),
        )
        if delivery.kind == "failure":
            started_at = delivery.started_at or delivery.created_at
            return webhooks.failed(about, delivery.error or "", started_at, delivery.created_at)
        return webhooks.changed(about, delivery.added, delivery.updated, delivery.deleted, delivery.modified_after)


def _checkpoints(delivery: Delivery) -> dict[str, Any] | None:
    """The checkpoints of a notification; None where executions changed none."""
    if delivery.checkpoint_from is None or delivery.checkpoint_to is None:
        return None
    return {"from": json.loads(delivery.checkpoint_from), "to": json.loads(delivery.checkpoint_to)}
