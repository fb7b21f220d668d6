"""Merging strategies of a script: whether records are kept that somebody else has changed meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from ..config import Sync
from ..errors import ScriptError
from ..records import key_reader
from ..sources import Services

OVERRIDE: Final = "override"
IGNORE_MODIFIED: Final = "ignore_if_modified_after"


class Merging:
    """The strategies of one execution; without one, records are replaced."""

    def __init__(self, sync: Sync, services: Callable[[], Services], commit: Callable[[], None]) -> None:
        """`commit` commits what the execution has saved, so that it can tell its own changes."""
        self._sync = sync
        self._services = services
        self._commit = commit
        self._since: dict[str, datetime | None] = {}
        self._own_keys: dict[str, set[str]] = {}
        self._read_keys = key_reader(sync.key_fields)

    def set(self, strategy: str, model: str | None) -> bool:
        """Set the strategy of a model from now on; False where it was set before.

        Raises ScriptError for a strategy that does not exist.
        """
        if strategy not in (OVERRIDE, IGNORE_MODIFIED):
            raise ScriptError(
                f"{self._sync.display_name}: {strategy!r} is no merging strategy; wanted {OVERRIDE} or "
                f"{IGNORE_MODIFIED}."
            )
        name = model or self._sync.model
        if name in self._own_keys:
            return False
        self._commit()
        self._own_keys[name] = set()
        if strategy == IGNORE_MODIFIED:
            self._since[name] = self._services().last_change(model)
        return True

    def unmodified(self, records: list[bytes], model: str | None) -> list[bytes]:
        """The records that nobody else has changed since the strategy was set."""
        name = model or self._sync.model
        if name not in self._since or not records:
            return records
        keys = [str(key) for key in self._read_keys(records)]
        self._commit()
        moment, own = self._since[name], self._own_keys[name]
        foreign = [key for key in keys if key not in own]
        modified = self._services().modified_after(moment, foreign, model) if moment is not None and foreign else set()
        own.update(key for key in keys if key not in modified)
        return [record for record, key in zip(records, keys, strict=True) if key not in modified]
