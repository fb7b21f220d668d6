"""Loading definitions: one bad config costs only itself, no network is touched, a user's own project keeps its ways."""

from __future__ import annotations

import builtins
import json
import keyword
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox

from nango_dagster import posted
from nango_dagster.config import ForEach, Sync
from nango_dagster.config.names import RESERVED, refused
from nango_dagster.defs import NangoSyncsComponent, build_definitions, metadata, names
from nango_dagster.defs.placements import Placement
from nango_dagster.errors import ConfigError
from nango_dagster.mapping import Column, Type
from nango_dagster.settings import Settings
from nango_dagster.store import Database, integrations, syncs
from tests.conftest import ROOT
from tests.executions import Source, items
from tests.fake_api import FakeApi
from tests.materializing import Project

URL = "https://api.example.com/items"


def write(folder: Path, **configs: Any) -> Path:
    """A folder with these configs, a file each; a text is the file itself."""
    folder.mkdir(exist_ok=True)
    for name, config in configs.items():
        (folder / f"{name}.yaml").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


def synced(defs: dg.Definitions) -> list[str]:
    """The syncs that have an asset, a job and a schedule."""
    jobs = {job.name for job in defs.resolve_all_job_defs()}
    schedules = {schedule.name for schedule in defs.schedules or ()} - {names.RETENTION_SCHEDULE}
    keys = {key.path[-1] for key in defs.resolve_all_asset_keys() if key.path[0] not in ("api", "not_loaded")}
    assert jobs >= {f"{name.replace('-', '_')}_job" for name in keys}
    assert schedules == {f"{name.replace('-', '_')}_schedule" for name in keys}
    return sorted(keys)


@pytest.fixture
def nowhere(tmp_path: Path) -> Settings:
    """Settings of a database that nobody has made yet."""
    return Settings.from_env({"NANGO_HOME": str(tmp_path / "home")}, dotenv=None)


# --- configs ----------------------------------------------------------------------------------------------------------


def test_each_file_of_a_folder_becomes_an_asset_a_job_and_a_schedule(tmp_path: Path, nowhere: Settings) -> None:
    folder = write(
        tmp_path / "configs", pokemon={"url": URL}, two="syncs:\n  a: {url: http://a/}\n  b: {url: http://b/}"
    )
    assert synced(build_definitions(folder, nowhere)) == ["a", "b", "pokemon"]


def test_the_asset_of_parents_is_upstream_with_the_same_partitions(nowhere: Settings) -> None:
    issues = Sync(name="issues", url="https://api.example.com/issues", unique_key="id", integration="github")
    comments = Sync(
        name="comments",
        url="https://api.example.com/issues/${parent.id}",
        unique_key="id",
        integration="github",
        for_each=ForEach(sync="issues", path="number"),
    )
    graph = build_definitions([issues, comments], nowhere).resolve_asset_graph()
    child, parent = dg.AssetKey(["github", "comments"]), dg.AssetKey(["github", "issues"])
    assert parent in graph.get(child).parent_keys
    assert graph.get_partition_mapping(child, parent) == dg.IdentityPartitionMapping()
    columns = [Column("parent_id", Type.NUMBER, "parent_id"), Column("id", Type.NUMBER, "id")]
    lineage = metadata.lineage_of(columns, metadata.Source.of(Placement.of(comments))).deps_by_column
    assert lineage["parent_id"] == [dg.TableColumnDep(parent, "number")]
    assert lineage["id"] == [dg.TableColumnDep(names.source_key(comments), "id")]


def test_declared_integrations_are_stored_with_their_syncs(tmp_path: Path, settings: Settings, db: Database) -> None:
    (tmp_path / "integrations.yaml").write_text("crm: {display_name: CRM, base_url: 'https://api.example.com'}")
    (tmp_path / "deals.yaml").write_text("{url: /deals, integration: crm}")
    definitions = build_definitions(tmp_path, settings)
    nango = (definitions.resources or {})["nango"]
    nango.register()
    assert [(one.name, one.display_name) for one in integrations.list_integrations(db)] == [("crm", "CRM")]
    nango.close()


