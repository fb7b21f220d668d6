"""The metadata and the checkpoint of a script have the schemas that it declares."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import pytest
import typing_extensions

from nango_dagster.config import from_document, read_dir
from nango_dagster.errors import ConfigError
from nango_dagster.models import fields_of, schema_of
from nango_dagster.settings import Settings
from nango_dagster.store import Database, connections
from nango_dagster.testing import run_script
from tests.fake_api import FakeApi
from tests.node_project import NodeProject
from tests.script_project import ScriptProject

CLASSES = {
    "pydantic": "from pydantic import BaseModel\nclass {name}(BaseModel):\n    {fields}",
    "dataclass": "from dataclasses import dataclass\n@dataclass\nclass {name}:\n    {fields}",
    "msgspec": "import msgspec\nclass {name}(msgspec.Struct):\n    {fields}",
    "typed dict": "from typing import TypedDict\nclass {name}(TypedDict):\n    {fields}",
}
TYPED = """
@sync(integration="crm", base_url=API, metadata=Teams, checkpoint=Progress)
def items(nango):
    start = nango.checkpoint.get("page", 1)
    nango.get("/items")
    yield {"id": start}
    nango.save_checkpoint(page=nango.metadata["next"][0])
"""


@pytest.fixture
def project(db: Database, settings: Settings, api: FakeApi) -> ScriptProject:
    project = ScriptProject(db, settings, api)
    api.route("/items", [])
    project.connect(metadata={"next": [2]})
    return project


def typed(library: str, *, page: str = "int") -> str:
    """A script whose metadata and checkpoint are classes of a library."""
    teams = CLASSES[library].format(name="Teams", fields="next: list")
    progress = CLASSES[library].format(name="Progress", fields=f"page: {page}")
    return f"{teams}\n{progress}\n{TYPED}"


def set_metadata(project: ScriptProject, **metadata: Any) -> None:
    connections.set_metadata(project.db, "crm", "acme", metadata)


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
@pytest.mark.parametrize("library", [*CLASSES])
def test_metadata_that_does_not_fit_fails_before_the_first_request(project: ScriptProject, library: str) -> None:
    """The sentence names the connection, the field, and what is found and wanted."""
    set_metadata(project, next="2")
    outcome = project.run(typed(library), "acme")
    assert outcome.status == "failed" and outcome.error is not None
    assert outcome.error.startswith(
        "items: the metadata of the connection acme does not fit metadata_model: next is a string; wanted array. Change"
    )
    assert project.api.requests == []
    set_metadata(project)
    assert "does not fit metadata_model: next is missing" in str(project.run(None, "acme").error)
    set_metadata(project, next=[2], more="fields are accepted")
    assert project.run(None, "acme").status == "succeeded"


def test_a_checkpoint_that_does_not_fit_is_an_error_with_the_line(project: ScriptProject) -> None:
    """The records and the checkpoint that were saved before are kept."""
    assert project.run(typed("dataclass"), "acme").status == "succeeded"
    set_metadata(project, next=["three"])
    outcome = project.run(None, "acme")
    line = len(typed("dataclass").strip().splitlines()) + 2
    assert outcome.error == (
        f"items: the checkpoint does not fit checkpoint_model: page is a string; wanted integer (items.py, line {line})"
    )
    assert (project.ids(), json.loads(project.checkpoint() or "")) == (["1", "2"], {"page": 2})


@pytest.mark.parametrize("module", [typing, typing_extensions])
def test_a_typed_dict_of_either_module_is_a_model(module: Any) -> None:
    schema = schema_of(module.TypedDict("Teams", {"next": int}))
    assert {field.name: field.kind for field in fields_of(schema)} == {"next": "number"}


def test_a_stored_checkpoint_that_does_not_fit_any_more_is_left_out_with_a_warning(project: ScriptProject) -> None:
    """The script starts over, also with deletions: the whole list is read again."""
    assert project.run(typed("pydantic"), "acme").checkpoint is not None
    set_metadata(project, next=["a"])
    outcome = project.run(typed("pydantic", page="str"), "acme")
    assert (outcome.status, project.ids()) == ("succeeded", ["1"])
    assert outcome.warnings[0] == (
        "the stored checkpoint does not fit checkpoint_model: page is a number; wanted string; the execution starts "
        "over without it."
    )
    assert json.loads(project.checkpoint() or "") == {"page": "a"}
    assert not any("checkpoint" in warning for warning in project.run(None, "acme").warnings)


def test_a_script_saves_objects_of_its_own_class_and_valid_metadata(project: ScriptProject) -> None:
    body = typed("msgspec").replace("save_checkpoint(page=", "save_checkpoint(Progress(page=").replace("[0])", "[0]))")
    project.run(f"{body.rstrip()}\n    nango.update_metadata(next=[7])", "acme")
    assert (json.loads(project.checkpoint() or ""), project.run(None, "acme").status) == ({"page": 2}, "succeeded")
    assert json.loads(project.checkpoint() or "") == {"page": 7}
    outcome = project.run(f"{typed('msgspec').rstrip()}\n    nango.set_metadata({{'next': None}})", "acme")
    assert "does not fit metadata_model: next is null; wanted array" in str(outcome.error)


def test_a_file_names_the_classes_of_metadata_and_checkpoint(project: ScriptProject) -> None:
    project.write("class Progress:\n    page: int\nfrom dataclasses import dataclass\nProgress = dataclass(Progress)")
    schema = '{"type": "object", "properties": {"team": {"type": "string"}}}'
    project.write("def read(nango): ...", "lists.py", head="")
    text = (
        f"url: null\nscript: lists:read\nintegration: crm\nmetadata_model: {schema}\ncheckpoint_model: items:Progress\n"
    )
    file = project.folder / "lists.yaml"
    file.write_text(text.removeprefix("url: null\n"))
    (sync,) = read_dir(project.folder).syncs
    assert sync.metadata_model == json.loads(schema)
    assert sync.checkpoint_model is not None and sync.checkpoint_model["required"] == ["page"]
    assert from_document(sync.document()).document() == sync.document()
    file.write_text(file.read_text().replace("items:Progress", "items:Nothing"))
    (error,) = read_dir(project.folder).errors
    assert 'lists.yaml:4:1: checkpoint_model is "items:Nothing"; it cannot be loaded' in str(error)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"url": "https://a.example", "checkpoint_model": {"properties": {"a": {}}}}, "_model goes with script"),
        ({"script": "a:b", "metadata_model": {"properties": {"a": {}}}}, "add integration or leave it out"),
        ({"script": "a:b", "checkpoint_model": {"type": "object"}}, "checkpoint_model .*the model has no fields"),
    ],
)  # fmt: skip
def test_a_schema_that_cannot_be_used_is_a_problem_of_the_config(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        from_document(fields)


def test_a_function_in_a_test_has_the_same_schemas() -> None:
    from nango_dagster import sync

    @sync(integration="crm", metadata={"properties": {"page": {"type": "integer"}}, "required": ["page"]})
    def pages(nango: Any) -> Any:
        yield {"id": nango.metadata["page"]}

    assert run_script(pages, metadata={"page": 3}).saved == {"Pages": [{"id": 3}]}
    with pytest.raises(ConfigError, match="the connection test does not fit metadata_model: page is missing"):
        run_script(pages)

    @sync(integration="crm", metadata={"source": "crm"})
    def columns(nango: Any) -> Any:
        yield {"id": 1}

    assert run_script(columns).saved == {"Columns": [{"id": 1}]}


TYPESCRIPT = """
import { createSync } from 'nango';
import { z } from 'zod';

