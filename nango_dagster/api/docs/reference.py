"""`/openapi.json`, `/docs` and `/`: the routes, and the models of the syncs in the store."""

from __future__ import annotations

import json
import logging
import threading
from importlib import resources
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html

from ...errors import StoreUnavailable
from ...store import models
from ..errors import HttpError
from ..gate.guard import frames
from ..service import Service
from .record_schemas import MOST_MODELS, with_models

log = logging.getLogger(__name__)

router = APIRouter(include_in_schema=False)


class Reference:
    """Made again only when a sync or a field has come, changed or gone."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._version: tuple[Any, ...] | None = None
        self._text = b""

    def text(self, routes: dict[str, Any]) -> bytes:
        """The whole reference as JSON; while the database does not answer, without the models."""
        try:
            with self._lock:
                database = self._service.database
                version = models.version(database)
                if version != self._version:
                    self._text = _json(with_models(routes, *models.models(database, MOST_MODELS)))
                    self._version = version
                return self._text
        except StoreUnavailable as down:
            log.warning("the reference lacks the models: %s", down)
        except Exception as error:  # a mistake of ours: the routes can be described without the models
            log.error("the reference lacks the models: %s", "".join(frames(error)))
        return _json(routes)


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


@router.get("/openapi.json")
def openapi(request: Request) -> Response:
    """The reference for programs."""
    reference: Reference = request.app.state.reference
    return Response(reference.text(request.app.openapi()), media_type="application/json")


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The reference for people."""
    # Relative, so that it is found behind a proxy that serves us below another path.
    here = "../" if request.scope.get("raw_path", b"").endswith(b"/") else ""
    return get_swagger_ui_html(
        openapi_url=f"{here}openapi.json",
        title=f"{request.app.title}: reference",
        swagger_js_url=f"{here}docs/swagger-ui-bundle.js",
        swagger_css_url=f"{here}docs/swagger-ui.css",
        swagger_favicon_url=f"{here}docs/favicon.png",
    )


@router.get("/docs/{name}")
def asset(name: str) -> Response:
    """A file of Swagger UI, which comes with the package fastapi-offline: the page needs no other server."""
    if name not in _ASSETS:
        raise HttpError(404, "not_found", f"there is no GET /docs/{name}; /docs lists the endpoints.")
    content = resources.files("fastapi_offline").joinpath("static", name).read_bytes()
    return Response(content, media_type=_ASSETS[name], headers={"Cache-Control": "max-age=86400"})


@router.get("/")
async def index(request: Request) -> Response:
    """A page for whoever opens the address in a browser."""
    return Response(_INDEX, media_type="text/html")


_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
_INDEX = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>nango-dagster: HTTP API</title>
<h1>nango-dagster</h1>
<p>This is the HTTP API of nango-dagster: syncs from external APIs into a database, run by Dagster.</p>
<ul>
<li><a href="docs">docs</a>: the reference of all routes; <a href="openapi.json">openapi.json</a> for programs.</li>
<li><a href="health">health</a>: whether the API runs; <a href="ready">ready</a>: whether it can work.</li>
<li><a href="metrics">metrics</a>: numbers for Prometheus.</li>
</ul>
<p>Where the server has a key (<code>NANGO_SECRET_KEY</code>), requests send it as
<code>Authorization: Bearer KEY</code>; a browser asks for it as the password of the reference.</p>
<p>The Dagster UI is another server: <code>nango-dagster dev</code> prints its address, by default
<a href="http://localhost:3000">http://localhost:3000</a>.</p>
</html>
"""