def test_a_broken_file_is_reported_by_name_and_takes_no_other_sync_down(
    tmp_path: Path, nowhere: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(
        tmp_path / "configs", good={"url": URL}, bad="url: [", typo={"url": URL, "frequenzy": 5}, old={"url": "ftp://a"}
    )
    assert synced(build_definitions(folder, nowhere)) == ["good"]
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [name for line in said for name in ("bad", "old", "typo") if f"{name}.yaml" in line] == [
        "bad",
        "old",
        "typo",
    ]
    assert any('"frequenzy" is no field of a sync; did you mean frequency?' in line for line in said)


def test_a_broken_file_is_shown_as_an_asset_that_says_why(tmp_path: Path, nowhere: Settings) -> None:
    folder = write(tmp_path / "configs", good={"url": URL}, typo="url: http://a/\nfrequenzy: 5\n")
    specs = {spec.key: spec for spec in build_definitions(folder, nowhere).resolve_all_asset_specs()}
    notice = specs[dg.AssetKey(["not_loaded", "typo"])]
    assert notice.group_name == "not_loaded" and notice.description is not None
    assert "typo.yaml:2" in notice.description and "did you mean frequency?" in notice.description


def test_a_broken_file_is_an_error_where_definitions_are_validated(
    tmp_path: Path, nowhere: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "configs", good={"url": URL}, bad="url: [", typo="url: http://a/\nfrequenzy: 5\n")
    monkeypatch.setenv("DAGSTER_IS_DEFS_VALIDATION_CLI", "1")
    with pytest.raises(ConfigError) as raised:
        build_definitions(folder, nowhere)
    assert "bad.yaml:1" in str(raised.value) and "typo.yaml:2" in str(raised.value)


def test_a_folder_that_is_not_there_is_reported(
    tmp_path: Path, nowhere: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    assert synced(build_definitions(tmp_path / "none", nowhere)) == []
    assert "none is no folder" in caplog.text


@pytest.mark.parametrize("name", ["type", "input", "class", "x" * 255, "nango_dispatch_waiting"])
def test_a_name_that_dagster_does_not_take_costs_only_its_own_sync(
    name: str, nowhere: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    found = synced(build_definitions([Sync(name=name, url=URL), Sync(name="good", url=URL)], nowhere))
    assert "good" in found
    assert name in found or f"sync {name} is not loaded" in caplog.text


WORDS = {*keyword.kwlist, *dir(builtins), *keyword.softkwlist, *RESERVED, "self", "params", "nango"}


@pytest.mark.parametrize("word", sorted(word for word in WORDS if word.isidentifier()))
def test_the_names_that_dagster_keeps_for_itself_are_those_that_a_config_refuses(word: str) -> None:
    taken = True
    try:
        dg.OpDefinition(lambda: None, word)
    except dg.DagsterInvalidDefinitionError:
        taken = False
    assert taken == (word not in RESERVED)


@pytest.mark.parametrize("integration", ["hub spot", "a:b", "a~b", "a@b", "a.b", "a-b", "config", "1", "."])
def test_the_integrations_that_dagster_does_not_take_are_those_that_a_config_refuses(
    integration: str, nowhere: Settings
) -> None:
    sync = Sync(name="input", url=URL, pizzly_provider_config_key=integration)
    keys = build_definitions([sync], nowhere).resolve_all_asset_keys()
    assert (dg.AssetKey([integration, "input"]) in keys) == (refused(sync) is None)


def test_names_that_dagster_cannot_tell_apart_are_reported(nowhere: Settings, caplog: pytest.LogCaptureFixture) -> None:
    found = synced(build_definitions([Sync(name=name, url=URL) for name in ("a-b", "a_b", "c")], nowhere))
    assert found == ["a-b", "c"]
    assert "sync a_b is not loaded: its name in Dagster is also that of sync a-b." in caplog.text


def test_a_sync_that_is_switched_off_is_not_loaded(nowhere: Settings) -> None:
    assert synced(build_definitions([Sync(name="off", url=URL, enabled=False)], nowhere)) == []


# --- no network, no waiting -------------------------------------------------------------------------------------------


def test_loading_makes_no_database_and_asks_no_api(tmp_path: Path, nowhere: Settings, api: FakeApi) -> None:
    folder = write(tmp_path / "configs", items={"url": f"{api.url}/items"})
    assert synced(build_definitions(folder, nowhere)) == ["items"]
    assert not api.requests
    assert not nowhere.home.exists()


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_database_that_does_not_answer_costs_three_seconds_and_no_sync(tmp_path: Path, silent: int) -> None:
    folder = write(tmp_path / "configs", items={"url": URL})
    env = {"NANGO_HOME": str(tmp_path / "home"), "NANGO_DB_URL": f"postgresql://a:b@127.0.0.1:{silent}/c"}
    settings = Settings.from_env(env, dotenv=None)
    posted.save(settings, [Sync(name="posted", url=URL)])
    began = time.monotonic()
    assert synced(build_definitions(folder, settings)) == ["items", "posted"]
    assert time.monotonic() - began < posted.SECONDS + 2


def test_posted_syncs_become_assets_too(db: Database, settings: Settings, tmp_path: Path) -> None:
    syncs.post(db, Sync(name="posted", url=URL, unique_key="id"), named=True)
    folder = write(tmp_path / "configs", items={"url": URL})
    assert synced(build_definitions(folder, settings)) == ["items", "posted"]


def test_a_posted_sync_never_takes_the_place_of_a_config_file(
    db: Database, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    syncs.post(db, Sync(name="a_b", url=URL), named=True)
    folder = write(tmp_path / "configs", **{"a-b": {"url": URL}})
    assert synced(build_definitions(folder, settings)) == ["a-b"]
    assert "sync a_b is not loaded" in caplog.text


def test_log_level_is_that_of_our_loggers(tmp_path: Path) -> None:
    import logging

    before = logging.getLogger("nango_dagster").level
    try:
        build_definitions([], Settings.from_env({"LOG_LEVEL": "error", "NANGO_HOME": str(tmp_path)}, dotenv=None))
        assert logging.getLogger("nango_dagster").level == logging.ERROR
    finally:
        logging.getLogger("nango_dagster").setLevel(before)


# --- in somebody's project --------------------------------------------------------------------------------------------


def test_it_merges_with_a_project_that_has_its_own_executor_and_io_manager(settings: Settings, api: FakeApi) -> None:
    @dg.asset
    def theirs() -> int:
        return 1

    @dg.asset
    def after(theirs: int) -> int:
        return theirs + 1

    own = dg.Definitions(
        assets=[theirs, after],
        jobs=[dg.define_asset_job("all_of_it")],
        executor=dg.in_process_executor,
        resources={"io_manager": dg.mem_io_manager},
    )
    sync = Source(api, items(1, 2)).sync(unique_key="id")
    assert build_definitions([sync], settings).executor is None
    with Project(settings, sync, own=own) as project:
        result = project.run("all_of_it")
        assert result.success
        assert result.output_for_node("after") == 2
        assert project.metadata("items")["added"] == 2


def test_a_component_loads_the_configs_beside_its_defs_yaml() -> None:
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component_cls=NangoSyncsComponent,
            defs_yaml_contents={
                "type": "nango_dagster.defs.NangoSyncsComponent",
                "attributes": {"configs": "lists"},
                "post_processing": {"assets": [{"target": "*", "attributes": {"tags": {"team": "data"}}}]},
            },
        )
        write(path / "lists", pokemon={"url": URL})
        with sandbox.load_component_and_build_defs(defs_path=path) as (component, defs):
            assert isinstance(component, NangoSyncsComponent)
            assert synced(defs) == ["pokemon"]
            spec = next(spec for spec in defs.resolve_all_asset_specs() if spec.key == dg.AssetKey("pokemon"))
            assert spec.tags["team"] == "data"


def test_a_component_reads_sync_configs_unless_it_is_told_otherwise() -> None:
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(component_cls=NangoSyncsComponent)
        write(path / "sync_configs", pokemon={"url": URL})
        with sandbox.load_component_and_build_defs(defs_path=path) as (_, defs):
            assert synced(defs) == ["pokemon"]


def test_dg_finds_the_component_through_the_registry() -> None:
    (entry,) = (
        found for found in entry_points(group="dagster_dg_cli.registry_modules") if found.name == "nango_dagster"
    )
    assert NangoSyncsComponent in vars(entry.load()).values()


PROJECT = {
    "pyproject.toml": """
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "shop"
""",
    "shop/__init__.py": "",
    "shop/definitions.py": """
from pathlib import Path
from dagster import definitions, load_from_defs_folder

@definitions
def defs():
    return load_from_defs_folder(path_within_project=Path(__file__).parent)
""",
    "shop/defs/__init__.py": "",
    "shop/defs/syncs/defs.yaml": """
type: nango_dagster.defs.NangoSyncsComponent
attributes: {configs: '{{ env.LISTS }}'}
""",
    "shop/defs/syncs/lists/pokemon.yaml": f"url: {URL}\n",
}


def validate(folder: Path, *arguments: str, **env: str) -> None:
    """Load definitions as a code server does, in a process of its own."""
    found = validation(folder, *arguments, **env)
    assert found.returncode == 0, found.stdout + found.stderr


def validation(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The exit status of `dagster definitions validate`."""
    command = [sys.executable, "-m", "dagster", "definitions", "validate", *arguments]
    return subprocess.run(command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True)


@pytest.mark.acceptance
def test_a_dg_project_loads_the_component_from_its_defs_folder(tmp_path: Path) -> None:
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    listing = "from shop.definitions import defs; print([str(k) for k in defs().resolve_all_asset_keys()])"
    env = {**os.environ, "LISTS": "lists", "PYTHONPATH": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", listing], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "AssetKey(['pokemon'])" in found.stdout
    assert not (tmp_path / ".nango").exists()


@pytest.mark.acceptance
def test_workspace_yaml_serves_the_syncs_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "workspace.yaml").write_text((ROOT / "workspace.yaml").read_text())
    write(tmp_path / "sync_configs", pokemon={"url": URL})
    validate(tmp_path, "-w", "workspace.yaml")


@pytest.mark.acceptance
def test_dagster_definitions_validate_fails_with_the_file_and_the_line_of_a_broken_config(tmp_path: Path) -> None:
    (tmp_path / "workspace.yaml").write_text((ROOT / "workspace.yaml").read_text())
    write(tmp_path / "sync_configs", good={"url": URL}, typo="url: http://a/\nfrequenzy: 5\n")
    found = validation(tmp_path, "-w", "workspace.yaml")
    assert found.returncode != 0 and "typo.yaml:2" in found.stdout + found.stderr


# --- cost -------------------------------------------------------------------------------------------------------------

COUNT = 300


def test_what_three_hundred_syncs_cost_to_load(nowhere: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Printed, not asserted: how long loading takes beside as many assets, jobs and schedules of bare Dagster."""

    def bare() -> dg.Definitions:
        def one(number: int) -> tuple[Any, Any, Any]:
            asset = dg.asset(name=f"asset{number}")(lambda: None)
            job = dg.define_asset_job(f"asset{number}_job", selection=[asset])
            return asset, job, dg.ScheduleDefinition(job=job, cron_schedule="0 * * * *")

        parts = [one(number) for number in range(COUNT)]
        assets, jobs, schedules = (list(column) for column in zip(*parts, strict=True))
        return dg.Definitions(assets=assets, jobs=jobs, schedules=schedules)

    def ours() -> dg.Definitions:
        return build_definitions([Sync(name=f"sync{number}", url=URL) for number in range(COUNT)], nowhere)

    for what, make in (("bare Dagster", bare), ("nango_dagster", ours)):
        began = time.process_time()
        defs = make()
        made = time.process_time()
        assert len(list(defs.resolve_all_job_defs())) > COUNT
        resolved = time.process_time()
        with capsys.disabled():
            print(f"\n{COUNT} in {what}: made in {made - began:.2f} s, resolved in {resolved - made:.2f} s", end="")
