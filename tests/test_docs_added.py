"""The page on Dagster lists every name that is added to a project."""

from __future__ import annotations

import re

import dagster as dg
import pytest

from nango_dagster.config import Sync
from nango_dagster.defs import SyncOptions, build_definitions
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "how-to" / "dagster.md").read_text()
SECTION = PAGE[PAGE.index("### Definitions that are added") : PAGE.index("### Several components")]
LISTED = set(re.findall(r"`([^`]+)`", SECTION))


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_every_name_in_the_repository_is_on_the_page(settings_env: None) -> None:
    syncs = [
        Sync(name="contacts", url="https://crm.example.com/contacts", integration="crm", tags={"tier": "gold"}),
        Sync(name="pokemon", url="https://example.com/pokemon"),
    ]
    options = SyncOptions(job_prefix="raw_")
    repository = build_definitions(syncs, key_prefix="raw", options=options).get_repository_def()
    graph = repository.asset_graph
    assets = [graph.get(key) for key in repository.asset_graph.get_all_asset_keys()]
    partitioned = [asset.partitions_def for asset in assets]
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    names = {
        *(job.name for job in jobs),
        *(node.name for job in jobs for node in job.graph.node_defs),
        *(schedule.name for schedule in repository.schedule_defs),
        *(sensor.name for sensor in repository.sensor_defs),
        *(name for name in repository.get_top_level_resources()),
        *(check.name for asset in assets for check in asset.check_keys),
        *(str(partitions.name) for partitions in partitioned if isinstance(partitions, dg.DynamicPartitionsDefinition)),
        *(kind for asset in assets for kind in asset.kinds),
        *(tag for job in jobs for tag in job.tags),
    }
    assert {_general(name) for name in names} - LISTED == set()
    keys = {"/".join(_general(part) for part in asset.key.path) for asset in assets}
    assert keys == {"key_prefix/integration/sync", "key_prefix/api/integration/sync-api", "key_prefix/sync"} | {
        "key_prefix/api/sync-api"
    }
    assert {asset.group_name for asset in assets} == {"crm", "syncs"}
    assert all(re.match("nango/|dagster/", name) for asset in assets for name in asset.metadata)
    assert {asset.tags.get("tier") for asset in assets if asset.key == dg.AssetKey(["raw", "crm", "contacts"])} == {
        "gold"
    }


def _general(name: str) -> str:
    """The name as the page writes it, for every sync."""
    name = re.sub("^raw_", "JOB_PREFIX", re.sub("^raw$", "key_prefix", name))
    name = name.replace("crm__contacts", "sync").replace("nango/crm/contacts", "nango/integration/sync")
    return re.sub("^crm$", "integration", re.sub("pokemon|contacts", "sync", name))
