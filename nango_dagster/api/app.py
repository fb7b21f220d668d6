"""The app: its routes inside the guard, on one store."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Receive, Scope, Send

from ..settings import Settings
from ..store import Database
from . import errors
from .docs import openapi, reference
from .gate.guard import Guard
from .gate.key import Authentication
from .gate.limits import Rates
from .routes import (
    connections,
    environment,
    functions,
    health,
    integrations,
    metrics,
    proxy,
    records,
    scripts,
    sync_execution,
    sync_status,
    syncs,
    variants,
)
from .service import Service

_ROUTES = (
    records,
    syncs,
    sync_execution,
    variants,
    sync_status,
    integrations,
    functions,
    scripts,
    connections,
    environment,
    proxy,
    health,
    metrics,
    reference,
)
_DESCRIPTION = "Syncs from external APIs into your database, run by Dagster."


class _Compression(GZipMiddleware):
    """Compresses answers. Requests that accept no gzip are passed on at once; Starlette would copy their answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        accepted = b",".join(value for name, value in scope.get("headers", ()) if name == b"accept-encoding")
        answer = super().__call__ if b"gzip" in accepted else self.app
        await answer(scope, receive, send)


def create_app(settings: Settings, database: Database | None = None, shared: Path | None = None) -> FastAPI:
    """Nango's HTTP API on the store that the settings name, or on one that is open already.

    Without a key in the settings it answers to this machine only. In the folder `shared` it counts together with other
    processes.
    """
    service = Service(settings, database)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.open)
        try:
            yield
        finally:
            await run_in_threadpool(service.close)

    app = FastAPI(
        title="nango-dagster",
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,  # reference.py has it, and /docs
    )
    app.state.service = service
    app.state.readiness = health.Readiness(service.store)
    app.state.metrics = metrics.Metrics(service.store)
    app.state.reference = reference.Reference(service)
    for routes in _ROUTES:
        app.include_router(routes.router)
    errors.handle(app)
    authentication = Authentication.of(settings)
    openapi.describe(app, authentication)
    rates = Rates.open(settings.api_rate_limit, len(settings.secret_keys), shared and shared / "rates")
    app.add_middleware(_Compression, minimum_size=1000, compresslevel=4)
    app.add_middleware(
        Guard,
        authentication=authentication,
        rates=rates,
        count=app.state.metrics.count,
        keep_alive=settings.api_keep_alive,
    )
    return app
