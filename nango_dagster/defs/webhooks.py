"""The sensor that takes notifications of new data to whoever wants to know of it."""

# No `from __future__ import annotations`: Dagster reads the type of `context` from the function itself.
import threading

from dagster import DefaultSensorStatus, SensorDefinition, SensorEvaluationContext, SkipReason, sensor

from ..errors import StoreUnavailable
from ..runs.delivering import Courier, Delivered
from ..sentences import number_of
from ..settings import Settings
from ..store import outbox
from . import names
from .resource import NangoResource

INTERVAL_SECONDS = 5


class _Couriers:
    """The process's courier; another one where the store was opened anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._courier: Courier | None = None

    def of(self, nango: NangoResource) -> Courier:
        with self._lock:
            if self._courier is None or self._courier.database is not nango.database:
                self._courier = Courier(nango.database, nango.settings)
            return self._courier


def build_webhook_sensor() -> SensorDefinition:
    """The sensor that delivers what waits in the outbox; it asks for no runs, and a tick says what it did."""
    couriers = _Couriers()

    @sensor(
        name=names.WEBHOOKS,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        required_resource_keys={names.RESOURCE},
        description="Tells NANGO_WEBHOOK_URL what syncs have changed. It starts no runs: each tick says what it sent.",
    )
    def deliver(context: SensorEvaluationContext) -> SkipReason:
        nango: NangoResource = context.resources.nango
        try:
            done = couriers.of(nango).deliver()
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
