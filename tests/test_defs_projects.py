"""Syncs inside a Dagster project that already has assets, jobs, resources and components of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox
from dagster_shared.libraries import DagsterLibraryRegistry

from nango_dagster.config import ForEach, Sync
from nango_dagster.defs import (
    NangoResource,
    NangoSyncsComponent,
    NangoSyncTranslator,
    SyncOptions,
    SyncProps,
    build_definitions,
    metadata,
    names,
    nango_syncs,
    partitions,
    shared,
)
from nango_dagster.runs import Execution, Outcome
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections, status, syncs
from tests.executions import Source, items
from tests.fake_api import FakeApi

URL = "https://api.example.com/items"
OWN = 50


@pytest.fixture(autouse=True)
def new_location() -> None:
    """Each test is a code location of its own."""
    shared.forget()


@pytest.fixture
def nowhere(tmp_path: Path) -> Settings:
    """Settings of a database that does not exist."""
    return Settings.from_env({"NANGO_HOME": str(tmp_path / "home")}, dotenv=None)


def sync(name: str, **fields: Any) -> Sync:
    return Sync(name=name, url=URL, **fields)


def keys(defs: dg.Definitions) -> set[str]:
    return {key.to_user_string() for key in defs.resolve_all_asset_keys()}


def spec(defs: dg.Definitions, key: str) -> dg.AssetSpec:
    return next(spec for spec in defs.resolve_all_asset_specs() if spec.key.to_user_string() == key)


def nango_of(defs: dg.Definitions) -> NangoResource:
    """The resource that the syncs of these definitions share."""
    resource = (defs.resources or {})["nango"]
    assert isinstance(resource, NangoResource)
    return resource


# --- several at once --------------------------------------------------------------------------------------------------


def test_several_definitions_merge_and_share_one_dispatcher(nowhere: Settings) -> None:
    first = build_definitions([sync("a")], nowhere)
    second = build_definitions([sync("b")], nowhere, key_prefix=["raw", "crm"])
    merged = dg.Definitions.merge(first, second)
    dg.Definitions.validate_loadable(merged)
    assert keys(merged) == {"a", "api/a-api", "raw/crm/b", "raw/crm/api/b-api"}
    assert {sensor.name for sensor in merged.get_repository_def().sensor_defs} == {"nango_dispatcher", "nango_webhooks"}
    assert {placement.sync.name for placement in nango_of(merged).placements} == {"a", "b"}


def test_each_of_several_definitions_also_stands_alone(nowhere: Settings) -> None:
    build_definitions([sync("a")], nowhere)
    alone = build_definitions([sync("b")], nowhere)
    dg.Definitions.validate_loadable(alone)
    assert "nango_dispatch" in {job.name for job in alone.resolve_all_job_defs()}


def test_broken_configs_of_the_same_name_in_two_folders_are_both_shown(tmp_path: Path, nowhere: Settings) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "typo.yaml").write_text("url: [")
    merged = dg.Definitions.merge(*(build_definitions(tmp_path / folder, nowhere) for folder in ("one", "two")))
    assert keys(merged) == {"not_loaded/typo", "not_loaded/typo_2"}


def test_a_posted_sync_belongs_to_one_of_several_definitions(db: Database, settings: Settings, tmp_path: Path) -> None:
    syncs.post(db, sync("posted", unique_key="id"), named=True)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{folder}.yaml").write_text(f"url: {URL}/{folder}")
    merged = dg.Definitions.merge(*(build_definitions(tmp_path / folder, settings) for folder in ("one", "two")))
    dg.Definitions.validate_loadable(merged)
    assert {"posted", "one", "two"} <= keys(merged)


# --- names and attributes ---------------------------------------------------------------------------------------------


def test_options_name_jobs_and_set_status_tags_and_pool(nowhere: Settings) -> None:
    options = SyncOptions(job_prefix="crm_", default_status="stopped", op_tags={"team": "crm"}, pool="crm")
    defs = build_definitions([sync("a")], nowhere, options=options)
    repository = defs.get_repository_def()
    asset = next(asset for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition) and asset.is_executable)
    assert asset.op.name == "crm_a" and asset.op.tags["team"] == "crm" and asset.op.pool == "crm"
    assert {schedule.name for schedule in repository.schedule_defs} == {"crm_a_schedule", "nango_retention_schedule"}
    stopped: list[Any] = [*repository.schedule_defs, *repository.sensor_defs]
    assert {definition.default_status.value for definition in stopped} == {"STOPPED"}
    assert repository.has_job("crm_a_job")


def test_a_schedule_that_starts_stopped_is_executed_only_when_triggered(
    db: Database, settings: Settings, tmp_path: Path, api: FakeApi
) -> None:
    listed = Source(api, items(1)).sync(unique_key="id")
    defs = build_definitions([listed], settings, options=SyncOptions(default_status="stopped"))
    nango = nango_of(defs)
    dispatch = defs.resolve_job_def("nango_dispatch")
    try:
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            assert dispatch.execute_in_process(instance=instance).success
            assert not api.requests
            assert defs.resolve_job_def(names.job_name(listed)).execute_in_process(instance=instance).success
            assert api.requests
    finally:
        nango.close()


def test_a_translator_changes_the_specs(nowhere: Settings) -> None:
    class Ours(NangoSyncTranslator):
        def get_asset_spec(self, props: SyncProps) -> dg.AssetSpec:
            return (
                super()
                .get_asset_spec(props)
                .replace_attributes(
                    key=["lake", props.sync.name],
                    group_name="crm",
                    owners=["team:sales"],
                    automation_condition=dg.AutomationCondition.on_cron("0 6 * * *"),
                )
            )

    defs = build_definitions([sync("a", integration="hub")], nowhere, translator=Ours())
    dg.Definitions.validate_loadable(defs)
    asset = spec(defs, "lake/a")
    assert (asset.group_name, asset.owners) == ("crm", ["team:sales"]) and asset.automation_condition
    assert isinstance(asset.partitions_def, dg.DynamicPartitionsDefinition)
    assert spec(defs, "api/hub/a-api").group_name == "crm"


def test_the_asset_of_children_follows_the_key_that_a_translator_gives_their_parents(nowhere: Settings) -> None:
    class Ours(NangoSyncTranslator):
        def get_asset_spec(self, props: SyncProps) -> dg.AssetSpec:
            return super().get_asset_spec(props).replace_attributes(key=["lake", f"raw_{props.sync.name}"])

    row = {"type": "object", "properties": {"id": {"type": "integer"}, "parent_id": {"type": "integer"}}}
    comments = Sync(
        name="comments",
        url=f"{URL}/${{parent.id}}",
        unique_key="id",
        models={"Comment": row},
        for_each=ForEach(sync="issues", path="number"),
    )
    defs = build_definitions([comments, sync("issues", unique_key="id")], nowhere, translator=Ours())
    child, parent = dg.AssetKey(["lake", "raw_comments"]), dg.AssetKey(["lake", "raw_issues"])
    assert parent in defs.resolve_asset_graph().get(child).parent_keys
    lineage = spec(defs, "lake/raw_comments").metadata["dagster/column_lineage"]
    assert lineage.deps_by_column["parent_id"] == [dg.TableColumnDep(parent, "number")]
    nango = (defs.resources or {})["nango"]
    placement = next(place for place in nango.placements if place.sync.name == "comments")
    assert metadata.Source.of(placement).parent == parent


@pytest.mark.filterwarnings("ignore::dagster.PreviewWarning")  # of Definitions.map_asset_specs
def test_map_asset_specs_changes_attributes(nowhere: Settings) -> None:
    defs = build_definitions([sync("a")], nowhere).map_asset_specs(
        func=lambda spec: spec.merge_attributes(tags={"team": "data"}).replace_attributes(group_name="mapped")
    )
    dg.Definitions.validate_loadable(defs)
    assert spec(defs, "a").tags["team"] == "data" and spec(defs, "a").group_name == "mapped"


def test_an_asset_leads_to_its_config_file_and_its_table(tmp_path: Path) -> None:
    (tmp_path / "lists.yaml").write_text(f"syncs:\n  a:\n    url: {URL}\n    mapped_table: items\n")
    settings = Settings.from_env(
        {"NANGO_HOME": str(tmp_path), "NANGO_DB_URL": "postgresql://ann:x@db/lake", "NANGO_DB_SCHEMA": "raw"},
        dotenv=None,
    )
    (tmp_path / "sync_configs").mkdir()
    (tmp_path / "lists.yaml").rename(tmp_path / "sync_configs" / "lists.yaml")
    (loaded,) = shared_props(tmp_path / "sync_configs", settings)
    metadata = NangoSyncTranslator().get_asset_spec(loaded).metadata
    assert metadata["dagster/table_name"] == "lake.raw.items"
    (reference,) = metadata["dagster/code_references"].code_references
    assert Path(reference.file_path).name == "lists.yaml" and reference.line_number in (2, 3)


def shared_props(folder: Path, settings: Settings) -> list[SyncProps]:
    from nango_dagster.defs.build import _of_files

    return list(_of_files(folder, settings, []))


def test_the_library_is_in_dagsters_registry() -> None:
    assert "nango-dagster" in DagsterLibraryRegistry.get()


# --- components -------------------------------------------------------------------------------------------------------


EXECUTED: list[str] = []
"""The syncs that `LoggedSyncs` has executed."""


class LoggedSyncs(NangoSyncsComponent):
    """A project's own component."""

    def get_asset_spec(self, props: SyncProps) -> dg.AssetSpec:
        return super().get_asset_spec(props).replace_attributes(group_name="ours")

    def execute(self, execution: Execution, report: Any) -> Outcome:
        EXECUTED.append(execution.row.name)
        return super().execute(execution, report)


