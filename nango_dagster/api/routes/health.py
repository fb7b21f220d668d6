"""Whether the process runs (`/health`), and whether it can do its work (`/ready`); both without a key."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from ...errors import StoreUnavailable
from ...store import is_current
from ..errors import UNREACHABLE, Envelope, HttpError
from ..gate.guard import frames
from ..store import Store

log = logging.getLogger(__name__)

SECONDS = 2.0
"""So long the database may take to answer."""

router = APIRouter(tags=["health"])


class Fine(BaseModel):
    """That all is well."""

    result: str = Field(examples=["ok"])


class Readiness:
    """Asks the store whether it can be worked with, once at a time, however many want to know."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked: Future[str | None] | None = None

    async def trouble(self) -> str | None:
        """Why no request can be answered now; None when all is well."""
        if self._asked is None or self._asked.done():
            self._asked = Future()
            # A thread of its own, which nobody waits for: a database may be silent for minutes.
            thread = threading.Thread(target=self._ask, args=(self._asked,), name="nango-api-readiness", daemon=True)
            thread.start()
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._asked)), SECONDS)
        except (asyncio.TimeoutError, TimeoutError):  # two classes on Python 3.10
            return f"the database has not answered within {SECONDS:g} seconds."

    def _ask(self, answer: Future[str | None]) -> None:
        answer.set_result(self._trouble())

    def _trouble(self) -> str | None:
        """In words that anybody may read."""
        try:
            if is_current(self._store.database):
                return None
            return "the database does not have the tables of this release."
        except StoreUnavailable as down:
            log.warning("not ready: %s", down)
        except Exception as error:  # whatever it is: who asks is told "not ready", and no more
            log.error("not ready: %s", "".join(frames(error)))
        return UNREACHABLE


@router.get("/health", summary="Whether the API runs")
async def health() -> Fine:
    """Answers as long as the process does, without a key and without the database."""
    return Fine(result="ok")


@router.get(
    "/ready",
    summary="Whether the API can work",
    responses={
        503: {"model": Envelope, "description": "The database does not answer, or lacks this release's tables."}
    },
)
async def ready(request: Request) -> Fine:
    """Whether the database answers and has this release's tables; without a key."""
    readiness: Readiness = request.app.state.readiness
    trouble = await readiness.trouble()
    if trouble is not None:
        raise HttpError(503, "not_ready", trouble)
    return Fine(result="ok")
