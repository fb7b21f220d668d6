"""How a sync's things are called in Dagster: one place, so that assets, jobs, schedules and tags agree."""

from __future__ import annotations

import re

from dagster import AssetKey

from ..config import Sync

DEFAULT_INTEGRATION = "default"
IO_MANAGER = "nango_io_manager"
RESOURCE = "nango"
SYNC_METADATA = "nango/sync"
CHECK = "sync_is_healthy"


def asset_key(sync: Sync) -> AssetKey:
    """`[integration, sync]`, without the integration where there is none.

    >>> asset_key(Sync(name="pokemon", url="https://pokeapi.co/api/v2/pokemon")).to_user_string()
    'pokemon'
    """
    parts = [sync.name] if sync.integration_key == DEFAULT_INTEGRATION else [sync.integration_key, sync.name]
    return AssetKey(parts)


def source_key(sync: Sync) -> AssetKey:
    """The external list that the sync reads, as an asset upstream of it."""
    return AssetKey(["api", *asset_key(sync).path])


def python_name(sync: Sync) -> str:
    """The sync's name where Dagster allows letters, digits and `_` only.

    >>> python_name(Sync(name="github-issues", url="https://api.github.com/issues"))
    'github_issues'
    """
    return "__".join(re.sub(r"[^A-Za-z0-9_]", "_", part) for part in asset_key(sync).path)


def job_name(sync: Sync) -> str:
    """The job that runs one sync."""
    return f"{python_name(sync)}_job"


def schedule_name(sync: Sync) -> str:
    """The schedule that runs the job."""
    return f"{python_name(sync)}_schedule"


def run_tag(sync: Sync) -> str:
    """The tag that every run of a sync carries."""
    return f"nango/sync/{sync.name}"
