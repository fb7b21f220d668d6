"""`/metrics` for Prometheus: the requests to the API, the state of the syncs, and webhooks."""

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
"""The variable with the folder in which several processes count together; prometheus_client reads it on import."""
FRESH_SECONDS = 10.0
MOST_SYNCS = 1000
"""With more syncs the figures are per integration: each series needs memory in Prometheus."""
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})

router = APIRouter(tags=["health"], responses=ERRORS)


class Metrics:
    """Counts requests, together with other worker processes if there are any; reads the store on each request."""

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
            "The duration of requests, with their bodies.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._store = StoreMetrics(store)

    def count(self, method: str, route: str, status: int | None, seconds: float) -> None:
        """Count a request; `status` is None where the client closed the connection before the answer."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status or "gone")).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self, accept: str) -> tuple[bytes, str]:
        """All figures in a format that `accept` allows, and its media type."""
        registry = CollectorRegistry()
        if os.environ.get(SHARED):
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # of the library, which has no type there
        else:
            registry.register(_ProcessMetrics(self._registry))
        registry.register(self._store)
        encode, media_type = choose_encoder(accept)
        return encode(registry), media_type


class _ProcessMetrics(Collector):
    """The figures that this process has counted."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        return self._registry.collect()


class StoreMetrics(Collector):
    """The figures of the store, which are read at most once in FRESH_SECONDS."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reader: Reader | None = None
        self._lock = threading.Lock()
        self._metrics: list[Metric] = []
        self._read_at = float("-inf")

    def collect(self) -> Iterable[Metric]:
        """The figures, at most FRESH_SECONDS old."""
        with self._lock:
            if clock.monotonic() - self._read_at >= FRESH_SECONDS:
                self._metrics = list(self._read())
                self._read_at = clock.monotonic()
            return self._metrics

    def _read(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "nango_store_up", "Whether the database answers; the figures of the syncs are missing otherwise."
        )
        try:
            database = self._store.database
            if self._reader is None or self._reader.database is not database:
                self._reader = Reader(database)
            metrics = [*_of_syncs(self._reader.read()), _of_outbox(outbox.depth(database))]
        except StoreUnavailable as error:
            log.warning("the metrics lack the syncs: %s", error)
            metrics = []
        except Exception as error:  # a programming error; the metrics of this process are still returned
            log.error("the metrics lack the syncs: %s", "".join(frames(error)))
            metrics = []
        up.add_metric([], float(bool(metrics)))
        yield up
        yield from metrics


def _of_outbox(depth: Mapping[outbox.State, int]) -> Metric:
    family = GaugeMetricFamily(
        "nango_webhooks", "Webhooks that are not delivered: pending, or dead after the last try.", labels=["state"]
    )
    for state, count in depth.items():
        family.add_metric([state], count)
    return family


def _of_syncs(figures: Figures) -> Iterator[Metric]:
    names = ["integration", "sync"]
    executions = GaugeMetricFamily(
        "nango_sync_executions",
        "The connections and variants of a sync, by the status of the last execution of each.",
        labels=[*names, "status"],
    )
    success = GaugeMetricFamily(
        "nango_sync_last_success_timestamp_seconds",
        "The time of the last successful execution, of any connection.",
        labels=names,
    )
    lag = GaugeMetricFamily(
        "nango_sync_lag_seconds", "The longest time that a due connection has waited for a run.", labels=names
    )
    records = GaugeMetricFamily("nango_sync_records", "Records that are not deleted.", labels=names)
    for labels, syncs in _grouped(figures.syncs).items():
        last: Tally[str] = Tally()
        for sync in syncs:
            last.update(sync.last)
        for status, count in sorted(last.items()):
            executions.add_metric([*labels, status], count)
        succeeded = max((sync.last_success for sync in syncs if sync.last_success is not None), default=None)
        if succeeded is not None:
            success.add_metric(labels, succeeded.timestamp())
        lag.add_metric(labels, max(_waited(sync, figures.now) for sync in syncs))
        records.add_metric(labels, sum(sync.records for sync in syncs))
    refused = GaugeMetricFamily(
        "nango_connections_needing_reauthorisation",
        "Connections whose credentials were refused so often that their syncs wait for new ones.",
        labels=["integration"],
    )
    for integration in sorted({sync.row.integration for sync in figures.syncs} | figures.needs_reauthorisation.keys()):
        refused.add_metric([integration], figures.needs_reauthorisation.get(integration, 0))
    yield from (executions, success, lag, records, refused)


def _grouped(syncs: list[SyncFigures]) -> dict[tuple[str, str], list[SyncFigures]]:
    """The syncs by integration and name; with more than MOST_SYNCS, by integration and an empty name."""
    groups: dict[tuple[str, str], list[SyncFigures]] = {}
    for sync in syncs:
        name = sync.row.name if len(syncs) <= MOST_SYNCS else ""
        groups.setdefault((sync.row.integration, name), []).append(sync)
    return groups


def _waited(sync: SyncFigures, now: datetime) -> float:
    return 0.0 if sync.waiting_since is None else max(0.0, (now - sync.waiting_since).total_seconds())


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus's text form."}
    },
)
def metrics(request: Request) -> Response:
    """Requests by route, syncs by their last execution, the wait of due syncs, and webhooks that are not delivered."""
    counted: Metrics = request.app.state.metrics
    text, media_type = counted.text(request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": media_type})
