"""The sensor that delivers webhooks."""

# No `from __future__ import annotations`: Dagster reads the type of `context` from the function itself.
import threading

from dagster import DefaultSensorStatus, SensorDefinition, SensorEvaluationContext, SkipReason, sensor

from ..errors import StoreUnavailable
from ..runs.delivering import Delivered, DeliveryPool
from ..sentences import number_of
from ..settings import Settings
from ..store import outbox
from . import names
from .resource import NangoResource

INTERVAL_SECONDS = 5


class _DeliveryPools:
    """The delivery pool of this process; a new one where the store was opened again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: DeliveryPool | None = None

    def of(self, nango: NangoResource) -> DeliveryPool:
        with self._lock:
            if self._pool is None or self._pool.database is not nango.database:
                self._pool = DeliveryPool(nango.database, nango.settings)
            return self._pool


def build_webhook_sensor(status: DefaultSensorStatus) -> SensorDefinition:
    """The sensor that delivers the webhooks of the outbox; it requests no runs, and each tick says what was sent."""
    pools = _DeliveryPools()

    @sensor(
        name=names.WEBHOOKS,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=status,
        required_resource_keys={names.RESOURCE},
        description="Tells NANGO_WEBHOOK_URL what syncs have changed. It starts no runs: each tick says what it sent.",
    )
    def deliver(context: SensorEvaluationContext) -> SkipReason:
        nango: NangoResource = context.resources.nango
        try:
            done = pools.of(nango).deliver()
            return SkipReason(_sentence(done) if done else _idle(nango))
        except StoreUnavailable as down:
            return SkipReason(str(down))

    return deliver


def _sentence(done: Delivered) -> str:
    parts = [f"delivered {number_of(done.arrived, 'webhook')}"]
    if done.failed:
        parts.append(f"{done.failed:,} failed and will be tried again, the last because {done.error}".rstrip("."))
    if done.on_their_way:
        parts.append(f"{done.on_their_way:,} are still on their way")
    return "; ".join(parts) + "."


def _idle(nango: NangoResource) -> str:
    waiting = outbox.depth(nango.database)
    if waiting["pending"]:
        return f"{number_of(waiting['pending'], 'webhook')} will be tried again later: nango-dagster webhooks list."
    return "nothing waits." if _has_url(nango.settings) else "NANGO_WEBHOOK_URL is not set, and nothing waits."


def _has_url(settings: Settings) -> bool:
    return bool(settings.webhook_url or settings.webhook_url_secondary)
