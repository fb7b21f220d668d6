"""The names of assets, jobs, schedules, partitions and tags in Dagster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dagster import AssetKey

from ..config import Sync
from ..config.names import DEFAULT_INTEGRATION, key_of, plain
from ..config.names import python_name as python_name

DEFAULT_GROUP = "syncs"
IO_MANAGER = "nango_io_manager"
RESOURCE = "nango"
CHECK = "sync_is_healthy"
RUN_TAG = "nango/sync"
DISPATCH_JOB = "nango_dispatch"
DISPATCHER = "nango_dispatcher"
WEBHOOKS = "nango_webhooks"
CONTROL_JOB = "nango_control"
RETENTION_JOB = "nango_retention"
RETENTION_SCHEDULE = "nango_retention_schedule"


def asset_key(sync: Sync, prefix: Sequence[str] = ()) -> AssetKey:
    """`[*prefix, integration, sync]`, without the integration where there is none.

    >>> asset_key(Sync(name="pokemon", url="https://pokeapi.co/api/v2/pokemon"), ["raw"]).to_user_string()
    'raw/pokemon'
    """
    return AssetKey([*prefix, *key_of(sync)])


def sibling(key: AssetKey, name: str) -> AssetKey:
    """The asset of another sync of the same integration.

    >>> sibling(AssetKey(["github", "comments"]), "issues").to_user_string()
    'github/issues'
    """
    return AssetKey([*key.path[:-1], name])


def sync_of(key: AssetKey) -> tuple[str, str] | None:
    """The integration and name of the sync with this asset key; None where no sync has such a key.

    >>> sync_of(AssetKey(["github", "issues"])), sync_of(AssetKey("pokemon")), sync_of(AssetKey(["a", "b", "c"]))
    (('github', 'issues'), ('default', 'pokemon'), None)
    """
    path = [DEFAULT_INTEGRATION, *key.path][-2:]
    return (path[0], path[1]) if len(key.path) <= 2 else None


def source_key(sync: Sync, prefix: Sequence[str] = ()) -> AssetKey:
    """The key of the upstream asset that stands for the API's list; the graph shows its last part.

    >>> source_key(Sync(name="pokemon", url="https://pokeapi.co/api/v2/pokemon")).to_user_string()
    'api/pokemon-api'
    """
    *before, name = key_of(sync)
    return AssetKey([*prefix, "api", *before, f"{name}-api"])


def group(sync: Sync) -> str:
    """The asset group of a sync: from its config, or its integration, or the default group."""
    if sync.group or sync.integration_key == DEFAULT_INTEGRATION:
        return sync.group or DEFAULT_GROUP
    return plain(sync.integration_key)


def job_name(sync: Sync, prefix: str = "") -> str:
    """The name of the job of a sync."""
    return f"{prefix}{python_name(sync)}_job"


def schedule_name(sync: Sync, prefix: str = "") -> str:
    """The name of the schedule of a sync."""
    return f"{prefix}{python_name(sync)}_schedule"


def run_name(sync: Sync) -> str:
    """The name of a sync in run tags."""
    return asset_key(sync).to_user_string()


def partitions_name(key: AssetKey) -> str:
    """The name of the dynamic partitions of a sync's asset: its integration and name, whatever the prefix of the key.

    >>> partitions_name(AssetKey(["raw", "github", "issues"]))
    'nango/github/issues'
    """
    return f"nango/{AssetKey(key.path[-2:]).to_user_string()}"


def run_tag(syncs: Iterable[Sync]) -> dict[str, str]:
    """The tag of a run that executes these syncs.

    >>> run_tag([Sync(name=name, url="https://api.example.com") for name in ("a", "b")])
    {'nango/sync': 'a,b'}
    """
    return {RUN_TAG: ",".join(map(run_name, syncs))}
