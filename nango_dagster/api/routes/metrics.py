"""`/metrics`, for Prometheus: what the API was asked, and how the syncs are doing."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from ... import clock
from ...errors import StoreUnavailable
from ...store import outbox
from ...store.figures import Figures, Reader, SyncFigures
from ..docs.openapi import ERRORS
from ..gate.guard import frames
from ..store import Store

log = logging.getLogger(__name__)

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which several processes count together; prometheus_client reads it when it is imported."""
FRESH_SECONDS = 10.0
MOST_SYNCS = 1000
"""With more of them the numbers are those of integrations: each series costs Prometheus memory."""
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})

router = APIRouter(tags=["health"], responses=ERRORS)


class Metrics:
    """Counts requests, here or together with the other worker processes, and asks the store when it is read."""

    def __init__(self, store: Store) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "nango_http_requests",
            "Requests that were answered; route is the template, such as /v1/syncs/{id}.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "nango_http_request_duration_seconds",
            "How long requests took, their bodies included.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._store = StoreMetrics(store)

    def note(self, method: str, route: str, status: int | None, seconds: float) -> None:
        """Count a request; one whose client went away has no status."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status or "gone")).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self, accept: str) -> tuple[bytes, str]:
        """All numbers in the form that is accepted, and its media type."""
        registry = CollectorRegistry()
        if os.environ.get(SHARED):
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # of the library, which has no type there
        else:
            registry.register(_Own(self._registry))
        registry.register(self._store)
        encode, media_type = choose_encoder(accept)
        return encode(registry), media_type


class _Own(Collector):
    """What this process has counted."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        return self._registry.collect()


class StoreMetrics(Collector):
    """The numbers of the store, which are asked for at most once in FRESH_SECONDS."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reader: Reader | None = None
        self._lock = threading.Lock()
        self._kept: list[Metric] = []
        self._kept_at = float("-inf")

    def collect(self) -> Iterable[Metric]:
        """The numbers as they are now, or were a moment ago."""
        with self._lock:
            if clock.monotonic() - self._kept_at >= FRESH_SECONDS:
                self._kept = list(self._ask())
                self._kept_at = clock.monotonic()
            return self._kept

    def _ask(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "nango_store_up", "Whether the database answers; without it the syncs' numbers are missing."
        )
        try:
            database = self._store.database
            if self._reader is None or self._reader.database is not database:
                self._reader = Reader(database)
            metrics = [*_of_syncs(self._reader.read()), _of_outbox(outbox.depth(database))]
        except StoreUnavailable as down:
            log.warning("the metrics lack the syncs: %s", down)
            metrics = []
        except Exception as error:  # a programming error; the metrics of this process are still returned
            log.error("the metrics lack the syncs: %s", "".join(frames(error)))
            metrics = []
        up.add_metric([], float(bool(metrics)))
        yield up
        yield from metrics


def _of_outbox(depth: Mapping[outbox.State, int]) -> Metric:
    family = GaugeMetricFamily(
        "nango_webhooks", "Notifications that are not delivered: pending, or dead after the last try.", labels=["state"]
    )
    for state, number in depth.items():
        family.add_metric([state], number)
    return family


def _of_syncs(found: Figures) -> Iterator[Metric]:
    names = ["integration", "sync"]
    executions = GaugeMetricFamily(
        "nango_sync_executions",
        "A sync's connections and variants, by how the last execution of each ended.",
        labels=[*names, "status"],
    )
    success = GaugeMetricFamily(
        "nango_sync_last_success_timestamp_seconds",
        "When an execution last succeeded, for any connection.",
        labels=names,
    )
    lag = GaugeMetricFamily(
        "nango_sync_lag_seconds", "How long the connection that is due longest has waited for a run.", labels=names
    )
    records = GaugeMetricFamily("nango_sync_records", "Records that are not deleted.", labels=names)
    for labels, those in _grouped(found.syncs).items():
        last: Tally[str] = Tally()
        for one in those:
            last.update(one.last)
        for status, number in sorted(last.items()):
            executions.add_metric([*labels, status], number)
        succeeded = max((one.last_success for one in those if one.last_success is not None), default=None)
        if succeeded is not None:
            success.add_metric(labels, succeeded.timestamp())
        lag.add_metric(labels, max(_waited(one, found.now) for one in those))
        records.add_metric(labels, sum(one.records for one in those))
    refused = GaugeMetricFamily(
        "nango_connections_needing_reauthorisation",
        "Connections whose credentials were refused so often that their syncs wait for others.",
        labels=["integration"],
    )
    for integration in sorted({one.row.integration for one in found.syncs} | found.needs_reauthorisation.keys()):
        refused.add_metric([integration], found.needs_reauthorisation.get(integration, 0))
    yield from (executions, success, lag, records, refused)


def _grouped(syncs: list[SyncFigures]) -> dict[tuple[str, str], list[SyncFigures]]:
    """By integration and name; where there are very many, by integration."""
    groups: dict[tuple[str, str], list[SyncFigures]] = {}
    for one in syncs:
        name = one.row.name if len(syncs) <= MOST_SYNCS else ""
        groups.setdefault((one.row.integration, name), []).append(one)
    return groups


def _waited(one: SyncFigures, now: datetime) -> float:
    return 0.0 if one.waiting_since is None else max(0.0, (now - one.waiting_since).total_seconds())


@router.get(
    "/metrics",
    summary="Numbers for Prometheus",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus's text form."}
    },
)
def metrics(request: Request) -> Response:
    """Requests by route, syncs by their last execution, how long due ones wait, webhooks that are not delivered."""
    counted: Metrics = request.app.state.metrics
    text, media_type = counted.text(request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": media_type})
