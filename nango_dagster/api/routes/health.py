"""`/health`: the process runs. `/ready`: the database can be used. Both need no key."""

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
"""The time limit for the answer of the database."""

router = APIRouter(tags=["health"])


class Fine(BaseModel):
    """The process runs, or is ready."""

    result: str = Field(examples=["ok"])


class Readiness:
    """Checks the store, once at a time; concurrent requests share the answer."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._check: Future[str | None] | None = None

    async def problem(self) -> str | None:
        """The reason why requests cannot be answered now; None when they can."""
        if self._check is None or self._check.done():
            self._check = Future()
            # A thread of its own, without a join: a database may not answer for minutes.
            thread = threading.Thread(target=self._answer, args=(self._check,), name="nango-api-readiness", daemon=True)
            thread.start()
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._check)), SECONDS)
        except (asyncio.TimeoutError, TimeoutError):  # two classes on Python 3.10
            return f"the database has not answered within {SECONDS:g} seconds."

    def _answer(self, answer: Future[str | None]) -> None:
        answer.set_result(self._problem())

    def _problem(self) -> str | None:
        """The reason, without details: clients without a key may read it."""
        try:
            if is_current(self._store.database):
                return None
            return "the database does not have the tables of this release."
        except StoreUnavailable as error:
            log.warning("not ready: %s", error)
        except Exception as error:  # the client gets "not ready", the log has the reason
            log.error("not ready: %s", "".join(frames(error)))
        return UNREACHABLE


@router.get("/health", summary="Whether the API runs")
async def health() -> Fine:
    """Answers while the process runs, without a key and without the database."""
    return Fine(result="ok")


@router.get(
    "/ready",
    summary="Whether the API can answer requests",
    responses={
        503: {"model": Envelope, "description": "The database does not answer, or lacks this release's tables."}
    },
)
async def ready(request: Request) -> Fine:
    """Whether the database answers and has this release's tables; without a key."""
    readiness: Readiness = request.app.state.readiness
    problem = await readiness.problem()
    if problem is not None:
        raise HttpError(503, "not_ready", problem)
    return Fine(result="ok")