def test_scaffolding_writes_a_config_that_loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NANGO_HOME", str(tmp_path))
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component_cls=NangoSyncsComponent, scaffold_params={"url": "https://api.example.com/v1/Order-Items"}
        )
        assert yaml.safe_load((path / "sync_configs" / "order-items.yaml").read_text()) == {
            "url": "https://api.example.com/v1/Order-Items"
        }
        with sandbox.load_component_and_build_defs(defs_path=path) as (_, defs):
            assert keys(defs) == {"order-items", "api/order-items-api"}


def test_a_component_selects_and_translates_syncs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NANGO_HOME", str(tmp_path))
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component_cls=NangoSyncsComponent,
            defs_yaml_contents={
                "type": "nango_dagster.defs.NangoSyncsComponent",
                "attributes": {
                    "key_prefix": ["raw"],
                    "select": {"by_integration": ["hub"]},
                    "translation": {"group_name": "from_{{ sync.integration }}", "tags": {"list": "{{ sync.name }}"}},
                },
            },
        )
        configs = path / "sync_configs"
        (configs / "deals.yaml").write_text(f"url: {URL}\nintegration: hub\n")
        (configs / "other.yaml").write_text(f"url: {URL}\n")
        with sandbox.load_component_and_build_defs(defs_path=path) as (_, defs):
            assert keys(defs) == {"raw/hub/deals", "raw/api/hub/deals-api"}
            assert spec(defs, "raw/hub/deals").group_name == "from_hub"
            assert spec(defs, "raw/hub/deals").tags["list"] == "deals"


