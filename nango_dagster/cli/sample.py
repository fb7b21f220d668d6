"""The sample API of the package, served while a command runs whose syncs read it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from ..config import Sync
from .command import Session

VARIABLE: Final = "DEMO_API_URL"
"""`${env.DEMO_API_URL}` begins the URL of a sync that reads the sample API."""


@contextlib.contextmanager
def sample_api(session: Session, syncs: Iterable[Sync]) -> Iterator[Session]:
    """Serve the sample API while the block runs, if one of the syncs reads it and the variable has no value.

    Yields the session whose settings have the variable's value.
    """
    settings = session.settings
    if VARIABLE in settings.env or not any(f"${{env.{VARIABLE}}}" in sync.address for sync in syncs):
        yield session
        return
    from ..sample_api import serve

    with serve() as url:
        yield replace(session, settings=replace(settings, env={**settings.env, VARIABLE: url}))
