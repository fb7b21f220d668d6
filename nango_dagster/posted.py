"""The posted syncs for the definitions: from the store, or from a file when the store does not answer."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from .config import Sync, from_document
from .errors import ConfigError, NangoError, StoreUnavailable
from .http import public_config
from .settings import Settings
from .store import Database, open_database, sealing, syncs
from .vault import Vault

log = logging.getLogger(__name__)

FILE = "posted-syncs.json"
SECONDS = 3.0
"""The time limit for the store when definitions load."""


def load(settings: Settings, database: Database | None = None) -> list[Sync]:
    """The syncs that were posted over HTTP, from the store.

    If it does not answer within three seconds, they are read from the file in `NANGO_HOME` that `refresh` writes.
    Nothing is written. Errors of the store and of the file are logged, not raised.
    """
    try:
        return _in_time(lambda: _from_store(settings, database))
    except StoreUnavailable as error:
        log.warning("%s Posted syncs are read from %s.", error, _file(settings))
    except Exception as error:
        # The tables do not exist yet, or are those of another release.
        log.info(
            "posted syncs are read from %s, since the store cannot be read: %s", _file(settings), type(error).__name__
        )
    return _from_file(_file(settings), partial(Vault.open, settings))


def refresh(settings: Settings, database: Database) -> None:
    """Write the file from the store. A lock makes the last of several processes write the latest state."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with locked(settings.home / f".{FILE}.lock"):
        save(settings, [row.sync for row in syncs.posted(database)])


def save(settings: Settings, posted: Iterable[Sync]) -> None:
    """Write the file atomically and with mode 0600: it contains the encrypted secrets of the syncs."""
    settings.home.mkdir(parents=True, exist_ok=True)
    documents = [{**sync.document(), "name": sync.name} for sync in posted]
    vault = partial(Vault.open, settings)
    sealed = [sealing.seal(document, public_config(document), vault) for document in documents]
    text = json.dumps({"syncs": sealed}, indent=1)
    descriptor, name = tempfile.mkstemp(dir=settings.home, prefix=f".{FILE}.")  # with mode 0600
    try:
        with open(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, _file(settings))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock against other processes and threads; the system releases it when the process ends."""
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _file(settings: Settings) -> Path:
    return settings.home / FILE


def _in_time(work: Callable[[], list[Sync]]) -> list[Sync]:
    """The result of `work`. Raises StoreUnavailable after SECONDS; its thread then continues in the background."""
    answers: SimpleQueue[list[Sync] | Exception] = SimpleQueue()

    def answer() -> None:
        try:
            answers.put(work())
        except Exception as error:
            answers.put(error)

    threading.Thread(target=answer, name="nango-posted-syncs", daemon=True).start()
    try:
        answer_ = answers.get(timeout=SECONDS)
    except Empty:
        raise StoreUnavailable(f"the database did not answer within {SECONDS:g} seconds.") from None
    if isinstance(answer_, Exception):
        raise answer_
    return answer_


def _from_store(settings: Settings, database: Database | None) -> list[Sync]:
    if database is not None:
        return [row.sync for row in syncs.posted(database)]
    if not _exists(settings.db_url):
        return []
    opened = open_database(settings, migrate=False)
    try:
        return _from_store(settings, opened)
    finally:
        opened.close()


def _exists(db_url: str) -> bool:
    """Whether the database exists; opening a missing SQLite file would create it."""
    return not db_url.startswith("sqlite:///") or Path(db_url.removeprefix("sqlite:///")).exists()


def _from_file(file: Path, vault: Callable[[], Vault]) -> list[Sync]:
    try:
        documents = list(json.loads(file.read_text())["syncs"])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        log.warning("%s cannot be read: %s.", file, type(error).__name__)
        return []
    return [sync for document in documents if (sync := _sync(document, file, vault)) is not None]


def _sync(document: Mapping[str, Any], file: Path, vault: Callable[[], Vault]) -> Sync | None:
    try:
        return from_document(sealing.unseal(document, vault))
    except (ConfigError, AttributeError, TypeError, ValueError) as error:
        problem = error if isinstance(error, NangoError) else "it is no object"
        log.warning("a sync in %s is left out: %s", file, problem)
        return None
