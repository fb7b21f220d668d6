"""A Nango project with TypeScript syncs, as a user has it, and their executions in a Node process."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

from nango_dagster.config import Configs
from nango_dagster.node.configs import read_configs
from nango_dagster.settings import Settings
from nango_dagster.store import Database, syncs
from nango_dagster.store.sync_row import SyncRow
from tests.fake_api import FakeApi
from tests.script_project import ScriptProject

ZOD = """
class Schema {
    constructor(document) { this.document = document; }
    optional() { return Object.assign(new Schema(this.document), { isOptional: true }); }
}
const of = (document) => new Schema(document);
export const z = {
    string: () => of({ type: 'string' }),
    number: () => of({ type: 'number' }),
    object: (fields) => of({
        type: 'object',
        properties: Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.document])),
        required: Object.keys(fields).filter((name) => !fields[name].isOptional),
    }),
};
export const toJSONSchema = (schema) => schema.document;
"""
"""A stand-in for zod: the interface that a project's scripts and the description of models use."""

SYNC = """
import { createSync } from 'nango';
import { z } from 'zod';

const Item = z.object({ id: z.string(), name: z.string().optional() });
export default createSync({
    description: 'The items of the CRM.', version: '1.0.0', frequency: 'every 2 hours', autoStart: true,
    models: { Item },
    exec: async (nango) => {
BODY
    },
});
"""


class NodeProject(ScriptProject):
    """TypeScript syncs of an integration `crm` whose API is a fake one."""

    def __init__(self, db: Database, settings: Settings, api: FakeApi, root: Path) -> None:
        super().__init__(db, replace(settings, scripts=root), api)
        self.root = root
        (self.folder / "integrations.yaml").write_text(f"crm:\n  base_url: {api.url}\n")
        self.file("node_modules/zod/package.json", '{"name": "zod", "version": "4.0.0", "type": "module"}')
        self.file("node_modules/zod/index.js", ZOD)
        self.file("package.json", '{"type": "module"}')

    def file(self, path: str, text: str) -> None:
        """A file of the project."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def script(self, body: str, name: str = "items") -> SyncRow:
        """The stored sync whose `exec` has these statements; it is the only one of the project."""
        self.file(f"crm/syncs/{name}.ts", SYNC.lstrip().replace("BODY", textwrap.dedent(body).strip("\n")))
        self.file("index.ts", f"import './crm/syncs/{name}.js';\n")
        return self.stored(name)

    def stored(self, name: str = "items") -> SyncRow:
        """The stored sync of this name."""
        configs = self.configs()
        assert not configs.errors, configs.errors
        return syncs.register(self.db, [sync for sync in configs.syncs if sync.name == name])[name]

    def configs(self) -> Configs:
        """The configs with the scripts as they are now."""
        return read_configs(self.settings, refresh=True)

    def outcome(self, body: str, **wishes: Any) -> Any:
        """One execution of a script for the connection acme, which is made where it is missing."""
        row = self.script(body)
        return self.execute(row, "acme", **wishes)