export default createSync({
    description: 'Items.', version: '1.0.0', frequency: 'every hour', autoStart: true, endpoints: [],
    models: { Item: z.object({ id: z.string() }) },
    metadata: z.object({ next: z.number() }),
    checkpoint: z.object({ page: z.number() }),
    exec: async (nango) => {
        const { next } = await nango.getMetadata();
        await nango.batchSave([{ id: String((await nango.getCheckpoint())?.page ?? 1) }], 'Item');
        await nango.saveCheckpoint({ page: next > 2 ? 'three' : next });
    },
});
"""


@pytest.mark.parametrize("settings_env", ["sqlite"], indirect=True)
def test_a_typescript_script_has_the_schemas_of_its_config(
    db: Database, settings: Settings, api: FakeApi, tmp_path: Path
) -> None:
    """Metadata is compared only where the script reads it."""
    project = NodeProject(db, settings, api, tmp_path / "nango-integrations")
    project.connect(metadata={"next": "2"})
    project.file("index.ts", "import './crm/syncs/items.js';\n")
    project.file("crm/syncs/items.ts", TYPESCRIPT)
    outcome = project.execute(project.stored(), "acme")
    assert "acme does not fit metadata_model: next is a string; wanted number" in str(outcome.error)
    set_metadata(project, next=2)
    assert project.execute(project.stored(), "acme").error is None
    set_metadata(project, next=3)
    outcome = project.execute(project.stored(), "acme")
    assert "the checkpoint does not fit checkpoint_model: page is a string; wanted number" in str(outcome.error)
    assert "crm/syncs/items.ts:13" in str(outcome.error)
    assert (project.ids(), json.loads(project.checkpoint() or "")) == (["1", "2"], {"page": 2})
    project.file("crm/syncs/items.ts", TYPESCRIPT.replace("await nango.getMetadata()", "{ next: 2 }"))
    set_metadata(project)
    assert project.execute(project.stored(), "acme").error is None