def test_a_function_of_the_project_executes_each_connection(
    db: Database, settings: Settings, tmp_path: Path, api: FakeApi
) -> None:
    executed: list[str] = []
    contacts = Source(api, items(1)).sync(integration="crm", unique_key="id")

    @nango_syncs([contacts], settings)
    def ours(execution: Execution, report: Any) -> Outcome:
        executed.append(execution.claim.connection_id)
        return execution.run(report)

    syncs.register(db, [contacts])
    for name in ("ann", "bob"):
        connections.add(db, None, connections.NewConnection("crm", name))
    try:
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            assert ours.resolve_job_def("nango_dispatch").execute_in_process(instance=instance).success
    finally:
        nango_of(ours).close()
    assert sorted(executed) == ["ann", "bob"]


# --- a whole project --------------------------------------------------------------------------------------------------


@contextmanager
def instance_on(storage: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dg.DagsterInstance]:
    """An instance of Dagster with its storage on SQLite, or in a new database of the test server."""
    tmp_path.mkdir()
    if storage == "sqlite":
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            yield instance
        return
    import psycopg
    import sqlalchemy as sa

    server = sa.make_url(request.getfixturevalue("pg_server"))
    url = server.set(drivername="postgresql").render_as_string(hide_password=False)
    name = f"dagster_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
        try:
            own = server.set(drivername="postgresql+psycopg2", database=name).render_as_string(hide_password=False)
            overrides = {"storage": {"postgres": {"postgres_url": own}}}
            with dg.DagsterInstance.local_temp(str(tmp_path), overrides=overrides) as instance:
                yield instance
        finally:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def own_definitions() -> dg.Definitions:
    """Fifty assets, and names that a project of syncs without prefixes would have, too."""

    def make(name: str) -> dg.AssetsDefinition:
        @dg.asset(name=name)
        def body() -> int:
            return 1

        return body

    @dg.op(name="contacts_op")
    def op() -> None: ...

    @dg.job(name="crm__contacts_job")
    def job() -> None:
        op()

    schedule = dg.ScheduleDefinition(name="crm__contacts_schedule", job=job, cron_schedule="0 0 * * *")
    sensor = dg.SensorDefinition(name="contacts", evaluation_fn=lambda _: dg.SkipReason("none"), job=job)
    named = [make("items"), make("api"), make("contacts")]
    return dg.Definitions(
        assets=[*named, *(make(f"own_{number}") for number in range(OWN - len(named)))],
        asset_checks=[],
        jobs=[job],
        schedules=[schedule],
        sensors=[sensor],
        resources={"io_manager": dg.mem_io_manager, "database": dg.ResourceDefinition.hardcoded_resource(1)},
        executor=dg.in_process_executor,
    )


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
@pytest.mark.parametrize("storage", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def test_a_project_of_fifty_assets_and_two_components_runs(
    storage: str,
    settings_env: dict[str, str],
    db: Database,
    api: FakeApi,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**settings_env, "NANGO_ALLOW_PRIVATE_HOSTS": "true"}.items():
        monkeypatch.setenv(name, value)
    api.route("/items", items(1, 2))
    api.route("/contacts", items(1, 2, 3))
    with create_defs_folder_sandbox() as sandbox, instance_on(storage, tmp_path / "instance", request) as instance:
        prefixed = {"key_prefix": "raw", "job_prefix": "raw_"}
        files = {"contacts": f"url: {api.url}/contacts\nintegration: crm\nunique_key: id\n"}
        scaffold(sandbox, "customers", NangoSyncsComponent, prefixed, files)
        lists = {"items": f"url: {api.url}/items\nunique_key: id\n"}
        scaffold(sandbox, "lists", LoggedSyncs, {"key_prefix": "lists", "job_prefix": "lists_"}, lists)
        with sandbox.build_all_defs() as ours:
            defs = dg.Definitions.merge(own_definitions(), ours)
            try:
                run_project(defs, db, instance)
            finally:
                (ours.resources or {})["nango"].close()


def scaffold(sandbox: Any, name: str, component: Any, attributes: dict[str, Any], files: dict[str, str]) -> None:
    typename = f"{component.__module__}.{component.__name__}"
    typename = "nango_dagster.defs.NangoSyncsComponent" if component is NangoSyncsComponent else typename
    path = sandbox.scaffold_component(
        component_cls=NangoSyncsComponent,
        defs_path=name,
        defs_yaml_contents={"type": typename, "attributes": attributes},
    )
    for file, text in files.items():
        (path / "sync_configs" / f"{file}.yaml").write_text(text)


def run_project(defs: dg.Definitions, db: Database, instance: dg.DagsterInstance) -> None:
    """Load, materialize everything, backfill two customers, and look at the checks."""
    dg.Definitions.validate_loadable(defs)
    assert spec(defs, "lists/items").group_name == "ours"
    everything = defs.resolve_implicit_global_asset_job_def()
    for name in ("ann", "bob", "cyd"):
        connections.add(db, None, connections.NewConnection("crm", name))
    assert defs.resolve_job_def("nango_dispatch").execute_in_process(instance=instance).success
    chosen = [dg.AssetKey(name) for name in ("items", "api", "contacts", "own_0")]  # a step of each of fifty is slow
    result = everything.execute_in_process(
        instance=instance, asset_selection=[*chosen, dg.AssetKey(["lists", "items"])]
    )
    assert result.success and len(result.get_asset_materialization_events()) == len(chosen) + 1
    assert len(defs.resolve_all_asset_keys()) == OWN + 4
    assert all(check.passed for check in result.get_asset_check_evaluations())
    partitions.refresh(instance, db, syncs.all(db))  # as the dispatcher's sensor does
    backfill = {"dagster/asset_partition_range_start": "ann", "dagster/asset_partition_range_end": "bob"}
    result = defs.resolve_job_def("raw_crm__contacts_job").execute_in_process(instance=instance, tags=backfill)
    assert result.success
    records = instance.fetch_materializations(dg.AssetKey(["raw", "crm", "contacts"]), limit=9).records
    assert {record.partition_key for record in records if record.run_id == result.run_id} == {"ann", "bob"}
    (check,) = result.get_asset_check_evaluations()
    assert check.passed and check.asset_key == dg.AssetKey(["raw", "crm", "contacts"])
    assert instance.get_materialized_partitions(dg.AssetKey(["raw", "crm", "contacts"])) == {"ann", "bob", "cyd"}
    rows = {row.name: row for row in syncs.all(db)}
    assert status.totals(db, rows["contacts"].id) == status.Totals(connections=3, failing=0, records=9)
    assert status.totals(db, rows["items"].id).records == 2
    assert set(EXECUTED) == {"items"}
