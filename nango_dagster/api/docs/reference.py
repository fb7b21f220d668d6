"""`/openapi.json` and `/docs`: the routes, and the models of the syncs there are at the moment."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html

from ...errors import StoreUnavailable
from ...store import models
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
    return get_swagger_ui_html(openapi_url=f"{here}openapi.json", title=f"{request.app.title}: reference")
