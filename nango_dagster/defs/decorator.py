"""`@nango_syncs`: the definitions of syncs, executed by a function of the project."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dagster import Definitions

from ..config import Sync
from ..settings import Settings
from .build import Selector, build_definitions
from .placements import Execute, SyncOptions
from .translator import NangoSyncTranslator


def nango_syncs(
    configs: str | Path | Sequence[Sync] | None = None,
    settings: Settings | None = None,
    *,
    key_prefix: str | Sequence[str] = (),
    translator: NangoSyncTranslator | None = None,
    select: Selector | None = None,
    options: SyncOptions | None = None,
) -> Callable[[Execute], Definitions]:
    """Turn a function that executes a sync for one connection into the definitions of syncs.

    The arguments are those of `build_definitions`. The function is called in several threads at once, by the runs of
    schedules, partitions and the dispatcher alike.

    >>> @nango_syncs([Sync(name="pokemon", url="https://pokeapi.co/api/v2/pokemon")], key_prefix="raw")
    ... def syncs(execution, report):
    ...     return execution.run(report)
    >>> sorted(key.to_user_string() for key in syncs.resolve_all_asset_keys())
    ['raw/api/pokemon-api', 'raw/pokemon']
    """

    def decorate(execute: Execute) -> Definitions:
        return build_definitions(
            configs,
            settings,
            key_prefix=key_prefix,
            translator=translator,
            select=select,
            options=replace(options or SyncOptions(), execute=execute),
        )

    return decorate
