"""Sync scripts in Dagster: their assets, their versions, and files that cannot be loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import dagster as dg
import pytest

from nango_dagster.config import read_dir
from nango_dagster.defs import build_definitions, shared
from nango_dagster.settings import Settings
from nango_dagster.store import Database
from tests.commands import Cli
from tests.fake_api import FakeApi
from tests.materializing import MakeProject, making_projects, sentence
from tests.script_project import ScriptProject

pytestmark = pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
PEOPLE = """
OBJECT = {"type": "object", "properties": {"id": {"type": "integer"}, "name": {"type": "string"}}}

@sync(models={"Contact": OBJECT, "Company": OBJECT}INTEGRATION, tags={"team": "sales"})
def people(nango):
    '''Contacts and companies.'''
    yield [{"id": 1, "name": "Ada"}]
    yield "Company", [{"id": 7}, {"id": 8}]
"""


@pytest.fixture
def scripts(db: Database, settings: Settings, api: FakeApi) -> ScriptProject:
    return ScriptProject(db, settings, api)


@pytest.fixture
def make(settings: Settings) -> Iterator[MakeProject]:
    with making_projects(settings) as make:
        yield make


def test_each_model_of_a_script_is_an_asset(scripts: ScriptProject, make: MakeProject) -> None:
    scripts.write(PEOPLE.replace("INTEGRATION", ""))
    project = make(*read_dir(scripts.folder).syncs)
    result = project.sync()
    assert result.success
    assert project.defs.resolve_asset_graph().get(dg.AssetKey("people")).kinds == {"nango", "python", "sqlite"}
    assert project.metadata("people")["dagster/row_count"] == 1
    company = project.metadata("people/Company")
    assert (company["added"], company["dagster/row_count"]) == (2, 2)
    assert [column.name for column in company["dagster/column_schema"].columns][:1] == ["id"]
    result = project.materialize("people/Company")
    assert "its models are read together; select people." in sentence(result)


def test_each_model_of_a_connection_is_materialized(scripts: ScriptProject, make: MakeProject) -> None:
    scripts.write(PEOPLE.replace("INTEGRATION", ', integration="crm"'))
    scripts.connect("acme")
    (sync,) = read_dir(scripts.folder).syncs
    with_key = make(sync)
    scripts.rows()
    assert with_key.scheduled(sync).success
    for key in ("crm/people", "crm/people/Company"):
        assert with_key.materialization(key).partition == "acme"


def test_an_asset_of_a_script_has_the_version_of_its_file(scripts: ScriptProject) -> None:
    """And its docstring as the description, and its place in the file."""

    def spec() -> dg.AssetSpec:
        shared.forget()
        assets = build_definitions(scripts.folder, replace(scripts.settings, configs=scripts.folder))
        return next(spec for spec in assets.resolve_all_asset_specs() if spec.key == dg.AssetKey("items"))

    scripts.write("@sync\ndef items(nango):\n    '''The items.'''\n    yield {'id': 1}")
    first = spec()
    scripts.write("@sync\ndef items(nango):\n    '''The items.'''\n    yield {'id': 2}")
    assert first.description == "The items."
    assert first.code_version != spec().code_version


BROKEN = {
    "raises.py": ("import json\njson.loads('')\n@sync\ndef a(nango): ...", ":4: the file cannot be imported: JSON"),
    "syntax.py": ("@sync\ndef b(nango:\n    pass", "the file cannot be imported: SyntaxError"),
    "missing.py": ("import no_such_module", ":3: the file cannot be imported: ModuleNotFoundError: No module named"),
    "exits.py": ("raise SystemExit(3)", "the file cannot be imported: SystemExit: 3."),
    "field.py": ("@sync(frequenzy='every day')\ndef c(nango): ...", 'did you mean frequency'),
    "url.py": ("@sync(url='https://a.example/items')\ndef d(nango): ...", "base_url is the URL that its endpoints"),
    "deletes.py": ("@sync(sync_type='incremental', track_deletes=True)\ndef f(nango): ...", "the rest deleted; leave"),
    "paging.py": ("@sync(incremental={'field': 'x'})\ndef e(nango): ...", "leave incremental out."),
}  # fmt: skip


def test_a_broken_file_hides_no_other_one(scripts: ScriptProject) -> None:
    """Each error names its file, and is shown as an asset of the group not_loaded."""
    for file, (text, _) in BROKEN.items():
        scripts.write(text, file)
    scripts.write("@sync\ndef good(nango):\n    yield {'id': 1}", "good.py")
    scripts.write("print('a helper is not loaded')", "helper.py", head="")
    configs = read_dir(scripts.folder)
    assert [sync.name for sync in configs.syncs] == ["good"]
    said = [str(error) for error in configs.errors]
    for file, (_, wanted) in BROKEN.items():
        assert any(f"sync_configs/{file}" in sentence and wanted in sentence for sentence in said), (file, said)
    shared.forget()
    specs = list(build_definitions(scripts.folder, scripts.settings).resolve_all_asset_specs())
    assert sum(spec.group_name == "not_loaded" for spec in specs) == len(BROKEN)


def test_a_yaml_file_may_name_a_script(scripts: ScriptProject) -> None:
    """The module is a file of the folder; the integration gives base URL and headers."""
    scripts.api.route("/v1/items", [{"id": 1}])
    (scripts.folder / "integrations.yaml").write_text(
        f"crm:\n  base_url: {scripts.api.url}/v1\n  headers: {{X-Team: sales}}\n"
    )
    (scripts.folder / "contacts.yaml").write_text("script: lib.reading:read\nintegration: crm\nfrequency: every day\n")
    scripts.write("def read(nango):\n    yield nango.get('/items').data", "lib/reading.py", head="")
    scripts.connect()
    outcome = scripts.run(connection_id="acme")
    assert (outcome.status, scripts.ids()) == ("succeeded", ["1"]), outcome.error
    assert scripts.api.requests[0].headers["X-Team"] == "sales"
    (scripts.folder / "contacts.yaml").write_text("script: lib.reading:reed\nintegration: crm\n")
    said = Cli({})("validate", "--configs", str(scripts.folder))
    assert (said.status, "contacts: script: lib.reading has no function reed." in said.stdout) == (1, True), said
    outcome = scripts.run(connection_id="acme")
    assert "script: lib.reading has no function reed." in (outcome.error or "")
