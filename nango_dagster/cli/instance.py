"""Dagster's instance: where runs are recorded and partition keys are kept."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..dagster_yaml import dagster_home
from ..errors import NangoError
from .command import Session

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from ..settings import Settings
    from ..store import Database


LOCK_FILE: Final = "nango-dagster.lock"
LOCK_SECONDS: Final = 120
"""Wait at most this long for other processes that create or open the same storage."""


@contextlib.contextmanager
def open_instance(settings: Settings) -> Iterator[DagsterInstance]:
    """Dagster's instance under DAGSTER_HOME; the variable is set while the block runs.

    Raises NangoError with Dagster's reason when it cannot be opened.
    """
    home = dagster_home(settings)
    if not home.is_dir():
        raise NangoError(f"DAGSTER_HOME is {home}, which is no folder; make it, or leave the variable unset.")
    from dagster import DagsterInstance

    with _named(home):
        try:
            # Dagster creates its tables without a lock: of two processes that do it at once, both write a version row.
            with _locked(home):
                instance = DagsterInstance.get()
        except Exception as error:  # whatever its storage raises: a database that is down, a wrong dagster.yaml
            raise NangoError(_reason(error, home)) from error
        with instance:
            yield instance


def create_storage(settings: Settings) -> None:
    """Create Dagster's storage if it is new, so that processes started afterwards find it complete.

    Raises NangoError with Dagster's reason when it cannot be created.
    """
    with open_instance(settings):
        pass


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Hold the lock of this DAGSTER_HOME; a folder that cannot be written to has no lock."""
    from filelock import FileLock, Timeout

    lock = FileLock(home / LOCK_FILE, timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise NangoError(
            f"another process has held {home / LOCK_FILE} for {LOCK_SECONDS} seconds; end it, then try again."
        ) from None
    except OSError:
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _reason(error: Exception, home: Path) -> str:
    """Why the instance does not open, as one sentence, with the way out where it is known."""
    if isinstance(error, NangoError):
        return str(error)
    reason = " ".join(str(error).split())
    if "more than one head" in reason:
        return (
            f"Dagster's storage of DAGSTER_HOME {home} has two version rows, because two processes created it at once. "
            "End all of Dagster's processes, delete one of the two rows of its table alembic_version "
            f"(with SQLite storage: delete the folders {home / 'history'} and {home / 'schedules'}), then try again. "
            "Synced records are not affected."
        )
    return f"Dagster cannot start with DAGSTER_HOME {home}: {reason[:500]}"


@contextlib.contextmanager
def _named(home: Path) -> Iterator[None]:
    """Set DAGSTER_HOME to this folder while the block runs."""
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
    """Write the current partition keys of the integrations' syncs into Dagster's storage, if it exists.

    A storage that cannot be opened is a warning: the dispatcher writes the keys later.
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
        session.warn(f"Dagster does not have the new partitions yet; its dispatcher adds them when it runs: {reason}")
