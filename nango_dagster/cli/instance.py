"""Dagster's instance, as the commands meet it: where runs are recorded, and where partitions are kept."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..dagster_yaml import dagster_home
from ..errors import NangoError
from .command import Session

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from ..settings import Settings
    from ..store import Database


@contextlib.contextmanager
def open_instance(settings: Settings) -> Iterator[DagsterInstance]:
    """Dagster's instance under DAGSTER_HOME, which says so to whatever is done meanwhile.

    Raises NangoError with Dagster's reason when it cannot be opened.
    """
    home = dagster_home(settings)
    if not home.is_dir():
        raise NangoError(f"DAGSTER_HOME is {home}, which is no folder; make it, or leave the variable unset.")
    from dagster import DagsterInstance

    with _named(home):
        try:
            instance = DagsterInstance.get()
        except Exception as error:  # whatever its storage raises: a database that is down, a wrong dagster.yaml
            reason = " ".join(str(error).split())
            raise NangoError(f"Dagster cannot start with DAGSTER_HOME {home}: {reason[:500]}") from error
        with instance:
            yield instance


@contextlib.contextmanager
def _named(home: Path) -> Iterator[None]:
    """DAGSTER_HOME is this folder; afterwards it is what it was before."""
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(home.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ["DAGSTER_HOME"]
        else:
            os.environ["DAGSTER_HOME"] = before


def refresh_partitions(session: Session, database: Database, integrations: set[str]) -> None:
    """Give Dagster the partition keys that the integrations' syncs have now, where there is a Dagster yet.

    One that does not answer is told of, and gets them from its dispatcher.
    """
    from ..store import syncs

    is_named = bool(os.environ.get("DAGSTER_HOME"))
    rows = [row for row in syncs.all(database) if row.sync.partitioned and row.integration in integrations]
    if not rows or not (is_named or (session.settings.home / "dagster").is_dir()):
        return
    try:
        with open_instance(session.settings) as instance:
            from ..defs import partitions

            partitions.refresh(instance, database, rows)
    except Exception as error:  # whatever Dagster's storage raises: what was asked for is done already
        reason = " ".join(str(error).split())[:300]
        session.warn(f"Dagster does not know of this yet, its dispatcher will see to it: {reason}")
